"""What a strategy says about one graph that ``ganfleet export`` writes to a file."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Export:
    """One graph: ``function(nets, inputs)`` gives images (n, channels, h, w) in [-1, 1]; it runs in ms.jit.

    Attributes:
        inputs: those of one image, by name. Arrays (1, …) become the graph's inputs, for any number of images; numpy
            scalars, such as a fade-in weight, become constants.
        multiple: where one input is an image whose sides may be others, what they are multiples of; None elsewhere.
    """

    function: Callable
    inputs: dict[str, np.ndarray]
    multiple: int | None = None
