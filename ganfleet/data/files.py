"""Image files in a folder or a ZIP file, decoded each time they are read."""

from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ganfleet.data import cache
from ganfleet.data.images import Resize, decode
from ganfleet.data.labels import Labels, file_among, labels_of
from ganfleet.data.places import Files, folder_files, zip_files
from ganfleet.data.sources import ImageOptions, Source, refuse_if_too_small
from ganfleet.document import expanded
from ganfleet.errors import ConfigError, DataError
from ganfleet.size import Size, halves


class FileSource(Source):
    """Image files, RGB unless told to be grey: one file may be grey, the next not."""

    class Options(ImageOptions):
        """
        Attributes:
            path: the folder or the ZIP file.
            classes: ``dataset.json`` takes the labels of NVlabs' file of that name; ``subfolder`` makes each top-level
                subfolder a class, in natural order, if there is no such file; ``none`` takes no classes; None the
                file's, if there is one.
            cache: where the images are kept at the lower resolutions once one of these is asked for: ``auto`` (the
                user's cache folder), ``none`` or a folder.
        """

        path: Path
        classes: Literal["dataset.json", "subfolder", "none"] | None = None
        cache: str = Field("auto", min_length=1)

    free_on_resume = ("path", "cache")
    # The images at a path that exists; raises a ConfigError or DataError if it is something else, damaged, or empty.
    files_in: ClassVar[Callable[[Path], Files]]

    def __init__(self, files: Files, labels: Labels | None, options: Options, resolution: int | Size):
        super().__init__(resolution, options.channels or 3, labels and labels.numbers)
        self.class_names = labels.names if labels else ()
        self._files, self._labels_file, self._asked = files, labels and labels.file, options.classes
        self._resize = Resize(resolution, options.resize, options.upscale)
        self._cached_in = cache.place(options.cache)
        self._level: cache.Level | None = None

    @classmethod
    def open(cls, options, resolution):
        path = expanded(options.path, "data.path")
        if not path.exists():
            raise ConfigError(f"data.path: there is nothing at {path}: correct the path")
        files = cls.files_in(path)
        images = cls(files, labels_of(files, options.classes), options, resolution)
        refuse_if_too_small(images)
        return images

    def __len__(self) -> int:
        return len(self._files.names)

    def describe(self, index: int) -> str:
        return self._files.describe(self._files.names[index])

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

    def notes(self):
        unread = file_among(self._files)
        if unread and self._labels_file is None and self._asked is None:
            told = f'{self._files.describe(unread)} has no "labels", so images have no classes'
            return [told, *self._files.notes(used=[unread])]
        if self._labels_file is None or not self.classes:
            return self._files.notes()
        told = f"classes are those of {self._files.describe(self._labels_file)}"
        return [told, *self._files.notes(used=[self._labels_file])]

    def _identity(self):
        return self._files.names


class Folder(FileSource):
    """The image files in a folder and below it."""

    files_in = staticmethod(folder_files)


class Zip(FileSource):
    """The image files in a ZIP file."""

    files_in = staticmethod(zip_files)
