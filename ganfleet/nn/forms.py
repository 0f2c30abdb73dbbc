"""The one table of operators that have more than one form: MindSpore's own, and a CPU's (``ganfleet.nn.cpu``).

Ascend always runs MindSpore's. The choice is made when a graph is compiled, from the device, the type and the geometry.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import mindspore as ms
import numpy as np
from mindspore import ops

from ganfleet.errors import ConfigError

if ms.get_context("device_target") == "CPU":
    from ganfleet.nn import cpu as kernels
    from ganfleet.nn.cpu import operators as cpu
else:
    cpu = None

STOCK = "stock"
BINOMIAL = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16


def form() -> str:
    """The name of the form in force, "stock" for MindSpore's own. The same form gives the same bits."""
    return cpu.FORM if cpu is not None and ms.get_context("device_target") == "CPU" else STOCK


def use(name: str | None = None) -> str:
    """Have graphs compiled from now on use the form ``name``, by default the best there is here; returns its name.

    Raises:
        ConfigError: this machine cannot run it.
    """
    if cpu is not None and ms.get_context("device_target") == "CPU":
        return kernels.use(name)
    if name not in (None, STOCK):
        raise ConfigError(f"{name!r} is a form of CPUs, and this is {ms.get_context('device_target')}")
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


def conv2d(x, weight, stride=1, padding=0):
    """(n, in, h, w), (out, in, kh, kw) → (n, out, ⌊(h + 2·padding − kh) / stride⌋ + 1, …), zero-padded."""
    if _own(x.dtype, stride, padding):
        return cpu.conv2d(x, weight, stride, padding)
    return ops.Conv2D(weight.shape[0], weight.shape[2:], pad_mode="pad", pad=padding, stride=stride)(x, weight)


def conv2d_transpose(y, weight, size, stride=1, padding=0):
    """(n, out, h, w), (out, in, kh, kw) → ``size``, (n, in, …): the adjoint of ``conv2d`` for that weight."""
    if _own(y.dtype, stride, padding):
        return cpu.conv2d_transpose(y, weight, stride, padding, size)
    # MindSpore names this operator's channels after the convolution it is the adjoint of.
    operator = ops.Conv2DTranspose(weight.shape[0], weight.shape[2:], pad_mode="pad", pad=padding, stride=stride)
    return operator(y, weight, size)


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
