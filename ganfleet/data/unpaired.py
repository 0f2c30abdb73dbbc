"""Two folders of images that are no pairs, for translation from one domain to the other.

What is left to chance (which B goes with an A, crops, flips) is drawn from the stream that the loader gives.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from ganfleet.data.cuts import CutOptions, CutSource
from ganfleet.data.files import Folder
from ganfleet.data.sources import BadImage, ImageOptions, Source
from ganfleet.document import expanded
from ganfleet.errors import ConfigError, GanfleetError
from ganfleet.size import Size


class Unpaired(CutSource):
    """As many samples as the larger domain has images: ``image_a`` is A's in order, ``image_b`` any of B's.

    Both are uint8 (channels, height, width), cut out of the domains' larger images at a random place, and
    mirrored left to right half of the time with ``flip``.
    """

    class Options(CutOptions):
        """
        Attributes:
            path: a folder with the folders trainA and trainB; or with ``path_b``, the folder of A itself.
            path_b: the folder of B.
            split: ``test`` for testA and testB instead.
        """

        path: Path
        path_b: Path | None = None
        split: Literal["train", "test"] | None = None

    free_on_resume = ("path", "path_b")
    names = ("image_a", "image_b")
    are_pairs = False

    def __init__(self, a: Source, b: Source, resolution: int | Size, flip: bool):
        """``a`` and ``b`` have images of one size, no smaller than ``resolution``."""
        super().__init__(resolution, a.channels, flip)
        self._a, self._b = a, b

    @classmethod
    def open(cls, options, resolution):
        load_size = options.loaded_at(resolution)
        a, b = [_open_domain(folder, key, options, load_size) for folder, key in domains(options).items()]
        return cls(a, b, resolution, bool(options.flip))

    def __len__(self) -> int:
        return max(len(self._a), len(self._b))

    def describe(self, index: int) -> str:
        return self._a.describe(index % len(self._a))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Both domains in order, cut out of the middle and not mirrored: what figures are made of."""
        images = {"image_a": self._image_a(index), "image_b": self._image_b(index % len(self._b))}
        return {name: self._cut(image, self._middle(image)) for name, image in images.items()}

    def sample(self, index, rng):
        partner = int(rng.integers(len(self._b)))
        images = {"image_a": self._image_a(index), "image_b": self._image_b(partner)}
        return {name: self._cut(image, self._anywhere(image, rng)) for name, image in images.items()}

    def _image_a(self, index: int) -> np.ndarray:
        return self._image(self._a, index % len(self._a), 0)

    def _image_b(self, index: int) -> np.ndarray:
        return self._image(self._b, index, len(self._a))

    def _image(self, domain: Source, index: int, offset: int) -> np.ndarray:
        try:
            return domain[index]["image"]
        except GanfleetError as error:
            raise BadImage(str(error), offset + index) from error

    def notes(self):
        return [*self._a.notes(), *self._b.notes()]

    def _identity(self):
        return [self._a.digest(), self._b.digest()]


def domains(options) -> dict[Path, str]:
    """The folders of A and B, each with the option that says where it is.

    Raises:
        ConfigError: neither is there, or an option is of no use.
    """
    path = expanded(options.path, "data.path")
    if options.path_b is None:
        split = options.split or "train"
        folders = {path / f"{split}A": "data.path", path / f"{split}B": "data.path"}
        if not any(folder.exists() for folder in folders):
            raise ConfigError(
                f"data.path: {path} has no folders {split}A and {split}B. For folders of other names, set data.path to "
                "that of A and data.path_b to that of B."
            )
        return folders
    if options.split is not None:
        raise ConfigError("data.split chooses among folders in data.path: leave it out where data.path_b is set.")
    return {path: "data.path", expanded(options.path_b, "data.path_b"): "data.path_b"}


def _open_domain(folder: Path, key: str, options: Unpaired.Options, load_size: int | Size) -> Source:
    shared = {name: getattr(options, name) for name in ImageOptions.model_fields}
    try:
        return Folder.open(Folder.Options(path=folder, cache="none", classes="none", **shared), load_size)
    except ConfigError as error:
        raise ConfigError(str(error).replace("data.path:", f"{key}:", 1)) from error
