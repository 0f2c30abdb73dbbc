"""The kernels as operators for graphs. Each one's gradient is made of the others, so derivatives of any order exist."""

import mindspore as ms
import numpy as np
from mindspore import ops
from mindspore.ops.auto_generate import BatchNormGradGrad

# Set by ``ganfleet.nn.cpu.use``. They are plain values here, so that they count in the name of a stored graph.
STOCK = "stock"
FORM = ""  # until somebody asks
LIBRARY = ""
TINY = 1e-30


class _Kernel(ops.Custom):
    """MindSpore takes operators with equal attributes for one. So the shape is an attribute; and a ``bprop`` takes all
    shapes from its arguments, as it may be called for another operator of the same name. ``shape`` is the output's, or
    a tuple of those of several."""

    def __init__(self, name, shape, bprop=None):
        several = shape != () and isinstance(shape[0], tuple)
        super().__init__(
            f"{LIBRARY}:{name}", shape, (ms.float32,) * len(shape) if several else ms.float32, "aot", bprop
        )
        self.add_prim_attr("output_shape", str(shape))


class _Convolution(_Kernel):
    """(x, weight) → y of the given shape."""

    def __init__(self, stride, padding, shape):
        def bprop(x, weight, y, dy):
            return _ToInput(stride, padding, x.shape)(dy, weight), _ToWeight(stride, padding, weight.shape)(x, dy)

        super().__init__(f"convolution_{stride}_{padding}", shape, bprop)


class _ToInput(_Kernel):
    """(y, weight) → x: the convolution's adjoint for a given weight."""

    def __init__(self, stride, padding, shape):
        def bprop(y, weight, x, dx):
            return _Convolution(stride, padding, y.shape)(dx, weight), _ToWeight(stride, padding, weight.shape)(dx, y)

        super().__init__(f"to_input_{stride}_{padding}", shape, bprop)


class _ToWeight(_Kernel):
    """(x, y) → weight: the convolution's adjoint for a given x."""

    def __init__(self, stride, padding, shape):
        def bprop(x, y, weight, dweight):
            return _ToInput(stride, padding, x.shape)(y, dweight), _Convolution(stride, padding, y.shape)(x, dweight)

        super().__init__(f"to_weight_{stride}_{padding}", shape, bprop)


class _Gate(_Kernel):
    """(x, y, slope) → y where x > 0, slope · y elsewhere."""

    def __init__(self, shape):
        def bprop(x, y, slope, out, dout):
            return ops.zeros_like(x), _Gate(x.shape)(x, dout, slope), ops.zeros_like(slope)

        super().__init__("gate", shape, bprop)


class _Blur(_Kernel):
    def __init__(self, shape):
        def bprop(x, out, dout):
            return (_Blur(x.shape)(dout),)

        super().__init__("blur", shape, bprop)


class _Norm(_Kernel):
    """(x, gain, bias, epsilon) → y, mean, variance."""

    def __init__(self, shape):
        def bprop(x, gain, bias, epsilon, out, dout):
            dx, dgain, dbias = _NormGradient(x.shape)(dout[0], x, gain, out[1], out[2], epsilon)
            return dx, dgain, dbias, ops.zeros_like(epsilon)

        super().__init__("norm", (shape, shape[1:2], shape[1:2]), bprop)


class _NormGradient(_Kernel):
    """(dy, x, gain, mean, variance, epsilon) → dx, dgain, dbias. Its own gradient, of gradient penalties alone, is
    MindSpore's, whose epsilon cannot be a tensor: it is in the variance already."""

    def __init__(self, shape):
        def bprop(dy, x, gain, mean, variance, epsilon, out, dout):
            second = BatchNormGradGrad(is_training=True, epsilon=TINY)
            dx, ddy, dgain = second(x, dy, gain, mean, variance + epsilon, dout[0], dout[1], dout[2])
            return ddy, dx, dgain, ops.zeros_like(mean), ops.zeros_like(variance), ops.zeros_like(epsilon)

        super().__init__("norm_gradient", (shape, shape[1:2], shape[1:2]), bprop)


class _InPlace(_Kernel):
    """Writes into parameters among its arguments. MindSpore runs operators with effects on memory in their order among
    those that read it."""

    def __init__(self, name):
        super().__init__(name, (1,))
        self.add_prim_attr("side_effect_mem", True)


def conv2d(x, weight, stride, padding):
    n, _, h, w = x.shape
    out, _, kernel_h, kernel_w = weight.shape
    height, width = (h + 2 * padding - kernel_h) // stride + 1, (w + 2 * padding - kernel_w) // stride + 1
    return _Convolution(stride, padding, (n, out, height, width))(x, weight)


def conv2d_transpose(y, weight, stride, padding, size):
    return _ToInput(stride, padding, size)(y, weight)


def leaky_relu(x, slope):
    return _Gate(x.shape)(ops.stop_gradient(x), x, _constant(slope))


def blur(x):
    return _Blur(x.shape)(x)


def norm(x, gain, bias, epsilon):
    return _Norm(x.shape)(x, gain, bias, _constant(epsilon))


def adam(gradient, weights, m, v, scalars):
    tensors = _tensors(scalars)
    return _Kernel("adam", (weights.shape,) * 3)(gradient, weights, m, v, *tensors)


def adam_in_place(weights, m, v, gradient, scale, scalars, own):
    tensors = _tensors(scalars)
    return _InPlace("adam_in_place")(weights, m, v, gradient, scale, *tensors, *own)


def average_in_place(average, x, keep):
    return _InPlace("average_in_place")(average, x, keep)


def spread_in_place(flat, weights):
    return _InPlace("spread_in_place")(flat, *weights)


def all_finite(x):
    return _Kernel("all_finite", (1,))(x)[0] > 0


def _tensors(scalars):
    tensors = ()
    for scalar in scalars:
        tensors += (scalar if isinstance(scalar, ms.Tensor) else _constant(scalar),)
    return tensors


@ops.constexpr
def _constant(value):
    return ms.Tensor(np.full(1, value, np.float32))
