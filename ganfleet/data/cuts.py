"""Samples that are cut out of larger images at a random place, and mirrored half of the time."""

from dataclasses import dataclass

import numpy as np

from ganfleet.data.images import area_mean
from ganfleet.data.sources import ImageOptions, RandomSource
from ganfleet.errors import ConfigError
from ganfleet.size import Resolution, Size, factor


class CutOptions(ImageOptions):
    """
    Attributes:
        load_size: what images are scaled to before a sample is cut out of them; None for the resolution.
        flip: whether half of the samples are mirrored left to right; None for no.
    """

    load_size: Resolution | None = None
    flip: bool | None = None

    def loaded_at(self, resolution: int | Size) -> int | Size:
        """The size of the images out of which samples of ``resolution`` are cut.

        Raises:
            ConfigError: they would be smaller than the samples.
        """
        load_size, cut = self.load_size or resolution, Size.of(resolution)
        if any(side < needed for side, needed in zip(Size.of(load_size), cut, strict=True)):
            raise ConfigError(f"data.load_size is {load_size}, and must be {cut} or more for such samples")
        return load_size


@dataclass(frozen=True)
class Cut:
    """The corner of a sample in its image, and whether it is mirrored."""

    top: int
    left: int
    mirrored: bool


class CutSource(RandomSource):
    """Base of sources whose images (channels, height, width), uint8, are no smaller than ``resolution``."""

    def __init__(self, resolution: int | Size, channels: int, flip: bool):
        super().__init__(resolution, channels)
        self._flip = flip

    def _anywhere(self, image: np.ndarray, rng: np.random.Generator) -> Cut:
        below, right = self._spare(image)
        top, left = rng.integers((below + 1, right + 1))
        return Cut(top, left, mirrored=self._flip and rng.random() < 0.5)

    def _middle(self, image: np.ndarray) -> Cut:
        below, right = self._spare(image)
        return Cut(below // 2, right // 2, mirrored=False)

    def _spare(self, image: np.ndarray) -> tuple[int, int]:
        """How many rows and columns ``image`` has more than a sample."""
        height, width = Size.of(self._full_resolution)
        return image.shape[1] - height, image.shape[2] - width

    def _cut(self, image: np.ndarray, cut: Cut) -> np.ndarray:
        height, width = Size.of(self._full_resolution)
        sample = image[:, cut.top : cut.top + height, cut.left : cut.left + width]
        shrunk_by = factor(self._full_resolution, self.resolution)
        return area_mean(sample[:, :, ::-1] if cut.mirrored else sample, shrunk_by)
