"""Activations whose stock form is slow or inexact on a CPU; the others (ReLU, SiLU …) are MindSpore's own."""

import math

from mindspore import nn, ops

from ganfleet.nn import forms

SQRT_HALF = math.sqrt(0.5)


def leaky_relu(x, slope=0.2):
    """x where x > 0, slope·x elsewhere."""
    return forms.leaky_relu(x, slope)


def tanh(x):
    """tanh by its double-angle formula, to 2e-7 everywhere.

    The stock CPU kernel is as good up to ``|x| = 2``, but from there on it exceeds 1 and is off by up to 1e-4, and its
    slope by 2e-4: much for an image's background.
    """
    half = ops.tanh(0.5 * x)
    return 2 * half / (1 + half * half)


def gelu(x):
    """x · Φ(x), Φ being the normal distribution's (arXiv:1606.08415), exactly and not by tanh."""
    return 0.5 * x * (1 + ops.erf(x * SQRT_HALF))


class LeakyReLU(nn.Cell):
    """``leaky_relu`` as a layer."""

    def __init__(self, slope=0.2):
        super().__init__()
        self.slope = slope

    def construct(self, x):
        return leaky_relu(x, self.slope)


class Tanh(nn.Cell):
    """``tanh`` as a layer."""

    def construct(self, x):
        return tanh(x)
