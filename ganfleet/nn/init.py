"""Initial weights: what each parameter is filled with, drawn through ganfleet.rng so that every rank gets equal bits.

Layers say *how* a parameter starts; the engine, which knows the seed and the final names, decides *when*.
"""

import math
from dataclasses import dataclass

import mindspore as ms
import numpy as np

from ganfleet import rng


@dataclass(frozen=True)
class Normal:
    """N(mean, std²)."""

    std: float
    mean: float = 0.0

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.normal(self.mean, self.std, shape).astype(np.float32)


@dataclass(frozen=True)
class Uniform:
    """U(-bound, bound)."""

    bound: float

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.uniform(-self.bound, self.bound, shape).astype(np.float32)


@dataclass(frozen=True)
class Constant:
    """``value`` everywhere; an array-like value is broadcast to the parameter's shape."""

    value: float | tuple

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.value, np.float32)


def fan_in_uniform(shape: tuple[int, ...]) -> Uniform:
    """U(±1/√fan_in), PyTorch's default for dense and convolution weights of this shape.

    fan_in is the product of all dimensions but the first, or the length of a vector.
    """
    return Uniform(1 / math.sqrt(math.prod(shape[1:] or shape)))


def parameter(name: str, shape: tuple[int, ...], init, trainable: bool = True) -> ms.Parameter:
    """A float32 parameter that remembers its ``init`` for ``initialize``; until then zeros, or ``init``'s constant."""
    value = init(None, shape) if isinstance(init, Constant) else np.zeros(shape, np.float32)
    made = ms.Parameter(ms.Tensor(value), name=name, requires_grad=trainable)
    made.initial = init
    return made


def initialize(parameter: ms.Parameter, seed: int) -> None:
    """Fill ``parameter`` from the stream (seed, "init/" + its name) with the init its layer gave it.

    A parameter of a stock MindSpore layer has none: where all its values are equal (norm gains, zero biases) they
    stay, otherwise MindSpore drew them from its global seed and they are drawn anew by ``fan_in_uniform``.
    """
    shape = parameter.shape
    init = getattr(parameter, "initial", None)
    if init is None:
        values = parameter.asnumpy()
        if (values == values.flat[0]).all():
            return
        init = fan_in_uniform(shape)
    parameter.set_data(ms.Tensor(init(rng.stream(seed, "init/" + parameter.name), shape)))
