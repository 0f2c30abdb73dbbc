"""Imagen's networks (arXiv:2205.11487): what conditions a U-Net on text, and the Efficient U-Net of its appendix B."""

import math
from collections.abc import Sequence
from itertools import pairwise

import mindspore as ms
from mindspore import nn as ms_nn
from mindspore import ops

from ganfleet import nn

SQRT_HALF = math.sqrt(0.5)


class PooledText(ms_nn.Cell):
    """Tokens (n, s, features) and their mask (n, s) → (n, out_features): attention of one learned query to the
    normalised tokens, then two layers with ``hidden`` features between them, by default ``out_features``. Without
    tokens to see, the query sees their mean, which is then that of nothing."""

    def __init__(self, features: int, out_features: int, width: int, heads: int, hidden: int | None = None):
        super().__init__()
        self.norm = nn.LayerNorm(features)
        self.query = nn.Embedding(1, width)
        self.attention = nn.Attention(width, heads, context_features=features)
        hidden = hidden or out_features
        self.first, self.last = nn.Dense(width, hidden), nn.Dense(hidden, out_features)

    def construct(self, text, mask):
        return self.pooled(text, mask)

    def pooled(self, text, mask):
        n = text.shape[0]
        query = self.query(ops.zeros((n,), ms.int32)).reshape(n, 1, -1)
        seen = self.attention(query, self.norm(text), mask)
        return self.last(ops.silu(self.first(seen.reshape(n, -1))))


class Level(ms_nn.Cell):
    """Residual blocks of one size of image, and behind them attention where there are ``heads``."""

    def __init__(self, in_channels, channels, blocks, embedding, heads, features, joint):
        super().__init__()
        widths = [in_channels, *[channels] * blocks]
        self.blocks = ms_nn.CellList([nn.ResidualBlock(a, b, embedding) for a, b in pairwise(widths)])
        self.attention = nn.PixelAttention(channels, heads, features, joint) if heads else None

    def construct(self, x, embedding, text, mask):
        for block in self.blocks:
            x = block(x, embedding)
        return x if self.attention is None else self.attention(x, text, mask)


class EfficientUNet(ms_nn.Cell):
    """Noisy images (n, in_channels, h, w) at times (n,) → (n, out_channels, h, w).

    Each level halves the image before its ``depths[i]`` blocks of ``widths[i]`` channels on the way down, and doubles
    it behind as many on the way up, so that most parameters and little work are at low resolutions. A level on the way
    up sees what the one on the way down gave, times 1/√2. The last level attends to text, with ``joint`` among its
    pixels too.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int],
        depths: Sequence[int],
        features: int,
        heads: int = 8,
        joint: bool = True,
        embedding: int | None = None,
    ):
        super().__init__()
        embedding = embedding or 4 * widths[0]
        self.time = nn.TimeEmbedding(widths[0], embedding)
        self.first = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        halve, down, up, double = [], [], [], []
        before = widths[0]
        for i, (wide, deep) in enumerate(zip(widths, depths, strict=True)):
            last = i + 1 == len(widths)
            here = heads if last else 0
            halve.append(nn.Conv2d(before, wide, 3, stride=2, padding=1))
            down.append(Level(wide, wide, deep, embedding, here, features, joint))
            up.append(Level(2 * wide, wide, deep, embedding, here, features, joint))
            double.append(nn.Conv2d(wide, before, 3, padding=1))
            before = wide
        self.halve, self.down = ms_nn.CellList(halve), ms_nn.CellList(down)
        self.up, self.double = ms_nn.CellList(up[::-1]), ms_nn.CellList(double[::-1])
        self.norm = nn.GroupNorm(widths[0])
        self.last = nn.Conv2d(widths[0], out_channels, 3, padding=1, init=nn.Constant(0.0))

    def construct(self, x, t, condition, text, mask):
        """``condition`` (n, embedding) is added to the embedding of time; ``text`` (n, s, features) are tokens, those
        with 1 in ``mask`` (n, s) to be seen."""
        embedding = ops.silu(self.time(t) + condition)
        x = self.first(x)
        skips = ()
        for i in range(len(self.down)):
            x = self.down[i](self.halve[i](x), embedding, text, mask)
            skips = (*skips, x)
        levels = len(self.up)
        for i in range(levels):
            skip = skips[levels - 1 - i] * SQRT_HALF
            x = self.up[i](ops.concat((x, skip), 1), embedding, text, mask)
            x = self.double[i](nn.upsample(x))
        return self.last(ops.silu(self.norm(x)))
