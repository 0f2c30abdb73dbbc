"""The one table of operators that have more than one form: MindSpore's own, a CPU's (``ganfleet.nn.cpu``), and Ascend's
(``ganfleet.nn.ascend``).

The choice is made when a graph is compiled, from the device, the type and the geometry.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import mindspore as ms
import numpy as np
from mindspore import mint, nn, ops
from mindspore.ops.operations._grad_ops import SoftplusGrad

from ganfleet.errors import ConfigError

if ms.get_context("device_target") == "CPU":
    from ganfleet.nn import cpu as kernels
    from ganfleet.nn.cpu import operators as cpu

    ascend = None
else:
    cpu = None
    from ganfleet.nn import ascend

STOCK = "stock"
BINOMIAL = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16


def _device() -> str:
    """What graphs are compiled for: ``CPU`` or ``Ascend``."""
    return ms.get_context("device_target")


def form() -> str:
    """The name of the form in force, "stock" for MindSpore's own. The same form gives the same bits."""
    return kernels.form() if cpu is not None and _device() == "CPU" else STOCK


def use(name: str | None = None) -> str:
    """Have graphs compiled from now on use the form ``name``, by default the best there is here; returns its name.

    Raises:
        ConfigError: this machine cannot run it.
    """
    if cpu is not None and _device() == "CPU":
        return kernels.use(name)
    if name not in (None, STOCK):
        raise ConfigError(f"{name!r} is a form of CPUs, and this is {_device()}")
    return STOCK


@contextmanager
def using(name: str) -> Iterator[None]:
    """While it lasts, graphs are compiled in the form ``name``."""
    before = form()
    use(name)
    try:
        yield
    finally:
        use(before)


@ops.constexpr
def _own(dtype, stride=1, padding=0):
    """Whether the CPU's own form can do it."""
    return dtype == ms.float32 and stride <= 2 and padding <= 3 and form() != STOCK


@ops.constexpr
def joins_batches():
    """Whether a network is asked once about what it was asked twice about before: fewer operators, and other bits.

    Older releases knew the stock form only, and their runs go on to the same bits.
    """
    return form() != STOCK


@ops.constexpr
def _on_card():
    """Whether graphs are compiled for Ascend."""
    return _device() == "Ascend"


@ops.constexpr
def branches():
    """Whether a graph may have a branch that is decided when it runs. Ascend's kernel by kernel execution has none."""
    return _device() == "CPU"


def new_or_old(finite, new, old):
    """``new`` where ``finite`` () is true or None, ``old`` elsewhere."""
    return new if finite is None else ops.where(finite, new, old)


def conv2d(x, weight, stride=1, padding=0):
    """(n, in, h, w), (out, in, kh, kw) → (n, out, ⌊(h + 2·padding − kh) / stride⌋ + 1, …), zero-padded."""
    if _own(x.dtype, stride, padding):
        return cpu.conv2d(x, weight, stride, padding)
    if _on_card():
        return ascend.conv2d(x, weight, stride, padding)
    return ops.Conv2D(weight.shape[0], weight.shape[2:], pad_mode="pad", pad=padding, stride=stride)(x, weight)


def conv2d_transpose(y, weight, size, stride=1, padding=0):
    """(n, out, h, w), (out, in, kh, kw) → ``size``, (n, in, …): the adjoint of ``conv2d`` for that weight."""
    if _own(y.dtype, stride, padding):
        return cpu.conv2d_transpose(y, weight, stride, padding, size)
    if _on_card():
        return ascend.conv2d_transpose(y, weight, size, stride, padding)
    # MindSpore names this operator's channels after the convolution it is the adjoint of.
    operator = ops.Conv2DTranspose(weight.shape[0], weight.shape[2:], pad_mode="pad", pad=padding, stride=stride)
    return operator(y, weight, size)


@ops.constexpr
def has_norm(dtype):
    """Whether ``norm`` can be called; elsewhere layers of norms are MindSpore's operator."""
    return dtype == ms.float32 and (form() != STOCK or _device() == "Ascend")


