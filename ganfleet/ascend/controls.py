"""Two graphs whose fate is known: a check that does not see it sees nothing."""

from collections.abc import Callable

import mindspore as ms
import numpy as np
from mindspore import mint, nn, ops

WITHOUT_KERNEL = "MatrixPower"


class _Power(nn.Cell):
    """An operator without any kernel for Ascend: MindSpore takes the CPU's, and raises nothing."""

    def construct(self, x):
        return ops.matrix_power(x, 3)


class _TwiceBackward(nn.Cell):
    """The second derivative of a convolution that has only a first one there, so that compiling it must fail."""

    def score(self, x, weight):
        y = mint.nn.functional.conv2d(x, weight, padding=1)
        return (y * y * y).sum()

    def penalty(self, x, weight):
        slope = ms.grad(self.score, 0)(x, weight)
        return (slope * slope).sum()

    def construct(self, x, weight):
        return ms.grad(self.penalty, 1)(x, weight)


def run(tell: Callable) -> None:
    """Compile both, and tell what happened."""
    ms.set_context(mode=ms.GRAPH_MODE)
    tell(event="section", stage="controls", section=WITHOUT_KERNEL)
    _Power()(ms.Tensor(np.eye(3, dtype=np.float32)[None]))
    tell(event="section", stage="controls", section="twice backward")
    x, weight = ms.Tensor(np.ones((1, 2, 4, 4), np.float32)), ms.Tensor(np.ones((2, 2, 3, 3), np.float32))
    try:
        _TwiceBackward()(x, weight)
        error = None
    except Exception as raised:  # the compiler raises many kinds
        error = f"{type(raised).__name__}: {str(raised).strip().splitlines()[0]}"
    tell(event="twice backward", error=error)
    tell(event="section", stage="controls", section="end")
