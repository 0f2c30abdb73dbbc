"""A source that is not the same on every rank, for tests of what happens then."""

import os

import numpy as np

from ganfleet.data import Source, SourceOptions
from ganfleet.errors import DataError


class Odd(Source):
    """Grey images; rank 1 has one more, or with ``missing`` does not find its own."""

    class Options(SourceOptions):
        missing: bool = False

    def __init__(self, resolution, count):
        super().__init__(resolution, channels=1)
        self._count = count

    @classmethod
    def open(cls, options, resolution):
        odd = os.environ.get("RANK_ID") == "1"
        if odd and options.missing:
            raise DataError("data.path: /mnt/images is not mounted")
        return cls(resolution, 33 if odd else 32)

    def __len__(self):
        return self._count

    def _pixels(self, index):
        return np.full((1, self._full_resolution, self._full_resolution), index, np.uint8)

    def _identity(self):
        return []
