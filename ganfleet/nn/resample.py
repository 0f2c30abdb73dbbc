"""Resampling by two, in forms with a second derivative (MindSpore's own interpolation and pooling have none)."""

import mindspore as ms
import numpy as np
from mindspore import ops

BINOMIAL = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16


def upsample(x):
    """Nearest neighbour: (n, c, h, w) → (n, c, 2h, 2w)."""
    n, c, h, w = x.shape
    return ops.broadcast_to(x.reshape(n, c, h, 1, w, 1), (n, c, h, 2, w, 2)).reshape(n, c, 2 * h, 2 * w)


def downsample(x):
    """Mean of each 2×2 block: (n, c, h, w), h and w even → (n, c, h/2, w/2)."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


def blur(x):
    """Low-pass filter: [1, 2, 1] / 4 along h and along w, zero-padded, same shape out (arXiv:1812.04948).

    Up to 64x64 by matrix products, which take half the time of a depthwise convolution on a CPU; on Ascend, too, they
    run on the matrix unit, a depthwise convolution does not.
    """
    n, c, h, w = x.shape
    if h * w > 64 * 64:  # not max(h, w), which breaks the compilation of second derivatives
        kernel = ops.broadcast_to(ms.Tensor(BINOMIAL), (c, 1, 3, 3))
        return ops.conv2d(x, kernel, pad_mode="pad", padding=1, groups=c)
    along_w = ops.matmul(x.reshape(n * c * h, w), _blur_matrix(w))
    # A product from the left, of every image at once: a 1x1 convolution that takes rows for channels.
    along_h = ops.Conv2D(h, 1)(along_w.reshape(n * c, h, 1, w), _blur_matrix(h).reshape(h, h, 1, 1))
    return along_h.reshape(n, c, h, w)


@ops.constexpr
def _blur_matrix(side):
    taps = 2 * np.eye(side) + np.eye(side, k=1) + np.eye(side, k=-1)
    return ms.Tensor((taps / 4).astype(np.float32))
