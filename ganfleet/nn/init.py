"""Initial weights: what each parameter is filled with, so that every rank gets equal bits.

ganfleet's layers say *how* a parameter starts; the engine, which knows the seed and the final names, draws it. What was
loaded from a file, and what layers of MindSpore drew themselves, stays.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
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
    """A float32 parameter that remembers its ``init`` for ``initialize``: a constant at once, or NaN until it is drawn.

    NaN, because nothing else tells a parameter that waits to be drawn from one that was loaded.
    """
    value = init(None, shape) if isinstance(init, Constant) else np.full(shape, np.nan, np.float32)
    made = ms.Parameter(ms.Tensor(value), name=name, requires_grad=trainable)
    made.initial = init
    return made


def initialize(parameter: ms.Parameter, seed: int) -> None:
    """Draw ``parameter`` from the stream (seed, "init/" + its name), if it waits for that.

    One that already has values keeps them: a constant, weights loaded from a file, those of a stock MindSpore layer.
    """
    init = getattr(parameter, "initial", None)
    if init is None or not np.isnan(parameter.asnumpy()).all():
        return
    values = init(rng.stream(seed, "init/" + parameter.name), parameter.shape)
    parameter.set_data(ms.Tensor(values))


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """While it lasts, MindSpore's own initialisers draw numbers that depend on ``seed`` alone.

    They read NumPy's global generator, whose state is as before afterwards.
    """
    before = np.random.get_state()
    np.random.seed(int(rng.stream(seed, "stock layers").integers(2**32)))
    try:
        yield
    finally:
        np.random.set_state(before)
