"""Image files in a folder or a ZIP file, decoded each time they are read, with labels from their folders' names."""

import os
import threading
import zipfile
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from pydantic import Field

from ganfleet.data import cache
from ganfleet.data.images import SUFFIXES, Resize, decode
from ganfleet.data.sources import ImageOptions, Source, refuse_if_too_small
from ganfleet.errors import ConfigError, DataError
from ganfleet.size import Size, halves


@dataclass(frozen=True)
class Files:
    """Image files in a folder or an archive.

    Attributes:
        place: goes before a name in messages.
        names: sorted paths within the place.
        read: the bytes of the file of a name, from any thread.
        stamps: what changes when one of the files does, made of lists, strings and numbers.
    """

    place: str
    names: list[str]
    read: Callable[[str], bytes]
    stamps: Callable[[], list]


class FileSource(Source):
    """Image files, RGB unless told to be grey: one file may be grey, the next not."""

    class Options(ImageOptions):
        """
        Attributes:
            path: the folder or the ZIP file.
            classes: ``subfolder`` makes each top-level subfolder, in sorted order, one class.
            cache: where the images are kept at the lower resolutions once one of these is asked for: ``auto`` (the
                user's cache folder), ``none`` or a folder.
        """

        path: Path
        classes: Literal["subfolder"] | None = None
        cache: str = Field("auto", min_length=1)

    free_on_resume = ("path", "cache")
    wraps_in_folder = False  # whether folders around all of the images do not count

    def __init__(self, files: Files, labels: np.ndarray | None, options: Options, resolution: int | Size):
        super().__init__(resolution, options.channels or 3, labels)
        self._files, self._resize = files, Resize(resolution, options.resize, options.upscale)
        self._cached_in = cache.place(options.cache)
        self._level: cache.Level | None = None

    @classmethod
    def open(cls, options, resolution):
        path = options.path.expanduser()
        if not path.exists():
            raise ConfigError(f"data.path: there is nothing at {path}.")
        files = cls.files_in(path)
        labels = subfolder_labels(files.names, path, cls.wraps_in_folder) if options.classes else None
        images = cls(files, labels, options, resolution)
        refuse_if_too_small(images)
        return images

    @staticmethod
    def files_in(path: Path) -> Files:
        """The images at ``path``, which exists.

        Raises:
            ConfigError: it is something else, or there are no images in it.
            DataError: it is damaged.
        """
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._files.names)

    def describe(self, index: int) -> str:
        return self._files.place + self._files.names[index]

    def _pixels(self, index: int) -> np.ndarray:
        try:
            image = decode(self._files.read(self._files.names[index]), self.channels)
        except Exception as error:  # Pillow, zipfile and zlib raise a dozen kinds on damaged bytes
            raise DataError(f"{self.describe(index)} cannot be decoded: {error}") from error
        return self._resize(image, self.describe(index))

    def _reduced(self, index: int) -> np.ndarray:
        cached = self._level.get(index) if self._level else None
        return super()._reduced(index) if cached is None else cached

    def at(self, resolution: int | Size) -> Source:
        view = super().at(resolution)
        view._level = self._levels()[resolution] if self._is_cached(resolution) else None
        return view

    def prepare(self, resolutions) -> None:
        if any(self._is_cached(resolution) for resolution in resolutions):
            self._levels()

    def _is_cached(self, resolution: int | Size) -> bool:
        return self._cached_in is not None and resolution in halves(self._full_resolution)

    def _levels(self) -> dict[int | Size, cache.Level]:
        name = cache.key(self._files.stamps(), astuple(self._resize), self.channels)
        shape = len(self), self.channels, self._full_resolution
        return cache.levels(self._cached_in, name, self._pixels, shape)

    def _identity(self):
        return self._files.names


class Folder(FileSource):
    """The PNG, JPEG and WebP files in a folder and below it."""

    @staticmethod
    def files_in(path):
        if not path.is_dir():
            raise ConfigError(f"data.path: {path} is not a folder.")
        names = image_names(files_below(path), path)

        def read(name: str) -> bytes:
            return (path / name).read_bytes()

        def stamps() -> list:
            return [str(path.resolve()), *([name, *stamp_of(path / name)] for name in names)]

        return Files(f"{path}/", names, read, stamps)


class Zip(FileSource):
    """The same in a ZIP file, which often wraps all it holds in one folder: that is no class."""

    wraps_in_folder = True

    @staticmethod
    def files_in(path):
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path} cannot be read as a ZIP file: {error}.") from error
        names = image_names(archive.namelist(), path)
        one_at_a_time = threading.Lock()  # ZipFile counts its open members without one

        def read(name: str) -> bytes:
            with one_at_a_time:
                return archive.read(name)

        def stamps() -> list:
            members = (archive.getinfo(name) for name in names)
            return [
                str(path.resolve()),
                stamp_of(path),
                *([member.filename, member.file_size, member.CRC] for member in members),
            ]

        return Files(f"{path}:", names, read, stamps)


def stamp_of(path: Path) -> tuple[int, ...]:
    """Size and time of the last change; empty for a file that went away."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns


def files_below(root: Path) -> list[str]:
    """Paths of all files below ``root``, relative to it. A folder that cannot be listed is an error, not empty."""

    def refuse(error: OSError):
        raise DataError(f"{error.filename} cannot be listed: {error.strerror}.")

    return [
        Path(folder, file).relative_to(root).as_posix()
        for folder, _, files in os.walk(root, onerror=refuse, followlinks=True)
        for file in files
    ]


def image_names(names: list[str], place: Path) -> list[str]:
    """The images among ``names``, sorted."""
    images = images_among(names)
    if not images:
        raise ConfigError(f"data.path: there are no images ({', '.join(SUFFIXES)}) in {place}.")
    return images


def images_among(names: list[str]) -> list[str]:
    """The images, sorted, so that no file system has a say in the order. Hidden files are left out."""
    return sorted(
        name
        for name in set(names)
        if name.lower().endswith(SUFFIXES) and not any(part.startswith(".") for part in PurePosixPath(name).parts)
    )


def without_common_folder(names: list[str]) -> list[str]:
    """``names`` without the folders that all are in."""
    common = os.path.commonpath([os.path.dirname(name) for name in names])
    return [name.removeprefix(common).lstrip("/") for name in names]


def subfolder_labels(names: list[str], place: Path, wrapped: bool) -> np.ndarray:
    """int32 (n,): the number of each image's top-level subfolder among all of them, sorted.

    ``wrapped``: folders around all of the images do not count.
    """
    if wrapped:
        names = without_common_folder(names)
    loose = [name for name in names if "/" not in name]
    if loose:
        raise ConfigError(f"data.classes: subfolder, but {loose[0]} is in no subfolder of {place}.")
    folders = [name.split("/")[0] for name in names]
    return np.unique(folders, return_inverse=True)[1].astype(np.int32)
