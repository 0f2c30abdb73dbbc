"""What docs/arcanegan.md shows of a chain that was run: two pictures, and how far Fluent 3D is from Twemoji.

    python benchmarks/arcanegan.py runs data/emoji/pairs docs/img

runs holds arcane-base3, arcane-tuned, arcane-blended, arcane-student and arcane-bound, as the page calls them. Prints
L1 and KID as `ganfleet evaluate` does, of images that nobody translated.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import ganfleet
from ganfleet.data import open_source
from ganfleet.data.loader import to_network
from ganfleet.fleet import cpu
from ganfleet.observe.grid import save_png

SHOWN = 16
PSI = 0.7
MODELS = {"base": "arcane-base3", "tuned": "arcane-tuned", "blended": "arcane-blended"}
TRANSLATORS = {"student": "arcane-student", "true pairs": "arcane-bound"}


def main(runs: Path, pairs: Path, pictures: Path) -> None:
    cpu.pin(1)
    with ganfleet.load(runs / "arcane-student") as student:
        side = student.config.strategy.resolution
        inputs, true = (images(pairs / folder, side) for folder in ("testB", "testA"))
        l1, kid = distances(inputs, true)
        print(f"{len(inputs)} inputs of {side}x{side}: l1 {l1:.4f}, kid {kid[0]:.4f} ± {kid[1]:.4f}")

        rows = {}
        for name, run in MODELS.items():
            with ganfleet.load(runs / run) as loaded:
                rows[name] = loaded.sample(range(SHOWN), truncation=PSI)
        rows["student"] = np.stack([student.translate(image, "A2B") for image in rows["base"]])
    draw(pictures / "arcanegan_latents.png", rows)

    chosen = np.linspace(0, len(inputs) - 1, SHOWN).astype(int)
    rows = {"Fluent 3D": to_network(inputs[chosen])}
    for name, run in TRANSLATORS.items():
        with ganfleet.load(runs / run) as loaded:
            rows[name] = np.stack([loaded.translate(image, "A2B") for image in rows["Fluent 3D"]])
    draw(pictures / "arcanegan_held_out.png", rows | {"Twemoji": to_network(true[chosen])})


def images(folder: Path, side: int) -> np.ndarray:
    """uint8 (n, 3, side, side), by name: as `ganfleet evaluate` reads them."""
    source = open_source("folder", resolution=side, path=folder, channels=3, cache="none", classes="none")
    return np.stack([source[i]["image"] for i in range(len(source))])


def distances(some: np.ndarray, others: np.ndarray) -> tuple[float, tuple[float, float]]:
    """L1 in a range of 1, and KID with its standard error."""
    from ganfleet.engine.evaluation import Extractor, one_thread
    from ganfleet.metrics.distances import kid
    from ganfleet.metrics.networks import feature_network

    extractor = Extractor(feature_network(None))
    with one_thread():
        features = [Features(extractor.features(each)) for each in (others, some)]
        return np.abs(some.astype(np.float64) - others).mean() / 255, kid(*features, seed=0)


class Features:
    """Rows in memory, with the methods of those that an evaluation keeps in files."""

    def __init__(self, rows: np.ndarray):
        self._rows = rows

    def __len__(self):
        return len(self._rows)

    def chunks(self, size: int) -> Iterator[np.ndarray]:
        for start in range(0, len(self), size):
            yield self._rows[start : start + size].astype(np.float64)

    def take(self, indices: np.ndarray) -> np.ndarray:
        return self._rows[indices].astype(np.float64)


def draw(png: Path, rows: dict[str, np.ndarray]) -> None:
    save_png(png, np.concatenate(list(rows.values())), columns=SHOWN, row_labels=list(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("runs", "pairs", "pictures"):
        parser.add_argument(name, type=Path)
    main(**vars(parser.parse_args()))
