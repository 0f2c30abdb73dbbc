"""State beside the weights that moves by what the whole fleet saw: batch moments, spectral norm's u, the mean w.

A Buffer is a Cell inside a network. It only sums up what a loss adds. The engine reduces that sum over lanes, with
the phase's gradients, moves the value once, alike on every rank, and keeps it in checkpoints (``PLAYER.buffers``).
"""

import math
from collections.abc import Callable

import mindspore as ms
from mindspore import nn, ops

from ganfleet.nn.init import Constant, parameter


class Buffer(nn.Cell):
    """A float32 tensor of ``shape`` that moves once per phase of the player whose network holds it.

    Args:
        shape: of the value, () for a scalar.
        initial: what it starts as: a number, an array-like or an init such as ``nn.Normal(1.0)``.
        momentum: the weight of the new mean: value += momentum · (mean − value); 1 makes the mean the value.
        move: instead of ``momentum``, a function ``move(value, mean) -> new value`` that runs in a graph.
        carried: whether another run that begins with this one's weights (``train.init_from``) takes its value over too.

    Attributes:
        value: the parameter to read, not trainable.
        seen: the sum of what was added and, behind it, how often; (size + 1,). The engine zeroes it.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        initial=0.0,
        momentum: float = 1.0,
        move: Callable | None = None,
        carried: bool = True,
    ):
        super().__init__()
        self.shape = tuple(shape)
        self.carried = carried
        self.move = move or _Average(momentum)
        initial = initial if callable(initial) else Constant(initial)
        self.value = parameter("value", self.shape, initial, trainable=False)
        self.seen = parameter("seen", (math.prod(self.shape) + 1,), Constant(0.0), trainable=False)

    # Not called "record" or "wait": MindSpore takes the statement x.record() for that of a device's event, and then all
    # of several like layers add to the first one's buffer.
    def add(self, x):
        """Count ``x``, of the buffer's shape, in a loss; its gradient is not followed."""
        ops.assign_add(self.seen, ops.concat((ops.stop_gradient(x).reshape(-1), ops.ones((1,), ms.float32))))

    def moved(self, total):
        """The value after a phase, where ``total`` (size + 1,) is the sum of ``seen`` over lanes.

        A buffer that no lane added to keeps its value.
        """
        calls = total[-1]
        # Divided by at least 1: a quotient that is not selected must be finite too, or its NaN would reach gradients.
        mean = total[:-1].reshape(self.shape) / ops.maximum(calls, 1.0)
        return ops.select(calls > 0, self.move(self.value, mean), self.value)


class _Average(nn.Cell):
    """Moves a value towards the mean."""

    def __init__(self, momentum: float):
        super().__init__()
        self.momentum = momentum

    def construct(self, value, mean):
        return value + (mean - value) * self.momentum


def buffers_of(net: nn.Cell) -> list[Buffer]:
    """The buffers in ``net``, in the order of its cells."""
    return [cell for _, cell in net.cells_and_names() if isinstance(cell, Buffer)]
