"""The loss scale of float16, which stays on the device: no step waits to learn whether an update has overflowed."""

from collections.abc import Iterable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ganfleet.engine.compile_cache import Graph


class LossScale:
    """The factor on a phase's loss that moves its gradients to where float16 has numbers (arXiv:1710.03740).

    It starts at ``start``, grows by ``factor`` after ``interval`` updates in a row without overflow, and shrinks by
    ``factor``, but not below ``floor``, at each overflow, an update that is skipped. Powers of two throughout leave
    every bit of a gradient but its exponent.

    Attributes:
        scale: the factor for the next run of the phase, a scalar tensor.
        mean: what makes the mean gradient of a sum over ``lanes`` lanes that was scaled, a scalar tensor.
    """

    def __init__(
        self, lanes: int, start: float = 2.0**16, factor: float = 2.0, interval: int = 2000, floor: float = 1.0
    ):
        self._lanes = lanes
        self._move = _Move(factor, interval, floor)
        self.load_state({"scale": start, "good": 0})

    def after(self, summary: Tensor) -> Tensor:
        """Move the scale by an update's ``summary``, which begins with 1 if the update was finite, else 0.

        In what it returns, an overflow that the scale is to blame for has 1 there too: it is no fault of the run.
        """
        self.scale, self.mean, self._good, summary = self._move(self.scale, self.mean, self._good, summary)
        return summary

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON: the scale, and how many good updates it has seen."""
        return {"scale": float(self.scale.asnumpy()), "good": int(self._good.asnumpy())}

    def load_state(self, state: dict[str, Any]) -> None:
        scale = float(state["scale"])
        self.scale, self.mean, self._good = (
            Tensor(np.float32(value)) for value in (scale, 1 / (self._lanes * scale), state["good"])
        )


def loss_scales(phases: Iterable[str], precision: str, lanes: int) -> dict[str, LossScale]:
    """One for each phase, by name, where ``precision`` needs them."""
    return {phase: LossScale(lanes) for phase in phases} if precision == "float16" else {}


class _Move(Graph):
    def __init__(self, factor, interval, floor):
        super().__init__()
        self.factor, self.interval, self.floor = factor, interval, floor

    @ms.jit
    def construct(self, scale, mean, good, summary):
        finite = summary[0] > 0
        at_floor = scale <= self.floor
        good = ops.where(finite, good + 1, ops.zeros_like(good))
        grows = good >= self.interval
        up = ops.where(grows, self.factor, 1.0)
        down = ops.where(at_floor, 1.0, 1 / self.factor)
        by = ops.where(finite, up, down)
        fine = ops.logical_or(finite, ops.logical_not(at_floor)).astype(ms.float32)
        good = ops.where(grows, ops.zeros_like(good), good)
        return scale * by, mean / by, good, ops.concat((fine.reshape(1), summary[1:]))
