"""What is in a folder or ZIP file of images, and what training could not use: every image is read."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ganfleet.data import cache
from ganfleet.data.images import convert, open_image, upright
from ganfleet.data.labels import Labels, from_subfolders, labels_of
from ganfleet.data.places import Files, files_at, kinds
from ganfleet.document import expanded
from ganfleet.errors import ConfigError, DataError, printable
from ganfleet.size import Size, plain

CHUNK = 16  # images that a thread reads before it takes the next lot
SIZES = tuple(2**i for i in range(3, 11))  # resolutions that are reported on where none is asked for
RGB = 3


@dataclass(frozen=True)
class Image:
    """What reading one image has shown: ``problem``, or the rest.

    Attributes:
        content: a SHA-256 of the file.
        size: width and height in pixels, once it is upright.
        frames: whether it has several, of which training sees the first.
    """

    name: str
    problem: str | None = None
    content: str = ""
    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    frames: bool = False


@dataclass(frozen=True)
class Report:
    """What is at ``path``: the files, and each image in their order.

    Attributes:
        labels: the classes as training would number them, by ``dataset.json`` or else by subfolders; None without.
        labels_problem: why the labels that are there cannot be used.
        resolutions: those that are reported on.
        chosen: whether a user has asked for them; then images that are too small cannot be used.
    """

    path: Path
    files: Files
    images: list[Image]
    labels: Labels | None
    labels_problem: str | None
    resolutions: tuple[int | Size, ...]
    chosen: bool

    @property
    def sound(self) -> list[Image]:
        return [image for image in self.images if image.problem is None]

    @property
    def damaged(self) -> list[Image]:
        return [image for image in self.images if image.problem is not None]

    @property
    def duplicates(self) -> list[list[str]]:
        """Names of files that have the same bytes, group by group."""
        groups = defaultdict(list)
        for image in self.sound:
            groups[image.content].append(image.name)
        return [names for names in groups.values() if len(names) > 1]

    def too_small(self, resolution: int | Size) -> list[Image]:
        height, width = Size.of(resolution)
        return [image for image in self.sound if image.size[0] < width or image.size[1] < height]

    def problems(self) -> list[str]:
        """What training could not use, in a few words each."""
        found = [f"{len(self.damaged):,} damaged"] if self.damaged else []
        for resolution in self.resolutions if self.chosen else ():
            if small := self.too_small(resolution):
                found.append(f"{len(small):,} too small for {Size.of(resolution)}")
        return found + ([self.labels_problem] if self.labels_problem else [])

    def notes(self) -> list[str]:
        """What is left out, and why."""
        return self.files.notes(self._used())

    def classes(self) -> list[dict[str, Any]]:
        """Number, name and images of each class that has any."""
        if self.labels is None:
            return []
        names = dict(enumerate(self.labels.names))
        counts = np.bincount(self.labels.numbers)
        return [
            {"number": number, "name": names.get(number), "images": int(count)}
            for number, count in enumerate(counts)
            if count
        ]

    def facts(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "path": printable(str(self.path)),
            "images": len(self.images),
            "usable": len(self.sound),
            "formats": counted(image.format for image in self.sound),
            "modes": counted(image.mode for image in self.sound),
            "sizes": counted(size_of(image) for image in self.sound),
            "several_frames": sum(image.frames for image in self.sound),
            "classes_from": self.labels and (self.labels.file or "subfolders"),
            "classes": self.classes(),
            "classes_problem": self.labels_problem,
            "damaged": [{"name": printable(image.name), "reason": image.problem} for image in self.damaged],
            "duplicates": [list(map(printable, names)) for names in self.duplicates],
            "resolutions": [
                {
                    "resolution": plain(resolution),
                    "too_small": len(self.too_small(resolution)),
                    "cache_bytes": self.cache_bytes(resolution),
                }
                for resolution in self.resolutions
            ],
            "other_files": kinds(self._others()),
            "left_out": dict(self.files.left_out),
        }

    def cache_bytes(self, resolution: int | Size) -> int:
        """Of these images in RGB, where training reaches ``resolution`` from lower ones."""
        return cache.needed((len(self.images), RGB, resolution))

    def _used(self) -> list[str]:
        return [self.labels.file] if self.labels and self.labels.file else []

    def _others(self) -> list[str]:
        return [name for name in self.files.others if name not in self._used()]


def check(path: Path, resolution: int | Size | None, track: Callable[[Iterable, int], Iterable]) -> Report:
    """Read every image at ``path``, with all cores.

    Args:
        resolution: what training is to reach; None reports on powers of two.
        track: given what is done one after the other, and how much that is; it goes through it.

    Raises:
        ConfigError: there is nothing, or no image.
        DataError: a folder cannot be listed, or the ZIP file is damaged as a whole.
    """
    path = expanded(path, "the path")
    if not path.exists():
        raise ConfigError(f"there is nothing at {path}: give a folder or a ZIP file")
    try:
        files = files_at(path)
    except ConfigError as error:  # it is said of a command's argument here
        raise ConfigError(str(error).removeprefix("data.path: ")) from error
    labels, problem = None, None
    try:
        labels = labels_of(files, None) or by_subfolders(files)
    except DataError as error:
        problem = str(error)
    images = list(track(read_all(files), len(files.names)))
    largest = max((min(image.size) for image in images), default=0)
    resolutions = (resolution,) if resolution else tuple(size for size in SIZES if size <= largest)
    return Report(path, files, images, labels, problem, resolutions, resolution is not None)


def by_subfolders(files: Files) -> Labels | None:
    """The classes that ``data.classes: subfolder`` would make; None where an image is in no subfolder."""
    try:
        return from_subfolders(files)
    except ConfigError:
        return None


def read_all(files: Files) -> Iterator[Image]:
    """Each image in order, read by as many threads as there are cores."""
    with ThreadPoolExecutor(os.cpu_count(), "check") as pool:
        chunks = [files.names[start : start + CHUNK] for start in range(0, len(files.names), CHUNK)]
        try:
            for found in pool.map(lambda names: [look(files, name) for name in names], chunks):
                yield from found
        finally:
            pool.shutdown(cancel_futures=True)


def look(files: Files, name: str) -> Image:
    """Decode one image as training does."""
    try:
        data = files.read(name)
        with open_image(data) as image:
            format, mode = str(image.format), image.mode
            turned = upright(image)
            convert(turned, RGB)
            size = turned.size
    except Exception as error:  # Pillow, zipfile and zlib raise a dozen kinds on damaged bytes
        return Image(name, printable(str(error) or type(error).__name__))
    if format == "MPO":  # a JPEG with a preview
        return Image(name, None, hashlib.sha256(data).hexdigest(), "JPEG", mode, size)
    frames = False
    with suppress(Exception), open_image(data) as image:  # a damaged second frame is nobody's fault
        frames = bool(getattr(image, "is_animated", False))
    return Image(name, None, hashlib.sha256(data).hexdigest(), format, mode, size, frames)


def counted(what: Iterable[str]) -> dict[str, int]:
    """How often each comes, the most frequent first."""
    return dict(sorted(Counter(what).items(), key=lambda each: (-each[1], each[0])))


def size_of(image: Image) -> str:
    return f"{image.size[0]}x{image.size[1]}"
