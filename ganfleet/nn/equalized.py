"""Layers with an equalised learning rate (arXiv:1710.10196, section 4.1).

Their weights start as N(0, 1) and are scaled at run time by gain / √fan_in, He's constant, so that optimizers like Adam
move all of them at the same relative speed. Biases start at zero.
"""

import math

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from ganfleet.nn import forms
from ganfleet.nn.init import Constant, Normal, parameter
from ganfleet.nn.precision import lowered, raised

SQRT2 = math.sqrt(2)


class EqualizedDense(nn.Cell):
    """(n, in) → (n, out). ``lr_multiplier`` slows down learning: the weight starts as N(0, 1) / lr_multiplier, and both
    weight and bias are multiplied by it at run time."""

    compute_type = "float32"

    def __init__(self, in_features, out_features, gain=SQRT2, bias=True, lr_multiplier=1.0):
        super().__init__()
        self.weight = parameter("weight", (out_features, in_features), Normal(1 / lr_multiplier))
        self.bias = parameter("bias", (out_features,), Constant(0.0)) if bias else None
        self.scale = gain / math.sqrt(in_features) * lr_multiplier
        self.lr_multiplier = lr_multiplier
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x):
        y = self.matmul(lowered(x, self.compute_type), lowered(self.weight * self.scale, self.compute_type))
        y = raised(y, self.compute_type)
        return y if self.bias is None else forms.bias_add(y, self.bias * self.lr_multiplier)


class EqualizedConv2d(nn.Cell):
    """(n, in, h, w) → (n, out, h, w), zero-padded; ``kernel`` is odd.

    With ``resample`` "up" the input is first enlarged (``nn.upsample``), giving (n, out, 2h, 2w); with "down" the
    output is reduced (``nn.downsample``), giving (n, out, h/2, w/2). Both are one strided convolution with a kernel
    one larger, the sum of the shifted weights, which takes 4/9 of the multiplications at kernel 3.
    """

    compute_type = "float32"

    def __init__(self, in_channels, out_channels, kernel, gain=SQRT2, resample=None, bias=True):
        super().__init__()
        self.weight = parameter("weight", (out_channels, in_channels, kernel, kernel), Normal(1.0))
        self.bias = parameter("bias", (out_channels,), Constant(0.0)) if bias else None
        self.scale = gain / math.sqrt(in_channels * kernel**2)
        self.channels, self.resample, self.padding = out_channels, resample, kernel // 2
        if resample is not None:
            self.spread = ms.Tensor(self.scale * _spread(kernel, resample))

    def construct(self, x):
        n, _, h, w = x.shape
        x = lowered(x, self.compute_type)
        if self.resample is None:
            y = forms.conv2d(x, lowered(self.weight * self.scale, self.compute_type), 1, self.padding)
        elif self.resample == "up":
            weight = lowered(self.spread_weight().transpose(1, 0, 2, 3), self.compute_type)
            y = forms.conv2d_transpose(x, weight, (n, self.channels, 2 * h, 2 * w), 2, self.padding)
        else:
            y = forms.conv2d(x, lowered(self.spread_weight(), self.compute_type), 2, self.padding)
        y = raised(y, self.compute_type)
        return y if self.bias is None else forms.bias_add(y, self.bias)

    def spread_weight(self):
        """The weight of the strided convolution, (out, in, kernel + 1, kernel + 1)."""
        out_channels, in_channels, kernel, _ = self.weight.shape
        flat = ops.matmul(self.weight.reshape(out_channels * in_channels, kernel * kernel), self.spread)
        return flat.reshape(out_channels, in_channels, kernel + 1, kernel + 1)


def _spread(kernel, resample):
    """The (kernel², (kernel + 1)²) matrix from a weight to that of the strided convolution.

    Along one axis, a tap k of the output's mean over pixels 0 and 1 falls on taps k and k + 1, halved. The enlarged
    input is its adjoint without the halves; a transposed convolution reads the kernel from its other end.
    """
    taps = np.eye(kernel, kernel + 1) + np.eye(kernel, kernel + 1, 1)
    taps = taps[::-1] if resample == "up" else taps / 2
    return np.kron(taps, taps).astype(np.float32)
