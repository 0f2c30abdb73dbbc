"""Resampling by two, in forms with a second derivative (MindSpore's own interpolation and pooling have none)."""

from mindspore import ops

from ganfleet.nn import forms


def upsample(x):
    """Nearest neighbour: (n, c, h, w) → (n, c, 2h, 2w)."""
    n, c, h, w = x.shape
    return ops.broadcast_to(x.reshape(n, c, h, 1, w, 1), (n, c, h, 2, w, 2)).reshape(n, c, 2 * h, 2 * w)


def downsample(x):
    """Mean of each 2×2 block: (n, c, h, w), h and w even → (n, c, h/2, w/2)."""
    n, c, h, w = x.shape
    return forms.mean(x.reshape(n, c, h // 2, 2, w // 2, 2), (3, 5))


def blur(x):
    """Low-pass filter: [1, 2, 1] / 4 along h and along w, zero-padded, same shape out (arXiv:1812.04948)."""
    return forms.blur(x)


def space_to_depth(x, side):
    """A pixel out of each patch of ``side`` x ``side``: (n, c, h, w) → (n, c·side², h/side, w/side)."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // side, side, w // side, side).transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(n, c * side * side, h // side, w // side)


def depth_to_space(x, side):
    """The way back: (n, c·side², h, w) → (n, c, h·side, w·side)."""
    n, c, h, w = x.shape
    x = x.reshape(n, c // (side * side), side, side, h, w).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c // (side * side), h * side, w * side)
