"""Two folders of images that are no pairs, for translation from one domain to the other.

What is left to chance (which B goes with an A, crops, flips) is drawn from the stream that the loader gives.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from ganfleet.data.files import Folder
from ganfleet.data.images import area_mean
from ganfleet.data.sources import BadImage, ImageOptions, RandomSource, Source
from ganfleet.document import expanded
from ganfleet.errors import ConfigError, GanfleetError
from ganfleet.size import Resolution, Size, factor


class Unpaired(RandomSource):
    """As many samples as the larger domain has images: ``image_a`` is A's in order, ``image_b`` any of B's.

    Both are uint8 (channels, height, width), cut out of the domains' larger images at a random place, and
    mirrored left to right half of the time with ``flip``.
    """

    class Options(ImageOptions):
        """
        Attributes:
            path: a folder with the folders trainA and trainB; or with ``path_b``, the folder of A itself.
            path_b: the folder of B.
            split: ``test`` for testA and testB instead.
            load_size: what images are scaled to before a sample is cut out of them; None for the resolution.
            flip: whether half of the samples are mirrored; None for no.
        """

        path: Path
        path_b: Path | None = None
        split: Literal["train", "test"] | None = None
        load_size: Resolution | None = None
        flip: bool | None = None

    free_on_resume = ("path", "path_b")
    names = ("image_a", "image_b")

    def __init__(self, a: Source, b: Source, resolution: int | Size, flip: bool):
        """``a`` and ``b`` have images of one size, no smaller than ``resolution``."""
        super().__init__(resolution, a.channels)
        self._a, self._b, self._flip = a, b, flip

    @classmethod
    def open(cls, options, resolution):
        load_size = options.load_size or resolution
        cut = Size.of(resolution)
        if any(side < needed for side, needed in zip(Size.of(load_size), cut, strict=True)):
            raise ConfigError(f"data.load_size is {load_size}, and must be {cut} or more for such samples")
        a, b = [_open_domain(folder, key, options, load_size) for folder, key in _folders(options).items()]
        return cls(a, b, resolution, bool(options.flip))

    def __len__(self) -> int:
        return max(len(self._a), len(self._b))

    def describe(self, index: int) -> str:
        return self._a.describe(index % len(self._a))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Both domains in order, cut out of the middle and not mirrored: what figures are made of."""
        return {
            "image_a": self._middle(self._image_a(index)),
            "image_b": self._middle(self._image_b(index % len(self._b))),
        }

    def sample(self, index, rng):
        partner = int(rng.integers(len(self._b)))
        return {
            "image_a": self._augmented(self._image_a(index), rng),
            "image_b": self._augmented(self._image_b(partner), rng),
        }

    def _image_a(self, index: int) -> np.ndarray:
        return self._image(self._a, index % len(self._a), 0)

    def _image_b(self, index: int) -> np.ndarray:
        return self._image(self._b, index, len(self._a))

    def _image(self, domain: Source, index: int, offset: int) -> np.ndarray:
        try:
            return domain[index]["image"]
        except GanfleetError as error:
            raise BadImage(str(error), offset + index) from error

    def _augmented(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        below, right = self._spare(image)
        top, left = rng.integers((below + 1, right + 1))
        return self._cut(image, top, left, mirrored=self._flip and rng.random() < 0.5)

    def _middle(self, image: np.ndarray) -> np.ndarray:
        below, right = self._spare(image)
        return self._cut(image, below // 2, right // 2, mirrored=False)

    def _spare(self, image: np.ndarray) -> tuple[int, int]:
        """How many rows and columns ``image`` has more than a sample."""
        height, width = Size.of(self._full_resolution)
        return image.shape[1] - height, image.shape[2] - width

    def _cut(self, image: np.ndarray, top: int, left: int, mirrored: bool) -> np.ndarray:
        height, width = Size.of(self._full_resolution)
        sample = image[:, top : top + height, left : left + width]
        shrunk_by = factor(self._full_resolution, self.resolution)
        return area_mean(sample[:, :, ::-1] if mirrored else sample, shrunk_by)

    def notes(self):
        return [*self._a.notes(), *self._b.notes()]

    def _identity(self):
        return [self._a.digest(), self._b.digest()]


def _folders(options: Unpaired.Options) -> dict[Path, str]:
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
