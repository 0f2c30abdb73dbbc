"""Layers that ganfleet and PyTorch do not both have, in the quickest form that PyTorch has for them on a CPU."""

import math

import torch
from torch import nn
from torch.nn import functional as F

SQRT2 = math.sqrt(2)


def leaky_relu(x):
    return F.leaky_relu(x, 0.2)


def pixel_norm(x):
    return x * torch.rsqrt((x * x).mean(1, keepdim=True) + 1e-8)


def upsample(x):
    return F.interpolate(x, scale_factor=2)


def downsample(x):
    return F.avg_pool2d(x, 2)


def blur(x):
    taps = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


def instance_norm(x, eps, gain=None, bias=None):
    """Of each sample and channel; ``gain`` and ``bias`` are (n, c)."""
    n, c, h, w = x.shape
    gain, bias = (None if each is None else each.reshape(n * c) for each in (gain, bias))
    return F.batch_norm(x.reshape(1, n * c, h, w), None, None, gain, bias, True, 0, eps).reshape(n, c, h, w)


def minibatch_stddev(x, group):
    n, _, h, w = x.shape
    group = min(group, n)
    deviations = (x.reshape(group, n // group, -1).var(0, unbiased=False) + 1e-8).sqrt().mean(1)
    return torch.cat((x, deviations.repeat(group).reshape(n, 1, 1, 1).expand(n, 1, h, w)), 1)


class EqualizedDense(nn.Module):
    def __init__(self, inputs, outputs, gain=SQRT2, lr_multiplier=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale, self.lr_multiplier = gain / math.sqrt(inputs) * lr_multiplier, lr_multiplier

    def forward(self, x):
        bias = self.bias if self.lr_multiplier == 1 else self.bias * self.lr_multiplier
        return F.linear(x, self.weight * self.scale, bias)


class EqualizedConv2d(nn.Module):
    """``resample`` enlarges the input or reduces the output, in one strided convolution as in NVIDIA's StyleGAN."""

    def __init__(self, inputs, outputs, kernel, gain=SQRT2, resample=None, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale, self.resample, self.padding = gain / math.sqrt(inputs * kernel**2), resample, kernel // 2

    def forward(self, x):
        if self.resample == "up":
            weight = spread(self.weight.flip(2, 3) * self.scale).transpose(0, 1)
            return F.conv_transpose2d(x, weight, self.bias, stride=2, padding=self.padding)
        if self.resample == "down":
            return F.conv2d(x, spread(self.weight * (self.scale / 4)), self.bias, stride=2, padding=self.padding)
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.padding)


def spread(weight):
    """The sum of the four shifts of ``weight`` by a pixel or none: its kernel grows by one."""
    w = F.pad(weight, (1, 1, 1, 1))
    return w[..., 1:, 1:] + w[..., :-1, 1:] + w[..., 1:, :-1] + w[..., :-1, :-1]
