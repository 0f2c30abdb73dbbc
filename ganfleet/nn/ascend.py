"""Forms of operators for Ascend cards, chosen so that CANN has finished kernels of them (aclnn).

MindSpore's older operators (Conv2D, BatchNorm, BiasAdd, ReduceMean, StridedSlice …) are compiled on the card for each
new shape. ``ganfleet.nn.forms`` is who decides. MindSpore has no CPU kernels of some of these.

Two of the newer operators have no second derivative in MindSpore: the gradients of convolution and of batch norm. This
module gives them one when it is imported. Each is made of operators that have derivatives themselves.
"""

from mindspore import mint, ops
from mindspore.ops._grad_experimental.grad_base import bprop_getters
from mindspore.ops.auto_generate import BatchNormExt, Convolution, ConvolutionGrad, ReflectionPad2D
from mindspore.ops.composite.multitype_ops.zeros_like_impl import zeros_like

_convolution, _gradient = Convolution(), ConvolutionGrad()
_batch_norm, _reflection = BatchNormExt(), ReflectionPad2D()


def conv2d(x, weight, stride, padding):
    """As ``forms.conv2d``."""
    return _convolution(x, weight, None, (stride, stride), (padding, padding), (1, 1), False, (0, 0), 1)


def conv2d_transpose(y, weight, size, stride, padding):
    """As ``forms.conv2d_transpose``."""
    h, w, kernel_h, kernel_w = *y.shape[2:], *weight.shape[2:]
    below = size[2] - ((h - 1) * stride - 2 * padding + kernel_h)
    right = size[3] - ((w - 1) * stride - 2 * padding + kernel_w)
    return _convolution(y, weight, None, (stride, stride), (padding, padding), (1, 1), True, (below, right), 1)


@bprop_getters.register("ConvolutionGrad")
def _of_convolution_gradient(_):
    def bprop(dy, x, weight, bias, stride, padding, dilation, transposed, output_padding, groups, mask, out, gradients):
        how = (None, stride, padding, dilation, transposed, output_padding, groups)
        rest = (bias, stride, padding, dilation, transposed, output_padding, groups, mask)
        return *second_of_convolution(dy, x, weight, how, mask, gradients), *zeros_like(rest)

    return bprop


def second_of_convolution(dy, x, weight, how, mask, gradients):
    """What ``gradients`` of ConvolutionGrad's results come to for dy, x and weight.

    With y = C(x, w), bilinear, ConvolutionGrad(dy, x, w) is (Cx(dy, w), Cw(dy, x)), the two adjoints of C, where
    ``mask`` asks for them. They are bilinear too: Cx's adjoints are C(·, w) for dy and Cw(dy, ·) for w; Cw's are
    C(x, ·) for dy and Cx(dy, ·) for x.
    """
    to_dy, to_x, to_weight = ops.zeros_like(dy), ops.zeros_like(x), ops.zeros_like(weight)
    if mask[0]:
        to_dy = to_dy + _convolution(gradients[0], weight, *how)
        to_weight = _gradient(dy, gradients[0], weight, *how, (0, 1, 0))[1]
    if mask[1]:
        to_dy = to_dy + _convolution(x, gradients[1], *how)
        to_x = _gradient(dy, x, gradients[1], *how, (1, 0, 0))[0]
    return to_dy, to_x, to_weight


def norm(x, gain, bias, epsilon):
    """As ``forms.norm``."""
    zeros = ops.zeros_like(gain)
    y = _batch_norm(x, gain, bias, zeros, zeros, True, 0.0, epsilon)[0]
    still = ops.stop_gradient(x)
    axes = _but_channels(x)
    average = mean(still, axes, True)
    return y, average.reshape(-1), mean((still - average) * (still - average), axes, False)


@bprop_getters.register("BatchNormGradExt")
def _of_norm_gradient(_):
    def bprop(dy, x, gain, running_mean, running_var, saved_mean, saved_r, first, second, third, out, gradients):
        rest = (running_mean, running_var, saved_mean, saved_r, first, second, third)
        return *second_of_norm(dy, x, gain, saved_mean, saved_r, gradients), *zeros_like(rest)

    return bprop


def second_of_norm(dy, x, gain, average, r, gradients):
    """What ``gradients`` of BatchNormGradExt's results come to for dy, x and gain; average and r, which is 1/√(σ² + ε),
    are functions of x here.

    With x̂ = (x − average)·r, means over the m values of a channel, and P(v) = v − mean(v) − x̂·mean(v·x̂), which is its
    own adjoint, BatchNormGradExt gives dx = gain·r·P(dy), dgain = Σ dy·x̂ and dbias = Σ dy. A change δ of x changes x̂ by
    r·P(δ), and r by −r²·mean(x̂·δ).
    """
    axes, shape = _but_channels(x), _along_channels(x)
    m = x.size // x.shape[1]
    a, b, c = gradients[0], gradients[1].reshape(shape), gradients[2].reshape(shape)
    r, gain = r.reshape(shape), gain.reshape(shape)
    normal = (x - average.reshape(shape)) * r
    dy_normal, a_normal = mean(dy * normal, axes, True), mean(a * normal, axes, True)
    by_a = (a * (dy - mean(dy, axes, True) - normal * dy_normal)).sum(axes, True)  # Σ a·P(dy)
    to_dy = gain * r * (a - mean(a, axes, True) - normal * a_normal) + b * normal + c
    to_normal = b * dy - gain * r * (a * dy_normal + dy * a_normal)
    along = to_normal - mean(to_normal, axes, True) - normal * mean(to_normal * normal, axes, True)
    to_x = r * along - normal * (gain * r * r * by_a * (1 / m))
    return to_dy, to_x, (r * by_a).reshape(-1)


def norm_by(x, gain, bias, average, variance, epsilon):
    """As ``forms.norm_by``."""
    shape = _along_channels(x)
    factor = gain * ops.rsqrt(variance + epsilon)
    return (x - average.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)


def bias_add(x, bias):
    """As ``forms.bias_add``."""
    return x + bias.reshape(_along_channels(x))


def mean(x, axes, keep_dims):
    """As ``forms.mean``."""
    total = x.sum(axes, keepdims=keep_dims)
    return total * (total.size / x.size)


def span(x, start, stop):
    """As ``forms.span``."""
    return mint.narrow(x, 0, start, stop - start)


def softplus(x):
    """As ``forms.softplus``, with a first derivative only."""
    return mint.nn.functional.softplus(x)


def reflection_pad(x, border):
    """As ``nn.reflection_pad``, with a first derivative only."""
    return _reflection(x, (border, border, border, border))


# Comparing integers in a graph breaks the compilation of second derivatives.
@ops.constexpr
def _all_but_channels(dimensions):
    return (0, *range(2, dimensions))


@ops.constexpr
def _along(dimensions):
    return (1, -1) + (1,) * (dimensions - 2)


def _but_channels(x):
    return _all_but_channels(x.ndim)


def _along_channels(x):
    return _along(x.ndim)
