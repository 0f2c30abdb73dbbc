"""Optimizers, written once for a player's flat vector of weights; they hold settings only, the engine keeps the state.

An optimizer is any object like ``Optimizer``, the base class here, which need not be inherited from. All of them can
be used without the engine: ``slots`` says how many vectors of zeros to start with, and ``update`` is a pure function.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, ClassVar, NamedTuple

import mindspore as ms
import numpy as np
from mindspore import ops

from ganfleet.nn import forms


class Weight(NamedTuple):
    """One weight of a network, as an optimizer sees it: ``G.convs.0.weight``, (64, 3, 4, 4)."""

    name: str
    shape: tuple[int, ...]


# What hyper-parameters can be, by name: at least the first, and at most or (where it is no end) below the second.
RANGES = {
    "lr": (0, math.inf),
    "beta1": (0, 1),
    "beta2": (0, 1),
    "decay": (0, 1),
    "momentum": (0, 1),
    "eps": (0, math.inf),
    "weight_decay": (0, math.inf),
    "max_norm": (0, math.inf),
    "ema_decay": (0, 1 + 1e-9),
    "ema_half_life_kimg": (0, math.inf),
}


def refuse_hyper(**values: float) -> None:
    """
    Raises:
        ValueError: one of the hyper-parameters ``values`` is one that it cannot have.
    """
    for name, value in values.items():
        low, high = RANGES.get(name, (-math.inf, math.inf))
        if isinstance(value, bool) or not isinstance(value, Real) or not low <= value < high:
            limit = "" if math.isinf(low) else ", 0 or more" if math.isinf(high) else ", 0 or more and below 1"
            raise ValueError(f"{name} is {value!r}, and must be a finite number{limit}")


class Optimizer:
    """What the engine asks of an optimizer.

    ``lr`` is the base learning rate, which a strategy's schedule may replace. ``scheduled`` are the hyper-parameters
    that a schedule may set.

    For ``fleet.shard_optimizer`` one that treats each weight by itself also has ``part(start, stop)``: the bound
    optimizer for the weights from ``start`` to ``stop`` of the flat vector, most often itself; behind the last weight
    there are zeros. One that must see the whole gradient first has ``of_whole(gradient, hyper)`` too, which gives what
    is cut into parts.

    One may also have ``update_in_place(gradient, scale, weights, slots, own, t, hyper)``: what ``update`` does by
    ``scale`` () times the first P values of ``gradient``, to the parameters ``weights`` and ``slots`` themselves. The
    networks' parameters ``own``, in the order in which they lie in ``weights``, become the new weights too. It is
    called where ``forms.in_place`` allows that.
    """

    lr: float
    scheduled: ClassVar[tuple[str, ...]] = ("lr",)

    def slots(self) -> tuple[str, ...]:
        """The names of its state vectors; each starts at zero."""
        return ()

    def bind(self, layout: list[Weight]) -> "Optimizer":
        """The optimizer for these weights, which lie one behind the other in the flat vector."""
        return self

    def update(self, gradient, weights, slots, t, hyper):
        """The weights and slots after one update; runs inside ms.jit.

        ``gradient``, ``weights`` and each of the tuple ``slots`` are float32 (P,). ``t`` is 1 on the first update.
        ``hyper`` has ``lr``, and by name what else a schedule sets. ``t`` and all of ``hyper`` are float32 scalars as
        tensors; what ``hyper`` leaves out stays the optimizer's own.
        """
        raise NotImplementedError


def cut(values: np.ndarray, start: int, stop: int) -> np.ndarray:
    """float32 (stop − start,): values ``start`` to ``stop`` of the vector ``values``, zeros behind its end."""
    part = np.zeros(stop - start, np.float32)
    own = values[start:stop]
    part[: len(own)] = own
    return part


def part_of(optimizer: Any, start: int, stop: int) -> Any:
    """The bound ``optimizer`` for a part of the weights; None where it does not say that it can."""
    return optimizer.part(start, stop) if _goes_with_update(optimizer, "part") else None


def works_in_place(optimizer: Any) -> bool:
    """Whether it says that it can update parameters in place."""
    return _goes_with_update(optimizer, "update_in_place")


def _goes_with_update(optimizer, method):
    """Whether ``method`` is there and meant for this ``update``: a class that inherits it and has an ``update`` of its
    own has not said so."""
    classes = type(optimizer).__mro__
    of_update = next((i for i, each in enumerate(classes) if "update" in vars(each)), 0)
    return any(method in vars(each) for each in classes[: of_update + 1])


def bind(optimizer: Any, layout: list[Weight]) -> Any:
    """``optimizer`` for the weights in ``layout``; itself, where it has no ``bind``."""
    return optimizer.bind(layout) if hasattr(optimizer, "bind") else optimizer


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (arXiv:1412.6980), with both bias corrections folded into two scalars (its section 2).

    A schedule may set lr, beta1, beta2. The bias correction takes the β of the moment, as optax's does.
    """

    scheduled: ClassVar[tuple[str, ...]] = ("lr", "beta1", "beta2")
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self):
        beta1, beta2 = self.betas
        refuse_hyper(lr=self.lr, beta1=beta1, beta2=beta2, eps=self.eps)

    def slots(self):
        return ("m", "v")

    def update(self, gradient, weights, slots, t, hyper):
        weights, m, v = forms.adam(gradient, weights, *slots, *self._scalars(t, hyper))
        return weights, (m, v)

    def update_in_place(self, gradient, scale, weights, slots, own, t, hyper):
        forms.adam_in_place(weights, *slots, gradient, scale, *self._scalars(t, hyper), own)

    def _scalars(self, t, hyper):
        """The betas, the step, and ε."""
        beta1 = hyper.get("beta1", self.betas[0])
        beta2 = hyper.get("beta2", self.betas[1])
        root = ops.sqrt(1 - ops.pow(beta2, t))
        return (beta1, beta2), hyper["lr"] * root / (1 - ops.pow(beta1, t)), self.eps * root

    def part(self, start, stop):
        return self


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (arXiv:1711.05101): lr·weight_decay·weight is taken off beside Adam's step.

    The decay follows a schedule of lr, as in PyTorch and optax. ``decay(name, shape)`` says whether a weight decays;
    by default those of two dimensions or more do, and biases and the gains of norms do not. A schedule may also set
    weight_decay.
    """

    scheduled: ClassVar[tuple[str, ...]] = (*Adam.scheduled, "weight_decay")
    weight_decay: float = 0.01
    decay: Callable[[str, tuple[int, ...]], bool] | None = None
    mask: ms.Tensor | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self):
        super().__post_init__()
        refuse_hyper(weight_decay=self.weight_decay)
        if not (self.decay is None or callable(self.decay)):
            raise ValueError(f"decay is {self.decay!r}, and must be a function of a weight's name and shape")

    def bind(self, layout):
        decay = self.decay or _has_two_dimensions
        sizes = [math.prod(weight.shape) for weight in layout]
        return self._masked(np.repeat(np.float32([decay(*weight) for weight in layout]), sizes))

    def part(self, start, stop):
        return self._masked(cut(self.mask.asnumpy(), start, stop))

    def _masked(self, mask):
        bound = replace(self)
        object.__setattr__(bound, "mask", ms.Tensor(mask))
        return bound

    def update(self, gradient, weights, slots, t, hyper):
        if self.mask is None:
            raise ValueError("AdamW must know which weights decay: call its bind(layout), and use what that returns.")
        moved, slots = super().update(gradient, weights, slots, t, hyper)
        decay = hyper["lr"] * hyper.get("weight_decay", self.weight_decay)
        return moved - decay * (self.mask * weights), slots


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """RMSProp, not centred and without momentum; ``eps`` is added to the root, as PyTorch does.

    A schedule may set lr, decay.
    """

    scheduled: ClassVar[tuple[str, ...]] = ("lr", "decay")
    lr: float
    decay: float = 0.99
    eps: float = 1e-8

    def __post_init__(self):
        refuse_hyper(lr=self.lr, decay=self.decay, eps=self.eps)

    def slots(self):
        return ("v",)

    def update(self, gradient, weights, slots, t, hyper):
        v = forms.moving_average(slots[0], gradient * gradient, hyper.get("decay", self.decay))
        return weights - hyper["lr"] * (gradient / (ops.sqrt(v) + self.eps)), (v,)

    def part(self, start, stop):
        return self


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent; with ``momentum``, velocity = momentum·velocity + gradient is what the weights follow.

    With ``nesterov`` they follow gradient + momentum·velocity instead (as in PyTorch and optax). A schedule may set
    lr, and momentum where there is one.
    """

    lr: float
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self):
        refuse_hyper(lr=self.lr, momentum=self.momentum)
        if self.nesterov and not self.momentum:
            raise ValueError("Nesterov's form needs a momentum: set momentum, or leave nesterov out.")

    @property
    def scheduled(self):
        return ("lr", "momentum") if self.momentum else ("lr",)

    def slots(self):
        return ("velocity",) if self.momentum else ()

    def update(self, gradient, weights, slots, t, hyper):
        if not self.momentum:
            return weights - hyper["lr"] * gradient, ()
        momentum = hyper.get("momentum", self.momentum)
        velocity = momentum * slots[0] + gradient
        step = gradient + momentum * velocity if self.nesterov else velocity
        return weights - hyper["lr"] * step, (velocity,)

    def part(self, start, stop):
        return self