def norm(x, gain, bias, epsilon):
    """Batch norm of (n, c) or (n, c, h, w) by its own moments: (x − mean) · gain / √(variance + ε) + bias, and these
    moments, the variance biased; gain, bias and moments are (c,). There is no gradient by way of the moments returned.
    """
    return ascend.norm(x, gain, bias, epsilon) if _on_card() else cpu.norm(x, gain, bias, epsilon)


def norm_by(x, gain, bias, average, variance, epsilon):
    """Batch norm of (n, c) or (n, c, h, w) by given moments (c,): (x − average) · gain / √(variance + ε) + bias."""
    if _on_card():
        return ascend.norm_by(x, gain, bias, average, variance, epsilon)
    return ops.BatchNorm(is_training=False, epsilon=epsilon)(x, gain, bias, average, variance)[0]


def bias_add(x, bias):
    """(n, c) or (n, c, h, w), (c,) → x plus its channel's bias."""
    return ascend.bias_add(x, bias) if _on_card() else ops.bias_add(x, bias)


def mean(x, axes=None, keep_dims=False):
    """The mean over ``axes``, a number or a tuple, by default over all."""
    return ascend.mean(x, axes, keep_dims) if _on_card() else x.mean(axes, keep_dims)


def softplus(x):
    """log(1 + eˣ). On Ascend it has a first derivative only, which is all that a loss needs."""
    return ascend.softplus(x) if _on_card() else _softplus(x)


def log(x):
    """The natural logarithm."""
    return ops.log(x) if _on_card() else _log(x)


def power(x, exponent):
    """x to the power of a number."""
    if _on_card():
        return ops.pow(x, exponent)
    return ops.pow(x.astype(ms.float64), exponent).astype(x.dtype)


# MindSpore's CPU kernels of these compute what is left over of a block in another way than the rest, and choose their
# blocks by how long they take. Those of float64 do not, nor do gradients that are made of x.
class _Log(nn.Cell):
    def __init__(self):
        super().__init__(auto_prefix=False)

    def construct(self, x):
        return ops.log(x.astype(ms.float64)).astype(x.dtype)

    def bprop(self, x, out, dout):
        return (dout / x,)


class _Softplus(nn.Cell):
    def __init__(self):
        super().__init__(auto_prefix=False)
        self.gradient = SoftplusGrad()

    def construct(self, x):
        return ops.relu(x) + ops.log1p(ops.exp(-ops.abs(x)))

    def bprop(self, x, out, dout):
        return (ops.where(x > 20, dout, self.gradient(dout, x)),)


_log, _softplus = _Log(), _Softplus()


def reflection_pad(x, border):
    """See ``nn.reflection_pad``."""
    if _on_card():
        return ascend.reflection_pad(x, border)
    return ops.MirrorPad("REFLECT")(x, ms.Tensor(np.array([[0, 0], [0, 0], [border, border], [border, border]])))


def span(x, start, stop):
    """x[start:stop] of a vector."""
    return ascend.span(x, start, stop) if _on_card() else x[start:stop]


def all_finite(x):
    """Whether no value of a float32 vector is infinite or NaN, a bool tensor ()."""
    return cpu.all_finite(x) if _own(x.dtype) else ops.isfinite(x).all()


def checksums(tensors: Sequence[tuple[ms.Tensor, Sequence[int]]]) -> list[int]:
    """One number for each piece of ``tensors``, which come with the sizes of their pieces; called outside of graphs.

    A piece in which any one bit is flipped has another number. Both forms have this property, and other numbers. No
    tensor is copied to the host: on a CPU it is there, and elsewhere the device computes.
    """
    if _device() == "CPU":
        return [
            zlib.crc32(piece)
            for tensor, sizes in tensors
            for piece in np.split(tensor.asnumpy().reshape(-1), np.cumsum(sizes)[:-1])
        ]
    return checksums_on_device(tensors)


