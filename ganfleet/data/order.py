"""The order of the data: an endless stream of positions, each naming one image, the same for every fleet."""

from functools import lru_cache

import numpy as np

from ganfleet import rng


def index_at(position: int, size: int, seed: int) -> int:
    """The index of the image at ``position`` of the stream over ``size`` images.

    Positions ``epoch * size`` to ``(epoch + 1) * size - 1`` visit every image once, in an order of that epoch's own.
    """
    epoch, offset = divmod(position, size)
    return int(permutation(epoch, size, seed)[offset])


def replacement_at(position: int, size: int, seed: int, tries: int) -> list[int]:
    """The indices to try, one after the other, where the image at ``position`` cannot be read."""
    return rng.stream(seed, "replace", position).integers(size, size=tries).tolist()


@lru_cache(maxsize=4)  # a batch may straddle two epochs, a loader may be reading ahead into the next
def permutation(epoch: int, size: int, seed: int) -> np.ndarray:
    return rng.stream(seed, "order", epoch).permutation(size)