@dataclass(frozen=True)
class ClipByGlobalNorm(Optimizer):
    """``optimizer``, any of them, on gradients whose norm over all weights of the player is at most ``max_norm``.

    A longer gradient is shortened to it (arXiv:1211.5063, algorithm 1). A schedule may set max_norm, and whatever the
    inner optimizer knows.
    """

    optimizer: Any
    max_norm: float

    def __post_init__(self):
        if not self.max_norm > 0:
            raise ValueError(f"max_norm is {self.max_norm!r}, and must be a number above 0")

    @property
    def lr(self):
        return self.optimizer.lr

    @property
    def scheduled(self):
        inner = getattr(self.optimizer, "scheduled", None)
        return None if inner is None else (*inner, "max_norm")

    def slots(self):
        return self.optimizer.slots()

    def bind(self, layout):
        return replace(self, optimizer=bind(self.optimizer, layout))

    def update(self, gradient, weights, slots, t, hyper):
        return self.optimizer.update(self._clipped(gradient, hyper), weights, slots, t, hyper)

    def part(self, start, stop):
        return part_of(self.optimizer, start, stop)

    def of_whole(self, gradient, hyper):
        gradient = self._clipped(gradient, hyper)
        return self.optimizer.of_whole(gradient, hyper) if hasattr(self.optimizer, "of_whole") else gradient

    def _clipped(self, gradient, hyper):
        max_norm = hyper.get("max_norm", self.max_norm)
        norm = ops.sqrt((gradient * gradient).sum())
        # Not min(1, max_norm / norm): a gradient of zeros has no direction to keep.
        return gradient * (max_norm / ops.maximum(norm, max_norm))


def _has_two_dimensions(name, shape):
    return len(shape) >= 2
