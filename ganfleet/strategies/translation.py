"""What a strategy says about one way to make images from images; ``ganfleet translate`` does the rest."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Translation:
    """One direction.

    ``function(nets, inputs)`` gives images (n, channels, h, w) in [-1, 1] for as many in ``inputs[reads]``; it runs in
    ms.jit. ``reads`` is what the data call such images. h and w are multiples of ``multiple`` and no less than
    ``smallest``; other images are made to fit. ``back`` is the direction that undoes this one, where there is one.
    """

    function: Callable
    multiple: int = 1
    smallest: int = 1
    reads: str = "image"
    back: str | None = None
