"""The U-Net that predicts noise (arXiv:2006.11239), as arXiv:2105.05233, GLIDE and Imagen's base model have it."""

from collections.abc import Sequence

from mindspore import nn as ms_nn
from mindspore import ops

from ganfleet import nn


class UNet(ms_nn.Cell):
    """Noisy images (n, in_channels, h, w) at times (n,) → (n, out_channels, h, w).

    Level i has ``width · multipliers[i]`` channels, ``blocks`` residual blocks on the way down and one more on the way
    up, and half the pixels of the level before. Those at a height in ``attention`` have attention among pixels, with
    ``context_features`` to the tokens of a context too; so has the middle, unless ``attention`` is empty. Heads have
    ``head_width`` channels.

    ``embedding`` is the number of features of what conditions the blocks: that of time, plus what is added to it.
    With ``patch`` p, each p x p pixels of an image are one of the first level's (arXiv:2301.11093), which
    saves most of the work; ``height`` is that of images.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int,
        multipliers: Sequence[int],
        blocks: int,
        attention: Sequence[int],
        height: int,
        head_width: int = 64,
        context_features: int | None = None,
        embedding: int | None = None,
        patch: int = 1,
    ):
        super().__init__()
        embedding = embedding or 4 * width
        self.patch = patch
        self.time = nn.TimeEmbedding(width, embedding)
        self.first = nn.Conv2d(in_channels * patch**2, width, 3, padding=1)
        heights = [height // patch // 2**i for i in range(len(multipliers))]
        widths = [width * each for each in multipliers]

        def unit(fan_in, fan_out, at, resample=None, attends=None):
            attends = at in attention if attends is None else attends
            heads = max(1, fan_out // head_width) if attends else 0
            return Unit(fan_in, fan_out, embedding, resample, heads, context_features)

        down, skips, now = [], [width], width
        for i, (at, wide) in enumerate(zip(heights, widths, strict=True)):
            for _ in range(blocks):
                down.append(unit(now, wide, at))
                now = wide
                skips.append(now)
            if i + 1 < len(widths):
                down.append(unit(now, now, at, "down", attends=False))
                skips.append(now)
        middle = [unit(now, now, heights[-1], attends=bool(attention)), unit(now, now, heights[-1], attends=False)]
        up, joins = [], []
        for i, (at, wide) in reversed(list(enumerate(zip(heights, widths, strict=True)))):
            for _ in range(blocks + 1):
                up.append(unit(now + skips.pop(), wide, at))
                joins.append(True)
                now = wide
            if i:
                up.append(unit(now, now, at, "up", attends=False))
                joins.append(False)
        self.down, self.middle, self.up = ms_nn.CellList(down), ms_nn.CellList(middle), ms_nn.CellList(up)
        self.joins = tuple(joins)
        self.norm = nn.GroupNorm(now)
        self.last = nn.Conv2d(now, out_channels * patch**2, 3, padding=1, init=nn.Constant(0.0))

    def construct(self, x, t, condition=None, context=None, context_mask=None):
        """``condition`` (n, embedding) is added to the embedding of time; ``context`` (n, s, context_features) are
        tokens, those with 1 in ``context_mask`` (n, s) to be seen."""
        embedding = self.time(t)
        embedding = ops.silu(embedding if condition is None else embedding + condition)
        x = self.first(x if self.patch == 1 else nn.space_to_depth(x, self.patch))
        skips = (x,)
        for unit in self.down:
            x = unit(x, embedding, context, context_mask)
            skips = (*skips, x)
        for unit in self.middle:
            x = unit(x, embedding, context, context_mask)
        left = len(skips)
        for i in range(len(self.up)):
            if self.joins[i]:
                left = left - 1
                x = ops.concat((x, skips[left]), 1)
            x = self.up[i](x, embedding, context, context_mask)
        x = self.last(ops.silu(self.norm(x)))
        return x if self.patch == 1 else nn.depth_to_space(x, self.patch)


class Unit(ms_nn.Cell):
    """A residual block, and behind it, where there are ``heads``, attention among pixels and to a context."""

    def __init__(self, in_channels, out_channels, embedding, resample=None, heads=0, context_features=None):
        super().__init__()
        self.block = nn.ResidualBlock(in_channels, out_channels, embedding, resample)
        self.attention = nn.PixelAttention(out_channels, heads, context_features) if heads else None

    def construct(self, x, embedding, context, context_mask):
        x = self.block(x, embedding)
        return x if self.attention is None else self.attention(x, context, context_mask)
