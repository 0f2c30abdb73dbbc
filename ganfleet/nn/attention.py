"""Attention (arXiv:1706.03762, section 3.2): of tokens among themselves, to a context, causal, and of pixels."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from ganfleet.nn.dense import Dense
from ganfleet.nn.init import Constant
from ganfleet.nn.norm import GroupNorm, LayerNorm
from ganfleet.nn.precision import lowered, raised

NEVER = -1e9  # added to a logit whose key is not to be seen; float32 keeps it finite, so no row becomes NaN


def attend(query, key, value, heads, added=None, scale=None, compute_type="float32"):
    """softmax(scale · Q·Kᵀ + added)·V for each head, the softmax in float32: (n, t, heads·d), (n, s, heads·d) and
    (n, s, heads·e) → (n, t, heads·e).

    ``added`` is broadcast to (n, heads, t, s): the masks of ``unseen`` and ``future``, or biases by position.
    ``scale`` is by default 1/√d. A query that may see no key gets the mean of all values.
    """
    n, t, features = query.shape
    if scale is None:
        scale = (features // heads) ** -0.5
    q, k, v = _parted(query * scale, heads), _parted(key, heads), _parted(value, heads)
    logits = ops.BatchMatMul(transpose_b=True)(lowered(q, compute_type), lowered(k, compute_type))
    logits = raised(logits, compute_type)
    if added is not None:
        logits = logits + added
    weights = ops.softmax(logits, -1)
    y = ops.BatchMatMul()(lowered(weights, compute_type), lowered(v, compute_type))
    return raised(y, compute_type).transpose(0, 2, 1, 3).reshape(n, t, -1)


def _parted(x, heads):
    n, t, _ = x.shape
    return x.reshape(n, t, heads, -1).transpose(0, 2, 1, 3)


def unseen(mask):
    """A mask (n, s), 1 for keys that may be seen and 0 for others, as what ``attend`` adds: (n, 1, 1, s)."""
    n, s = mask.shape
    return ((1 - mask) * NEVER).reshape(n, 1, 1, s)


@ops.constexpr
def future(t):
    """What ``attend`` adds so that no token sees a later one: (1, 1, t, t)."""
    return ms.Tensor(np.triu(np.full((1, 1, t, t), NEVER, np.float32), k=1))


class Attention(nn.Cell):
    """Multi-head attention on (n, t, features), same shape out.

    Without a context tokens see each other; with ``causal`` none sees a later one. With ``context_features`` they see
    a context (n, s, context_features) instead, and with ``joint`` both it and each other: its keys and values stand
    before their own (arXiv:2112.10741, section 3; arXiv:2205.11487). ``heads`` divides ``features``.

    ``init`` is that of the last layer's weight, such as ``Constant(0.0)`` for a block that starts as the identity.
    """

    compute_type = "float32"

    def __init__(self, features, heads, context_features=None, joint=False, causal=False, init=None):
        super().__init__()
        if features % heads:
            raise ValueError(f"{features} features cannot be shared among {heads} heads: choose a divisor")
        self.heads, self.causal = heads, causal
        self.of_itself = context_features is None or joint
        self.of_context = context_features is not None
        self.query = Dense(features, features)
        # What is added to all keys changes no weight, so only keys of two kinds have a bias, to tell them apart.
        if self.of_itself:
            self.key, self.value = Dense(features, features, bias=False), Dense(features, features)
        if self.of_context:
            self.context_key = Dense(context_features, features, bias=joint)
            self.context_value = Dense(context_features, features)
        self.out = Dense(features, features, init=init)

    def construct(self, x, context=None, context_mask=None):
        """``context_mask`` (n, s) is 1 for the tokens of the context that may be seen, 0 for others."""
        n, t, _ = x.shape
        query = self.query(x)
        added = future(t) if self.causal else None
        if self.of_context:
            key, value = self.context_key(context), self.context_value(context)
            hidden = None if context_mask is None else unseen(context_mask)
            if self.of_itself:
                key, value = ops.concat((key, self.key(x)), 1), ops.concat((value, self.value(x)), 1)
                added = _beside(hidden, added, n, t, context.shape[1])
            else:
                added = hidden
        else:
            key, value = self.key(x), self.value(x)
        return self.out(attend(query, key, value, self.heads, added, compute_type=self.compute_type))


def _beside(context, itself, n, t, s):
    """What is added to logits of a context's s keys and, behind them, t keys of one's own."""
    if context is None and itself is None:
        return None
    context = ops.zeros((1, 1, 1, s), ms.float32) if context is None else context
    itself = ops.zeros((1, 1, 1, t), ms.float32) if itself is None else itself
    rows = itself.shape[2]
    return ops.concat((ops.broadcast_to(context, (n, 1, rows, s)), ops.broadcast_to(itself, (n, 1, rows, t))), 3)


class PixelAttention(nn.Cell):
    """x + attention among the pixels of a normalised x, (n, channels, h, w), same shape out.

    With ``context_features`` pixels see the tokens of a context too, or, without ``joint``, instead; the context is
    normalised first. It starts as the identity.
    """

    recomputable = True

    def __init__(self, channels, heads, context_features=None, joint=True):
        super().__init__()
        self.norm = GroupNorm(channels)
        self.context_norm = None if context_features is None else LayerNorm(context_features)
        joint = joint and context_features is not None
        self.attention = Attention(channels, heads, context_features, joint, init=Constant(0.0))

    def construct(self, x, context=None, context_mask=None):
        n, c, h, w = x.shape
        tokens = self.norm(x).reshape(n, c, h * w).transpose(0, 2, 1)
        if self.context_norm is None:
            y = self.attention(tokens)
        else:
            y = self.attention(tokens, self.context_norm(context), context_mask)
        return x + y.transpose(0, 2, 1).reshape(n, c, h, w)
