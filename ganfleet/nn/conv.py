"""Convolution and transposed convolution with PyTorch's geometry. Which form of the operator runs is forms.py's."""

from mindspore import nn

from ganfleet.nn import forms
from ganfleet.nn.init import Constant, fan_in_uniform, parameter
from ganfleet.nn.precision import lowered, raised


class Conv2d(nn.Cell):
    """(n, in, h, w) → (n, out, ⌊(h + 2·padding − kernel) / stride⌋ + 1, …), zero-padded.

    ``kernel`` is a number of pixels, or (height, width). ``init`` is the weight's (out, in, height, width), by default
    U(±1/√fan_in); the bias starts at zero.
    """

    compute_type = "float32"

    def __init__(self, in_channels, out_channels, kernel, stride=1, padding=0, bias=True, init=None):
        super().__init__()
        shape = (out_channels, in_channels, *_sides(kernel))
        self.weight = parameter("weight", shape, init or fan_in_uniform(shape))
        self.bias = parameter("bias", (out_channels,), Constant(0.0)) if bias else None
        self.stride, self.padding = stride, padding

    def factor(self):
        """The weight by which ``construct`` multiplies."""
        return self.weight

    def construct(self, x):
        x, weight = lowered(x, self.compute_type), lowered(self.factor(), self.compute_type)
        y = forms.conv2d(x, weight, self.stride, self.padding)
        y = raised(y, self.compute_type)
        return y if self.bias is None else forms.bias_add(y, self.bias)


class ConvTranspose2d(nn.Cell):
    """(n, in, h, w) → (n, out, (h − 1)·stride − 2·padding + kernel + output_padding, …): the adjoint of Conv2d's map.

    ``kernel`` is a number of pixels, or (height, width). ``output_padding``, less than the stride, chooses among the
    sizes that Conv2d maps to h. ``init`` is the weight's (in, out, height, width), by default U(±1/√fan_in); the bias
    starts at zero.
    """

    compute_type = "float32"

    def __init__(self, in_channels, out_channels, kernel, stride=1, padding=0, bias=True, init=None, output_padding=0):
        super().__init__()
        shape = (in_channels, out_channels, *_sides(kernel))
        self.out_channels, self.stride, self.padding = out_channels, stride, padding
        self.grow = tuple(side - 2 * padding + output_padding for side in _sides(kernel))
        self.weight = parameter("weight", shape, init or fan_in_uniform(shape))
        self.bias = parameter("bias", (out_channels,), Constant(0.0)) if bias else None

    def factor(self):
        """The weight by which ``construct`` multiplies."""
        return self.weight

    def construct(self, x):
        n, _, height, width = x.shape
        below, right = self.grow
        size = (n, self.out_channels, (height - 1) * self.stride + below, (width - 1) * self.stride + right)
        x, weight = lowered(x, self.compute_type), lowered(self.factor(), self.compute_type)
        y = forms.conv2d_transpose(x, weight, size, self.stride, self.padding)
        y = raised(y, self.compute_type)
        return y if self.bias is None else forms.bias_add(y, self.bias)


def _sides(kernel: int | tuple[int, int]) -> tuple[int, int]:
    return tuple(kernel) if isinstance(kernel, tuple) else (kernel, kernel)
