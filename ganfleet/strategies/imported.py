"""What a strategy says of files of another program whose weights are its networks'."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Imported:
    """What such files hold, in the strategy's own words.

    Attributes:
        options: those of the strategy that make networks of the file's.
        channels: of its images.
        classes: as many as the networks are told apart, 0 for none.
        weights: of the last stage's networks by their full names, such as ``G.first.weight``; buffers too.
        averages: of the weights, by the same names, for a player that has an EMA. Those left out are the weights.
        batch_size: one that the strategy can train with.
        notes: what the file has and the checkpoint has not, a line each.
    """

    options: dict[str, Any]
    channels: int
    weights: Arrays
    classes: int = 0
    averages: Arrays = field(default_factory=dict)
    batch_size: int = 16
    notes: tuple[str, ...] = ()


def convolution(weight: np.ndarray) -> np.ndarray:
    """TensorFlow's (height, width, in, out) as (out, in, height, width)."""
    return weight.transpose(3, 2, 0, 1)
