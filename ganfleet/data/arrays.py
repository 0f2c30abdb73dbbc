"""Sources that are held in memory: the embedded set, and files in the MNIST family's idx format."""

import functools
from pathlib import Path

import numpy as np
from PIL import Image

from ganfleet.data import embedded
from ganfleet.data.idx import labels_beside, read_idx
from ganfleet.data.images import BLACK, OPAQUE, Resize
from ganfleet.data.sources import ImageOptions, Source, fingerprint
from ganfleet.document import expanded
from ganfleet.errors import ConfigError, DataError
from ganfleet.size import Size


class ArraySource(Source):
    """Grey images of one size; bright on black, so borders are black."""

    Options = ImageOptions

    def __init__(
        self, name: str, images: np.ndarray, labels: np.ndarray | None, options: ImageOptions, resolution: int | Size
    ):
        """``images`` uint8 (n, 1, height, width) as ``resized`` makes them, ``labels`` int32 (n,)."""
        super().__init__(resolution, options.channels or 1, labels)
        self._name, self._images = name, images

    def __len__(self) -> int:
        return len(self._images)

    def describe(self, index: int) -> str:
        return f"image {index} of {self._name}"

    def _pixels(self, index: int) -> np.ndarray:
        image = self._images[index]
        if self.channels == 1:
            return image
        colours = image.repeat(3, axis=0)
        return colours if self.channels == 3 else np.concatenate([colours, np.full_like(image, OPAQUE)])

    def _identity(self):
        return fingerprint({"image": self._images})


class Embedded(ArraySource):
    """2,000 images of Fashion-MNIST in ten classes, with a border: 32x32, which can be halved down to 4x4."""

    licence = "MIT, Copyright (c) 2017 Zalando SE"

    @classmethod
    def open(cls, options, resolution):
        return cls("the embedded set", *_embedded(_resize(options, resolution)), options, resolution)


@functools.lru_cache(maxsize=8)  # a process may open it many times
def _embedded(resize: Resize) -> tuple[np.ndarray, np.ndarray]:
    """Its images as ``resize`` makes them, and its labels."""
    images, labels = embedded.load()
    return resized(np.pad(images, [(0, 0), (2, 2), (2, 2)]), resize, "the embedded set"), labels


class Idx(ArraySource):
    """An idx file of grey images, gzipped or not, and the one of their labels, if there is one."""

    class Options(ImageOptions):
        """``labels``: None for the file beside ``path`` by the usual name, if there is one."""

        path: Path
        labels: Path | None = None

    free_on_resume = ("path",)

    @classmethod
    def open(cls, options, resolution):
        path = expanded(options.path, "data.path")
        if not path.exists():
            raise ConfigError(f"data.path: there is nothing at {path}: correct the path")
        if path.is_dir():
            raise ConfigError(f"data.path: {path} is a folder; name the idx file of images in it.")
        if not path.is_file():  # reading it might never end
            raise ConfigError(f"data.path: {path} is no regular file: choose an idx file of images")
        labels_path = expanded(options.labels, "data.labels") if options.labels else labels_beside(path)
        if options.labels and not labels_path.is_file():
            raise ConfigError(f"data.labels: there is no file at {labels_path}: correct the path")
        images = read_idx(path, ndim=3)
        labels = read_idx(labels_path, ndim=1).astype(np.int32) if labels_path else None
        if not len(images):
            raise ConfigError(f"data.path: {path} holds no images: choose another file")
        if labels is not None and len(labels) != len(images):
            raise DataError(
                f"{labels_path} has {len(labels)} labels for the {len(images)} images of {path}: they must be as many"
            )
        return cls(str(path), resized(images, _resize(options, resolution), str(path)), labels, options, resolution)


def _resize(options: ImageOptions, resolution: int | Size) -> Resize:
    return Resize(resolution, options.resize, options.upscale, BLACK)


def resized(images: np.ndarray, resize: Resize, name: str) -> np.ndarray:
    """``images`` uint8 (n, h, w), each as ``resize`` makes it, (n, 1, height, width); ``name`` is for errors."""
    return np.stack([resize(Image.fromarray(image), f"Each image of {name}") for image in images])
