"""Blocks of transformers (arXiv:1706.03762) whose norms come first (arXiv:2002.04745)."""

from mindspore import nn

from ganfleet.nn.activation import gelu
from ganfleet.nn.attention import Attention
from ganfleet.nn.dense import Dense
from ganfleet.nn.norm import LayerNorm


class TransformerBlock(nn.Cell):
    """x + attention(norm(x)), then with a context x + attention(norm(x), context), then x + MLP(norm(x)); (n, t,
    features), same shape out.

    The MLP has ``expansion`` times as many hidden features, and GELU between its layers.
    """

    recomputable = True

    def __init__(self, features, heads, context_features=None, causal=False, expansion=4):
        super().__init__()
        self.norm = LayerNorm(features)
        self.attention = Attention(features, heads, causal=causal)
        self.crosses = context_features is not None
        if self.crosses:
            self.cross_norm = LayerNorm(features)
            self.cross_attention = Attention(features, heads, context_features)
        self.mlp_norm = LayerNorm(features)
        self.up = Dense(features, expansion * features)
        self.down = Dense(expansion * features, features)

    def construct(self, x, context=None, context_mask=None):
        x = x + self.attention(self.norm(x))
        if self.crosses:
            x = x + self.cross_attention(self.cross_norm(x), context, context_mask)
        return x + self.down(gelu(self.up(self.mlp_norm(x))))
