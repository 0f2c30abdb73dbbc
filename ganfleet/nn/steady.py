"""Functions whose MindSpore form is unsteady on a CPU: its last digits depend on how often it has run in a process."""

from mindspore import nn, ops

from ganfleet.nn import forms
from ganfleet.nn.activation import tanh


def log(x):
    """The natural logarithm of x."""
    return forms.log(x)


def logsumexp(x, axis):
    """log Σ eˣ along the ``axis``, which it has no more; exact where eˣ would overflow."""
    largest = ops.stop_gradient(x.max(axis, keepdims=True))
    return log(ops.exp(x - largest).sum(axis)) + largest.squeeze(axis)


def power(x, exponent):
    """x to the power ``exponent``, a number. Squares are steady in MindSpore too."""
    return forms.power(x, exponent)


def softplus(x):
    """log(1 + eˣ), with a first derivative only on Ascend."""
    return forms.softplus(x)


def elu(x, alpha=1.0):
    """x where x > 0, alpha · (eˣ − 1) elsewhere (arXiv:1511.07289)."""
    return ops.relu(x) + alpha * (ops.exp(ops.where(x > 0, ops.zeros_like(x), x)) - 1)


def mish(x):
    """x · tanh(softplus(x)) (arXiv:1908.08681)."""
    return x * tanh(softplus(x))


class Softplus(nn.Cell):
    """``softplus`` as a layer."""

    def construct(self, x):
        return softplus(x)


class ELU(nn.Cell):
    """``elu`` as a layer."""

    def __init__(self, alpha=1.0):
        super().__init__()
        self.alpha = alpha

    def construct(self, x):
        return elu(x, self.alpha)


class Mish(nn.Cell):
    """``mish`` as a layer."""

    def construct(self, x):
        return mish(x)
