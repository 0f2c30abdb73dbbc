"""Images too large for one run of a network, as tiles that overlap and are blended into one another."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tiles:
    """How images are cut up.

    Attributes:
        pixels: the most that a network gets at once; larger images are cut.
        side: of a tile.
        overlap: pixels that neighbouring tiles share at least.
    """

    pixels: int = 1_500_000
    side: int = 1024
    overlap: int = 128

    def apply(self, function: Callable[[np.ndarray], np.ndarray], image: np.ndarray, multiple: int = 1) -> np.ndarray:
        """``function``, which maps float32 (c, h, w) to the same shape, of an ``image`` (c, H, W) of any size.

        Tiles have one size, and begin at multiples of ``multiple``. Where several cover a pixel, each counts by how
        far the pixel is from that tile's border.
        """
        height, width = image.shape[1:]
        if height * width <= self.pixels:
            return function(image)
        side = self.side // multiple * multiple
        rows, columns = self._starts(height, side, multiple), self._starts(width, side, multiple)
        along_h, along_w = self._weights(min(side, height), len(rows)), self._weights(min(side, width), len(columns))
        weight = along_h[:, None] * along_w
        total, weights = np.zeros(image.shape, np.float32), np.zeros((height, width), np.float32)
        for top in rows:
            for left in columns:
                place = np.s_[..., top : top + len(along_h), left : left + len(along_w)]
                total[place] += function(image[place]) * weight
                weights[place] += weight
        return total / weights

    def _starts(self, length: int, side: int, multiple: int) -> list[int]:
        """Where tiles begin along an edge, evenly, so that the last one ends with it; ``length`` is a multiple too."""
        if length <= side:
            return [0]
        count = -(-(length - self.overlap) // (side - self.overlap))
        return [round(i * (length - side) / (count - 1) / multiple) * multiple for i in range(count)]

    def _weights(self, side: int, count: int) -> np.ndarray:
        """(side,): 1 in the middle of a tile, and falling linearly over the overlap to its borders."""
        if count == 1:
            return np.ones(side, np.float32)
        from_border = np.minimum(np.arange(side), np.arange(side)[::-1]) + 1
        return np.minimum(1, from_border / (self.overlap + 1)).astype(np.float32)
