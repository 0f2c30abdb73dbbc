"""The kernels as operators for graphs. Each one's gradient is made of the others, so derivatives of any order exist."""

import mindspore as ms
import numpy as np
from mindspore import ops

# Set by ``ganfleet.nn.cpu.use``. They are plain values here, so that they count in the name of a stored graph.
STOCK = "stock"
FORM = STOCK
LIBRARY = ""


class _Kernel(ops.Custom):
    """MindSpore takes operators with equal attributes for one. So the shape is an attribute; and a ``bprop`` takes all
    shapes from its arguments, as it may be called for another operator of the same name."""

    def __init__(self, name, shape, bprop):
        super().__init__(f"{LIBRARY}:{name}", shape, ms.float32, "aot", bprop)
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


@ops.constexpr
def _constant(value):
    return ms.Tensor(np.full(1, value, np.float32))
