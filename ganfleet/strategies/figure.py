"""Pictures that a strategy knows how to make beside plain samples, and translations of images."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One picture that a strategy knows how to make."""

    help: str


@dataclass(frozen=True)
class Translation:
    """One direction in which a strategy turns images into others.

    ``function(nets, image)`` runs in a graph and gives the translated image and, where there is a way back, that;
    sides of images are multiples of ``multiple`` and no less than ``smallest``.
    """

    function: Callable
    multiple: int = 1
    smallest: int = 1
