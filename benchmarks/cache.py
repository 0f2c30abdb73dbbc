"""What the cache of reduced images gains: reading at 8x8 with it against decoding in full, and what making it costs.

``python benchmarks/cache.py`` needs no data: it generates PNGs. The two ways take turns and the best of five rounds
counts.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from loader import generate_pngs

from ganfleet.data import Loader, Source, open_source

RESOLUTION, BATCH, BATCHES, ROUNDS = 8, 32, 20, 5


def main() -> None:
    for side in (64, 256):
        with tempfile.TemporaryDirectory() as folder:
            pngs = generate_pngs(Path(folder, "png"), side)
            plain = open_source("folder", path=pngs, resolution=side, cache="none")
            start = time.perf_counter()
            reduced = open_source("folder", path=pngs, resolution=side, cache=f"{folder}/kept").at(RESOLUTION)
            made = time.perf_counter() - start
            rounds = [[rate(plain.at(RESOLUTION)), rate(reduced)] for _ in range(ROUNDS)]
            decoding, cached = np.max(rounds, axis=0)
            print(
                f"{side}x{side} PNG at {RESOLUTION}x{RESOLUTION}: decoding {decoding:,.0f} images/s, "
                f"cached {cached:,.0f}, ratio {cached / decoding:.1f}; making the cache takes as long as decoding "
                f"{made * decoding / len(plain):.2f} epochs"
            )


def rate(source: Source) -> float:
    """Images per second by the loader with two threads."""
    with Loader(source, batch_size=BATCH, lanes=4, owned=range(4), seed=0, workers=2) as loader:
        loader.next()
        start = time.perf_counter()
        for _ in range(BATCHES):
            loader.next()
        return BATCH * BATCHES / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
