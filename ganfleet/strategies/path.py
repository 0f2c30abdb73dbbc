"""Paths between the latents of two images, along which ``ppl`` measures how much images change."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ganfleet.strategies.figure import slerp

Inputs = dict[str, np.ndarray]


@dataclass(frozen=True)
class LatentPath:
    """A way from the latents of one image to those of another.

    ``inputs(first, second, t)`` is what the image at ``t``, 0 to 1, is made of; both are such as
    ``Strategy.sample_inputs`` gives, of one image. ``sample(nets, inputs)``, in ms.jit, draws it; with None, the
    strategy's sampler does.
    """

    inputs: Callable[[Inputs, Inputs, float], Inputs]
    sample: Callable | None = None


def along_circle(first: Inputs, second: Inputs, t: float) -> Inputs:
    """The inputs of ``first``, with its normal latents ``z`` at the part ``t`` of the great circle to ``second``'s."""
    return first | {"z": slerp(first["z"], second["z"], t)}
