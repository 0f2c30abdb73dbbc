"""DALL·E 2's networks (arXiv:2204.06125): two towers that know which text goes with which image, the prior's causal
transformer, and what conditions the decoder's U-Net on an embedding of an image."""

import math
from collections.abc import Sequence

import mindspore as ms
from mindspore import nn as ms_nn
from mindspore import ops

from ganfleet import nn
from ganfleet.strategies.imagen.networks import PooledText

FIRST_SCALE, LARGEST_SCALE = math.log(1 / 0.07), math.log(100.0)  # CLIP's (arXiv:2103.00020, section 2.5)


def unit(x):
    """(n, features) → the same with length 1."""
    return x / ops.sqrt((x * x).sum(-1, keepdims=True) + 1e-12)


class ImageTower(ms_nn.Cell):
    """Images (n, channels, h, w) → embeddings (n, features) of length 1: residual blocks, each level half the size of
    the one before, then the mean over pixels and a layer."""

    def __init__(self, channels: int, widths: Sequence[int], features: int):
        super().__init__()
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        before, blocks = widths[0], []
        for wide in widths:
            blocks += [nn.ResidualBlock(before, wide), nn.ResidualBlock(wide, wide, resample="down")]
            before = wide
        self.blocks = ms_nn.CellList(blocks)
        self.norm, self.last = nn.GroupNorm(before), nn.Dense(before, features)

    def construct(self, image):
        x = self.first(image)
        for block in self.blocks:
            x = block(x)
        return unit(self.last(ops.silu(self.norm(x)).mean((2, 3))))


class TextTower(PooledText):
    """Tokens (n, s, features_in) and their mask (n, s) → embeddings (n, features) of length 1."""

    def __init__(self, features_in: int, width: int, heads: int, features: int):
        super().__init__(features_in, features, width, heads, hidden=width)

    def construct(self, text, mask):
        return unit(self.pooled(text, mask))


class Scale(ms_nn.Cell):
    """The learned factor of dot products, at most 100."""

    def __init__(self):
        super().__init__()
        self.log = nn.parameter("log", (1,), nn.Constant(FIRST_SCALE))

    def construct(self, x):
        return x * ops.exp(ops.minimum(self.log, LARGEST_SCALE))


class PriorTransformer(ms_nn.Cell):
    """A noised embedding (n, features) at times (n,), its caption and the caption's embedding → the embedding.

    The sequence is the paper's: tokens of the caption, its embedding, the time, the noised embedding, and a learned
    query, whose place gives the prediction. No token sees a later one.
    """

    def __init__(self, text_features: int, tokens: int, features: int, width: int, depth: int, heads: int):
        super().__init__()
        self.words, self.caption = nn.Dense(text_features, width), nn.Dense(features, width)
        self.time, self.noised = nn.TimeEmbedding(width, width), nn.Dense(features, width)
        self.query = nn.Embedding(1, width, init=nn.Normal(0.02))
        self.positions = nn.parameter("positions", (tokens + 4, width), nn.Normal(0.01))
        self.blocks = ms_nn.CellList([nn.TransformerBlock(width, heads, causal=True) for _ in range(depth)])
        self.norm, self.last = nn.LayerNorm(width), nn.Dense(width, features)

    def construct(self, z_t, t, text, caption):
        n = z_t.shape[0]
        query = self.query(ops.zeros((n,), ms.int32))
        last = ops.concat((self.caption(caption), self.time(t), self.noised(z_t), query), 1).reshape(n, 4, -1)
        x = ops.concat((self.words(text), last), 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.last(self.norm(x[:, -1]))


class EmbeddedImage(ms_nn.Cell):
    """Embeddings (n, features) → what is added to the embedding of time (n, out_features), and four tokens
    (n, 4, token_features) to stand behind those of the caption."""

    TOKENS = 4

    def __init__(self, features: int, out_features: int, token_features: int):
        super().__init__()
        self.scale = math.sqrt(features)  # so that a feature of an embedding of length 1 is about 1
        self.condition = nn.Dense(features, out_features)
        self.tokens = nn.Dense(features, self.TOKENS * token_features)

    def construct(self, z):
        z = z * self.scale
        return self.condition(z), self.tokens(z).reshape(z.shape[0], self.TOKENS, -1)
