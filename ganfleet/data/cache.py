"""Images reduced to every lower resolution, kept on disk, so that early stages of growth need not decode large files.

Made once, in one pass over the images, by whichever process of a machine comes first. Nothing depends on it but time:
an image that the cache does not have, or has damaged, is decoded as if there were none.
"""

import fcntl
import hashlib
import json
import math
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import __version__ as pillow

from ganfleet.data.images import halvings
from ganfleet.data.threads import leave_pinned_core
from ganfleet.document import is_homeless, user_cache
from ganfleet.errors import ConfigError, GanfleetError, StorageError
from ganfleet.fleet import heartbeat
from ganfleet.size import Size, halves
from ganfleet.store import publish

FORMAT = 1
CHUNK = 64  # images that a thread decodes before it takes the next lot
ABSENT = -1  # no CRC-32
Shape = tuple[int, int, int | Size]
"""The number of images, their channels and their full resolution."""


@dataclass(frozen=True)
class Level:
    """All images at one resolution: ``pixels`` uint8 (n, channels, h, w), ``checksums`` int64 (n,)."""

    pixels: np.ndarray
    checksums: np.ndarray

    def get(self, index: int) -> np.ndarray | None:
        """Pixels uint8 (channels, h, w); None where they are damaged or never were."""
        image = np.array(self.pixels[index])
        return image if zlib.crc32(image) == self.checksums[index] else None


def place(option: str) -> Path | None:
    """The folder that ``data.cache`` means. For a user without a home it keeps its ``~``, which ``levels`` refuses."""
    if option == "none":
        return None
    return user_cache() if option == "auto" else Path(os.path.expanduser(option))


def key(*facts: object) -> str:
    """A name for what ``facts`` (made of lists, strings and numbers) determine, decoded by this Pillow."""
    return hashlib.sha256(json.dumps([FORMAT, pillow, facts]).encode()).hexdigest()[:32]


def levels(root: Path, name: str, read: Callable[[int], np.ndarray], shape: Shape) -> dict[int | Size, Level]:
    """The reductions of the images that ``read(index)`` gives, by resolution: its halves.

    They are in ``root/name`` or put there first; then other processes that want them wait.

    Args:
        read: pixels uint8 (channels, height, width) at the full resolution, from any thread. An image for which it
            raises a GanfleetError is left out.
        shape: (number of images, channels, full resolution).

    Raises:
        ConfigError: ``root`` is in the user's home, and there is none.
        StorageError: they cannot be stored.
    """
    if is_homeless(root):
        raise ConfigError(
            f"data.cache: reduced images would go to {root}, but this user has no home: set data.cache to a folder, or "
            "to none to decode the images in full each time"
        )
    folder = root / name
    with storing(root):
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / f"{name}.lock"):
            found = load(folder, shape)
            if found is None:
                build(folder, read, shape)
                found = load(folder, shape)
    return found


@contextmanager
def storing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot store reduced images in {root}: {error.strerror or error}. Free or unlock this place, set "
            "data.cache to another folder, or to none to decode the images in full each time."
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time. The lock goes with the process, however that ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def load(folder: Path, shape: Shape) -> dict[int | Size, Level] | None:
    """What is in ``folder``; None unless it is whole."""
    count, channels, full = shape
    try:
        checksums = np.load(folder / "checksums.npy")
        pixels = {
            r: np.memmap(file_of(folder, r), np.uint8, "r", shape=(count, channels, *Size.of(r))) for r in halves(full)
        }
    except (OSError, ValueError, EOFError):  # not there, or too short
        return None
    if checksums.shape != (len(pixels), count):
        return None
    return {r: Level(pixels[r], row) for r, row in zip(pixels, checksums, strict=True)}


def file_of(folder: Path, resolution: int | Size) -> Path:
    return folder / f"{resolution}.u8"


def build(folder: Path, read: Callable[[int], np.ndarray], shape: Shape) -> None:
    """Make ``folder``, which is there when it is whole."""
    count, _, full = shape
    wanted = halves(full)
    shutil.rmtree(folder, ignore_errors=True)  # it is damaged
    refuse_if_full(folder.parent, needed(shape))
    sizes = ", ".join(map(str, wanted[::-1]))
    print(f"ganfleet: decoding {count:,} images once, for resolutions {sizes}, into {folder}", file=sys.stderr)
    # Not durable: what a power failure spoils, the checksums tell.
    with publish.directory(folder, durable=False) as made:
        np.save(made / "checksums.npy", reduce(made, read, shape))


def needed(shape: Shape) -> int:
    """Bytes that a cache of (number of images, channels, full resolution) takes."""
    count, channels, full = shape
    return count * channels * sum(math.prod(Size.of(r)) for r in halves(full))


def refuse_if_full(root: Path, needed: int) -> None:
    """Before an hour's work, not after it."""
    free = shutil.disk_usage(root).free
    if free < needed:
        raise OSError(f"{needed / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free")


def reduce(folder: Path, read: Callable[[int], np.ndarray], shape: Shape) -> np.ndarray:
    """Write one file per resolution into ``folder``; the checksums, int64 (resolutions, images)."""
    count, channels, full = shape
    wanted = halves(full)
    checksums = np.full((len(wanted), count), ABSENT, np.int64)
    with ExitStack() as opened:
        files = [opened.enter_context(file_of(folder, r).open("wb")).fileno() for r in wanted]
        for file, r in zip(files, wanted, strict=True):
            os.truncate(file, count * channels * math.prod(Size.of(r)))

        def store(start: int) -> None:
            for index in range(start, min(start + CHUNK, count)):
                try:
                    pixels = read(index)
                except GanfleetError:  # whoever reads it from its file gets this error again
                    continue
                for level, image in enumerate(halvings(pixels, len(wanted))):
                    data = image.tobytes()
                    write_at(files[level], data, index * len(data))
                    checksums[level, index] = zlib.crc32(data)

        pool = ThreadPoolExecutor(os.cpu_count(), "cache", leave_pinned_core)
        opened.callback(pool.shutdown, cancel_futures=True)
        for stored in [pool.submit(store, start) for start in range(0, count, CHUNK)]:
            stored.result()
            heartbeat.beat()
    return checksums


def write_at(file: int, data: bytes, offset: int) -> None:
    """All of ``data``; a disk that fills up takes a part before it refuses."""
    while data:
        written = os.pwrite(file, data, offset)
        data, offset = data[written:], offset + written
