"""A source with an option of its own."""

from typing import Literal

import numpy as np
from pydantic import Field

from ganfleet.data import Source, SourceOptions

COLOURS = {"red": (255, 0, 0), "grey": (128, 128, 128)}


class Squares(Source):
    """Squares of one colour on black, larger by a pixel from image to image; even sizes are class 0, odd ones 1."""

    class Options(SourceOptions):
        count: int = Field(64, ge=1)
        colour: Literal["red", "grey"] = "grey"

    def __init__(self, options, resolution):
        self._sides = np.arange(options.count) % resolution + 1
        self._colour = np.array(COLOURS[options.colour], np.uint8)[:, None, None]
        super().__init__(resolution, channels=3, labels=(self._sides % 2).astype(np.int32))

    @classmethod
    def open(cls, options, resolution):
        return cls(options, resolution)

    def __len__(self):
        return len(self._sides)

    def _pixels(self, index):
        inside = np.arange(self._full_resolution) < self._sides[index]
        return self._colour * (inside[:, None] & inside)

    def _identity(self):
        return self._colour.tolist()
