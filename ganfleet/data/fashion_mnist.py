"""The whole of Fashion-MNIST, 70,000 images, as idx files: from Debian's package of it or from a folder.

The embedded set is a part of it that needs no fetching.
"""

import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np

from ganfleet.data.idx import read_idx
from ganfleet.errors import ConfigError, DataError

PACKAGE = "dataset-fashion-mnist"
SPLITS = {"train": 60_000, "t10k": 10_000}
CLASSES = 10


def fetch(folder: Path) -> Path:
    """Download Debian's package into ``folder``; its file. apt verifies it. Needs no root.

    Raises:
        ConfigError: there is no apt-get.
        DataError: apt-get cannot fetch it.
    """
    run(["apt-get", "download", PACKAGE], folder, f"fetch {PACKAGE}", "Run `apt-get update` first")
    return next(folder.glob("*.deb"))


def unpack(deb: Path, folder: Path) -> Path:
    """Unpack Debian's package into ``folder``; the folder of its idx files.

    Raises:
        ConfigError: there is no dpkg-deb.
        DataError: the package is damaged or another one.
    """
    run(["dpkg-deb", "-x", str(deb.absolute()), str(folder)], folder, f"unpack {deb}", "Fetch it again")
    return folder / "usr/share/datasets/fashion-mnist"


def run(command: list[str], folder: Path, task: str, remedy: str) -> None:
    """Run ``command`` in ``folder``; ``task`` says what for, and ``remedy`` what to do where it fails."""
    by_hand = "or give a folder with the four idx files, or the .deb, with --from"
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise ConfigError(f"cannot {task}: there is no {command[0]}. Use a Debian system, {by_hand}.") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise DataError(f"cannot {task}: {command[0]} says {said!r}. {remedy}, {by_hand}")


def write(source: Path, out: Path) -> None:
    """Copy the four idx files in ``source`` to ``out``, verified, with their licence.

    Raises:
        DataError: one is missing or damaged, or is not Fashion-MNIST's.
    """
    for split, count in SPLITS.items():
        images, labels = find(source, f"{split}-images-idx3-ubyte"), find(source, f"{split}-labels-idx1-ubyte")
        expect(images, read_idx(images, ndim=3).shape, (count, 28, 28))
        expect(labels, tuple(np.bincount(read_idx(labels, ndim=1))), (count // CLASSES,) * CLASSES)
        shutil.copy(images, out)
        shutil.copy(labels, out)
    licence = files("ganfleet.data.embedded").joinpath("LICENSE").read_text("utf-8")
    (out / "LICENSE").write_text(licence, "utf-8")


def find(source: Path, name: str) -> Path:
    found = next((path for path in (source / f"{name}.gz", source / name) if path.is_file()), None)
    if found is None:
        raise DataError(f"there is no {name}.gz in {source}: give the folder of Fashion-MNIST's four idx files.")
    return found


def expect(path: Path, found: tuple, wanted: tuple) -> None:
    if found != wanted:
        raise DataError(
            f"{path} is not Fashion-MNIST's: it has {list(map(int, found))} where {list(wanted)} are due: fetch it anew"
        )
