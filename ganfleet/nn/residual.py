"""The residual block of diffusion's U-Nets, conditioned by scale and shift, which also doubles or halves an image."""

from mindspore import nn, ops

from ganfleet.nn.conv import Conv2d
from ganfleet.nn.dense import Dense
from ganfleet.nn.init import Constant
from ganfleet.nn.norm import GroupNorm
from ganfleet.nn.resample import downsample, upsample


class ResidualBlock(nn.Cell):
    """(n, in, h, w) → (n, out, h, w): group norm, SiLU and a 3x3 convolution, twice, beside a shortcut.

    ``resample`` "up" or "down" doubles or halves both the shortcut and the first convolution's input
    (arXiv:1809.11096). With ``embedding_features`` the second norm is scaled and shifted by what a layer makes of an
    embedding (n, embedding_features), which comes activated (arXiv:2105.05233, AdaGN). The last convolution starts
    at zero, so the block starts as its shortcut.
    """

    recomputable = True

    def __init__(self, in_channels, out_channels, embedding_features=None, resample=None):
        super().__init__()
        self.resample = resample
        self.norm, self.conv = GroupNorm(in_channels), Conv2d(in_channels, out_channels, 3, padding=1)
        self.out_norm = GroupNorm(out_channels)
        self.out_conv = Conv2d(out_channels, out_channels, 3, padding=1, init=Constant(0.0))
        self.scale = self.shift = None
        if embedding_features is not None:
            self.scale = Dense(embedding_features, out_channels)
            self.shift = Dense(embedding_features, out_channels)
        self.shortcut = None if in_channels == out_channels else Conv2d(in_channels, out_channels, 1)

    def construct(self, x, embedding=None):
        y = ops.silu(self.norm(x))
        if self.resample == "up":
            x, y = upsample(x), upsample(y)
        elif self.resample == "down":
            x, y = downsample(x), downsample(y)
        y = self.conv(y)
        y = self.out_norm(y) if self.scale is None else self.out_norm(y, self.scale(embedding), self.shift(embedding))
        y = self.out_conv(ops.silu(y))
        return y + (x if self.shortcut is None else self.shortcut(x))
