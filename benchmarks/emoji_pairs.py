"""How near CycleGAN's Fluent 3D emoji are to the true ones, on the held-out pairs of `ganfleet data emoji-pair`.

    ganfleet translate --checkpoint RUN --direction A2B --panel --input data/emoji/pair/testA --output OUT
    python benchmarks/emoji_pairs.py OUT [--pairs data/emoji/pair] [--panel PNG]

Prints the mean L1 distance per pixel and colour, in grey levels of 255, from the true image of B to the input from A
and to its translation. With --panel, draws 16 of the pairs.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from ganfleet.observe.grid import save_png

SHOWN = 16
ROWS = ("A: Twemoji", "B(A)", "A(B(A))", "true B: Fluent 3D")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("translated", type=Path)
    parser.add_argument("--pairs", type=Path, default=Path("data/emoji/pair"))
    parser.add_argument("--panel", type=Path)
    options = parser.parse_args()

    names = sorted(path.name for path in (options.pairs / "testA").iterdir())
    a, b = ([pixels(options.pairs / test / name) for name in names] for test in ("testA", "testB"))
    fake = [pixels(options.translated / name) for name in names]
    before, after = distances(a, b), distances(fake, b)
    print(f"{len(names)} pairs: input to true image {before.mean():.1f}, translation to true image {after.mean():.1f}")
    print(f"the translation is the nearer of the two for {np.mean(after < before):.1%}")
    if options.panel:
        chosen = np.linspace(0, len(names) - 1, SHOWN).astype(int)
        back = [pixels(options.translated / "panels" / names[i])[:, -a[i].shape[1] :] for i in chosen]
        rows = [*(a[i] for i in chosen), *(fake[i] for i in chosen), *back, *(b[i] for i in chosen)]
        save_png(options.panel, np.stack(rows).transpose(0, 3, 1, 2) / 127.5 - 1, columns=SHOWN, row_labels=ROWS)


def pixels(path: Path) -> np.ndarray:
    """(h, w, 3), from 0 to 255."""
    return np.asarray(Image.open(path).convert("RGB"), np.float64)


def distances(images: list[np.ndarray], true: list[np.ndarray]) -> np.ndarray:
    """The mean L1 distance of each pair."""
    return np.array([np.abs(image - other).mean() for image, other in zip(images, true, strict=True)])


if __name__ == "__main__":
    main()
