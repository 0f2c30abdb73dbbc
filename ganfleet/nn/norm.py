"""Normalisations. Batch norm's running moments are those of the global batch: a buffer of the layer."""

import math

import mindspore as ms
from mindspore import nn, ops

from ganfleet.nn import forms
from ganfleet.nn.buffer import Buffer
from ganfleet.nn.init import Constant, parameter


def batch_moments(x):
    """Mean and biased variance of ``x`` over all but axis 1, each (channels,)."""
    axes = (0, *range(2, x.ndim))
    mean = forms.mean(x, axes, True)
    return mean.reshape(-1), forms.mean((x - mean) * (x - mean), axes)


class BatchNorm(nn.Cell):
    """Batch normalisation (arXiv:1502.03167) over all but axis 1: (n, channels) or (n, channels, h, w), same shape out.

    In training it normalises with the moments of the lane's batch, in evaluation with the running ones: the buffer
    ``moments`` (2, channels), mean and unbiased variance, which move by ``momentum`` once per phase.

    ``init`` is the gain's, by default 1; the bias starts at zero. Training needs two values per channel or more.
    """

    def __init__(self, channels, momentum=0.1, eps=1e-5, init=None):
        super().__init__()
        self.moments = Buffer((2, channels), ((0.0,), (1.0,)), momentum)
        self.gain = parameter("gain", (channels,), init or Constant(1.0))
        self.bias = parameter("bias", (channels,), Constant(0.0))
        # momentum 0: the operator writes back the running moments it is given.
        self.by_batch = ops.BatchNorm(is_training=True, epsilon=eps, momentum=0.0)
        # What this operator keeps for its gradient is only known on a CPU; elsewhere the moments are computed.
        self.keeps_moments = ms.get_context("device_target") == "CPU"
        self.eps = eps

    def construct(self, x):
        mean, variance = self.moments.value[0], self.moments.value[1]
        if not self.training:
            return forms.norm_by(x, self.gain, self.bias, mean, variance, self.eps)
        if forms.has_norm(x.dtype):
            y, mean, variance = forms.norm(x, self.gain, self.bias, self.eps)
        else:
            y, _, _, mean, variance = self.by_batch(x, self.gain, self.bias, mean, variance)
        if not self.keeps_moments:
            mean, variance = batch_moments(ops.stop_gradient(x))
        self.count_batch(mean, variance, x.size // x.shape[1])
        return y

    def count_batch(self, mean, variance, n):
        """Count one batch's ``mean`` and biased ``variance``, each (channels,), over ``n`` values per channel."""
        if n < 2:
            raise ValueError("Batch norm in training needs two values per channel or more; this lane has one sample.")
        unbiased = variance * (n / (n - 1))
        self.moments.add(ops.concat((mean, unbiased)))


def pixel_norm(x, eps=1e-8):
    """x / √(E x² + eps) over axis 1, the channels (arXiv:1710.10196); any shape, same shape out."""
    return x * ops.rsqrt(forms.mean(x * x, 1, True) + eps)


class InstanceNorm(nn.Cell):
    """Mean 0 and variance 1 for each sample and channel (arXiv:1607.08022), then times ``gain`` plus ``bias``.

    The input is (n, c, h, w), same shape out; ``gain`` and ``bias`` are (n, c), by default 1 and 0. It is batch norm's
    operator on one sample of n·c channels: on a CPU three times as fast as the means and products it stands for. The
    operator is declared free of side effects, which it is without running moments to write; otherwise a graph is kept
    in order around each call, and one with forty calls takes four times as long to compile.
    """

    def __init__(self, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.norm = ops.BatchNorm(is_training=True, epsilon=eps, momentum=0.0)
        self.norm.add_prim_attr("side_effect_mem", False)
        self.norm.set_signatures(())

    def construct(self, x, gain=None, bias=None):
        n, c, h, w = x.shape
        zeros, ones = ops.zeros((n * c,), ms.float32), ops.ones((n * c,), ms.float32)
        gain = ones if gain is None else gain.reshape(n * c)
        bias = zeros if bias is None else bias.reshape(n * c)
        flat = x.reshape(1, n * c, h, w)
        if forms.has_norm(x.dtype):
            y = forms.norm(flat, gain, bias, self.eps)[0]
        else:
            y = self.norm(flat, gain, bias, zeros, ones)[0]
        return y.reshape(n, c, h, w)


class GroupNorm(nn.Cell):
    """Mean 0 and variance 1 for each sample and group of channels (arXiv:1803.08494), then times gain plus bias.

    (n, channels, h, w), same shape out; a channel's gain starts at 1, its bias at 0. ``scale`` and ``shift``, each
    (n, channels), condition it: the result is (1 + scale) · y + shift (arXiv:2105.05233). By default there are 32
    groups, or fewer, so that each has four channels or more: the largest power of two that divides the channels so.
    """

    def __init__(self, channels, groups=None, eps=1e-5):
        super().__init__()
        self.groups = groups or _groups(channels)
        self.norm = InstanceNorm(eps)
        self.gain = parameter("gain", (channels,), Constant(1.0))
        self.bias = parameter("bias", (channels,), Constant(0.0))

    def construct(self, x, scale=None, shift=None):
        n, c, h, w = x.shape
        y = self.norm(x.reshape(n, self.groups, c // self.groups * h, w)).reshape(n, c, h, w)
        gain, bias = self.gain.reshape(1, c), self.bias.reshape(1, c)
        if scale is not None:
            gain, bias = gain * (1 + scale), bias * (1 + scale) + shift
        return y * gain.reshape(-1, c, 1, 1) + bias.reshape(-1, c, 1, 1)


def _groups(channels: int) -> int:
    groups = math.gcd(channels, 32)
    while groups > 1 and channels // groups < 4:
        groups //= 2
    return groups


class LayerNorm(nn.Cell):
    """Mean 0 and variance 1 over the last axis (arXiv:1607.06450), then times gain plus bias; same shape out.

    The gain starts at 1, the bias at 0.
    """

    def __init__(self, features, eps=1e-5):
        super().__init__()
        self.gain = parameter("gain", (features,), Constant(1.0))
        self.bias = parameter("bias", (features,), Constant(0.0))
        self.norm = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=eps)

    def construct(self, x):
        return self.norm(x, self.gain, self.bias)[0]


class RMSNorm(nn.Cell):
    """x / √(E x² + eps) over the last axis, times gain (arXiv:1910.07467); same shape out. The gain starts at 1."""

    def __init__(self, features, eps=1e-6):
        super().__init__()
        self.eps = eps
        self.gain = parameter("gain", (features,), Constant(1.0))

    def construct(self, x):
        return x * ops.rsqrt(forms.mean(x * x, -1, True) + self.eps) * self.gain


class LaneNorm(nn.Cell):
    """Batch norm without running moments: (n, channels, h, w), same shape out, times a gain plus a bias per channel.

    In training it normalises with the moments of the lane's batch, in evaluation with those of each image by itself.
    The two are one where a lane has one image. ``init`` is the gain's, by default 1; the bias starts at zero.
    """

    def __init__(self, channels, eps=1e-5, init=None):
        super().__init__()
        self.gain = parameter("gain", (channels,), init or Constant(1.0))
        self.bias = parameter("bias", (channels,), Constant(0.0))
        self.by_image = InstanceNorm(eps)

    def construct(self, x):
        n, c, h, w = x.shape
        if self.training:  # as one image whose height is that of all
            x = x.transpose(1, 0, 2, 3).reshape(1, c, n * h, w)
            y = self.by_image(x, self.gain.reshape(1, c), self.bias.reshape(1, c))
            return y.reshape(c, n, h, w).transpose(1, 0, 2, 3)
        gain, bias = ops.broadcast_to(self.gain, (n, c)), ops.broadcast_to(self.bias, (n, c))
        return self.by_image(x, gain, bias)
