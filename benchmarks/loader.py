"""Images per second from each source: ganfleet's threads against mindspore.dataset reading the same source.

``python benchmarks/loader.py`` needs no data: it generates 64x64 PNGs, half of them with transparency. The ways are
interleaved and the best of three rounds counts.
"""

import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from mindspore import dataset
from PIL import Image

from ganfleet.data import Loader, Source, open_source
from ganfleet.data.loader import to_network
from ganfleet.data.order import index_at

IMAGES, BATCH, BATCHES, ROUNDS = 1000, 32, 60, 3


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        sources = {
            "embedded, 32x32 grey": open_source("embedded", resolution=32),
            "embedded, at 8x8": open_source("embedded", resolution=32).at(8),
            "folder of 64x64 PNG": open_source("folder", path=generate_pngs(Path(folder, "png")), resolution=64),
            "the same, to 32x32": open_source("folder", path=Path(folder, "png"), resolution=32),
            "ZIP of the same": open_source("zip", path=pack(Path(folder, "png")), resolution=64),
        }
        ways = {
            "1 thread": lambda source: run_loader(source, workers=1),
            "2 threads": lambda source: run_loader(source, workers=2),
            "ms.dataset, 2 threads": lambda source: run_mindspore(source, processes=False),
            "ms.dataset, 2 processes": lambda source: run_mindspore(source, processes=True),
        }
        print("images/s".ljust(24) + "".join(way.rjust(25) for way in ways))
        for name, source in sources.items():
            usable = list(ways.values())[: 3 if "ZIP" in name else 4]  # forked processes share a ZIP's file position
            print(name.ljust(24) + "".join(f"{rate:25,.0f}" for rate in best_rates(source, usable)), flush=True)


def generate_pngs(folder: Path, side: int = 64) -> Path:
    """Soft blobs of colour, ``side`` pixels wide and high: they compress like drawings, not like noise."""
    folder.mkdir()
    rng = np.random.Generator(np.random.Philox(0))
    for i in range(IMAGES):
        blobs = Image.fromarray(rng.integers(0, 256, (6, 6, 3 + i % 2), dtype=np.uint8))
        blobs.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{i:04d}.png")
    return folder


def pack(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    return path


def best_rates(source: Source, ways: list[Callable]) -> list[float]:
    rounds = [[rate(way, source) for way in ways] for _ in range(ROUNDS)]
    return np.max(rounds, axis=0).tolist()


def rate(way: Callable, source: Source) -> float:
    """Images per second once the first batch is there: starting up is not counted."""
    batches = way(source)
    next(batches)
    start = time.perf_counter()
    count = sum(1 for _ in batches)
    return count * BATCH / (time.perf_counter() - start)


def run_loader(source: Source, workers: int):
    with Loader(source, batch_size=BATCH, lanes=4, owned=range(4), seed=0, workers=workers) as loader:
        for _ in range(BATCHES):
            yield loader.next()


def run_mindspore(source: Source, processes: bool):
    pipeline = dataset.GeneratorDataset(
        InOrder(source), ["image"], shuffle=False, num_parallel_workers=2, python_multiprocessing=processes
    )
    for batch in pipeline.batch(BATCH).create_tuple_iterator(num_epochs=1, output_numpy=True):
        yield to_network(batch[0])


class InOrder:
    """The stream of one run as mindspore.dataset wants it: of known length, arrays instead of dicts."""

    def __init__(self, source: Source):
        self.source = source

    def __len__(self) -> int:
        return BATCH * BATCHES

    def __getitem__(self, position: int) -> np.ndarray:
        return self.source[index_at(position, len(self.source), seed=0)]["image"]


if __name__ == "__main__":
    main()