def checksums_on_device(tensors: Sequence[tuple[ms.Tensor, Sequence[int]]]) -> list[int]:
    """``checksums`` for cards: the sum of x (2x + 1) mod 2³² over the 32-bit words x of a piece, as an int32.

    x ↦ x (2x + 1) maps 32 bits one to one (RC6's function), so one changed word changes the sum.
    """
    sums = []
    for tensor, sizes in tensors:
        tensor = tensor if tensor.itemsize == 4 else tensor.astype(ms.float32)
        words = tensor.reshape(-1).view(ms.int32)
        # Summed as int64: MindSpore's int32 sum of a CPU saturates.
        sums += [piece.sum(dtype=ms.int64) for piece in mint.split(words * (words + words + 1), list(sizes))]
    return [int(each) for each in ops.stack(sums).asnumpy().astype(np.int32)]


def adam(gradient, weights, m, v, betas, step, epsilon):
    """Weights, m and v after Adam's update, all (P,): m and v are averages by ``betas``, then step · m / (√v + ε) is
    taken off. Scalars are numbers or tensors; both forms have the same bits.
    """
    beta1, beta2 = betas
    if _own(gradient.dtype):
        return cpu.adam(gradient, weights, m, v, (beta1, 1 - beta1, beta2, 1 - beta2, step, epsilon))
    m = moving_average(m, gradient, beta1)
    v = moving_average(v, gradient * gradient, beta2)
    return weights - step * (m / (ops.sqrt(v) + epsilon)), m, v


@ops.constexpr
def in_place():
    """Whether ``adam_in_place`` and ``spread_in_place`` can be called."""
    return form() != STOCK


def adam_in_place(weights, m, v, gradient, scale, betas, step, epsilon, own):
    """``adam`` by ``scale`` () times ``gradient``, which may be longer, on parameters that become what it returns. The
    parameters ``own`` become the new weights, which lie one behind the other in the vector.
    """
    beta1, beta2 = betas
    cpu.adam_in_place(weights, m, v, gradient, scale, (beta1, 1 - beta1, beta2, 1 - beta2, step, epsilon), own)


def spread_in_place(flat, weights):
    """The parameters ``weights`` become what lies one behind the other in ``flat``."""
    cpu.spread_in_place(flat, weights)


def average(parameter, x, keep):
    """The ``parameter`` (P,) becomes x + keep · (parameter − x)."""
    if in_place():
        cpu.average_in_place(parameter, x, keep)
    else:
        ops.assign(parameter, x + (parameter - x) * keep)


def moving_average(old, new, decay):
    """decay · old + (1 − decay) · new."""
    if isinstance(decay, ms.Tensor):
        return decay * old + (1 - decay) * new
    return new if decay == 0 else decay * old + (1 - decay) * new


def leaky_relu(x, slope):
    """x where x > 0, slope·x elsewhere, in any shape."""
    if _own(x.dtype):
        return cpu.leaky_relu(x, slope)
    # The gradient of the stock form, a maximum, is five times slower on a CPU.
    return (1 - slope) * ops.relu(x) + slope * x


def blur(x):
    """(n, c, h, w), same shape out: [1, 2, 1] / 4 along h and along w, zero-padded."""
    if _own(x.dtype):
        return cpu.blur(x)
    n, c, h, w = x.shape
    if h * w > 64 * 64:  # not max(h, w), which breaks the compilation of second derivatives
        kernel = ops.broadcast_to(ms.Tensor(BINOMIAL), (c, 1, 3, 3))
        return ops.conv2d(x, kernel, pad_mode="pad", padding=1, groups=c)
    # Matrix products: on Ascend, too, they run on the matrix unit, which a depthwise convolution does not.
    along_w = ops.matmul(x.reshape(n * c * h, w), _blur_matrix(w))
    # A product from the left, of every image at once: a 1x1 convolution that takes rows for channels.
    along_h = ops.Conv2D(h, 1)(along_w.reshape(n * c, h, 1, w), _blur_matrix(h).reshape(h, h, 1, 1))
    return along_h.reshape(n, c, h, w)


@ops.constexpr
def _blur_matrix(side):
    taps = 2 * np.eye(side) + np.eye(side, k=1) + np.eye(side, k=-1)
    return ms.Tensor((taps / 4).astype(np.float32))
