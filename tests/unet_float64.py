"""Attention, transformers, residual blocks and U-Nets in float64 JAX, on weights by the names of their parameters."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from nn.reference import channels, conv


class Weights:
    """The weights whose names begin with ``prefix``, by the rest of their names."""

    def __init__(self, arrays, prefix=""):
        self.arrays, self.prefix = arrays, prefix

    def __getitem__(self, name):
        return self.arrays[self.prefix + name]

    def __contains__(self, name):
        return any(each.startswith(self.prefix + name) for each in self.arrays)

    def of(self, name):
        return Weights(self.arrays, f"{self.prefix}{name}.")


# So that a function of them can be compiled, which takes a third of the time that its operators take one by one.
jax.tree_util.register_pytree_node(Weights, lambda w: ([w.arrays], w.prefix), lambda prefix, of: Weights(*of, prefix))


def by_name(net):
    """``reference(params, x)`` as ``assert_exact_to_second_order`` calls it, for a function of Weights and x."""
    names = [p.name for p in net.trainable_params()]
    return lambda function: lambda params, x: function(Weights(dict(zip(names, params, strict=True))), x)


def silu(x):
    return x * jax.nn.sigmoid(x)


def gelu(x):
    return x * jax.scipy.stats.norm.cdf(x)


def dense(w, x):
    y = x @ w["weight"].T
    return y + w["bias"] if "bias" in w else y


def layer_norm(w, x, eps=1e-5):
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + eps) * w["gain"] + w["bias"]


def group_norm(w, x, scale=0.0, shift=0.0, eps=1e-5):
    n, c = x.shape[:2]
    groups = max(g for g in (1, 2, 4, 8, 16, 32) if c % g == 0 and (c // g >= 4 or g == 1))
    y = x.reshape(n, groups, -1)
    y = ((y - y.mean(-1, keepdims=True)) / jnp.sqrt(y.var(-1, keepdims=True) + eps)).reshape(x.shape)
    y = y * channels(w["gain"]) + channels(w["bias"])
    scale, shift = (each if isinstance(each, float) else each[:, :, None, None] for each in (scale, shift))
    return y * (1 + scale) + shift


def attend(q, k, v, heads, seen=None):
    """``seen``, broadcast to (n, heads, t, s): whether a query may see a key."""
    n, t, features = q.shape
    q, k, v = (each.reshape(n, each.shape[1], heads, -1) for each in (q, k, v))
    logits = jnp.einsum("nthd,nshd->nhts", q, k) / math.sqrt(features // heads)
    if seen is not None:
        logits = jnp.where(seen, logits, -1e9)  # so that a query that may see nothing gets the mean
    weights = jax.nn.softmax(logits, -1)
    return jnp.einsum("nhts,nshd->nthd", weights, v).reshape(n, t, -1)


def attention(w, x, heads, context=None, mask=None, causal=False):
    n, t, _ = x.shape
    keys, values, seen = [], [], []
    if context is not None:
        keys.append(dense(w.of("context_key"), context))
        values.append(dense(w.of("context_value"), context))
        s = context.shape[1]
        mask = np.ones((n, s)) if mask is None else mask
        seen.append(np.broadcast_to(mask[:, None, None, :] > 0, (n, 1, t, s)))
    if "key" in w:
        keys.append(dense(w.of("key"), x))
        values.append(dense(w.of("value"), x))
        seen.append(np.broadcast_to(np.tril(np.ones((t, t))) > 0 if causal else np.ones((t, t)) > 0, (n, 1, t, t)))
    q = dense(w.of("query"), x)
    y = attend(q, jnp.concatenate(keys, 1), jnp.concatenate(values, 1), heads, np.concatenate(seen, 3))
    return dense(w.of("out"), y)


def pixel_attention(w, x, heads, context=None, mask=None):
    n, c, h, width = x.shape
    tokens = group_norm(w.of("norm"), x).reshape(n, c, h * width).transpose(0, 2, 1)
    context = layer_norm(w.of("context_norm"), context) if "context_norm" in w else None
    y = attention(w.of("attention"), tokens, heads, context, mask)
    return x + y.transpose(0, 2, 1).reshape(x.shape)


def transformer_block(w, x, heads, context=None, mask=None, causal=False):
    x = x + attention(w.of("attention"), layer_norm(w.of("norm"), x), heads, causal=causal)
    if "cross_norm" in w:
        x = x + attention(w.of("cross_attention"), layer_norm(w.of("cross_norm"), x), heads, context, mask)
    return x + dense(w.of("down"), gelu(dense(w.of("up"), layer_norm(w.of("mlp_norm"), x))))


def convolution(w, x, padding=1, stride=1):
    return conv(x, w["weight"], stride, padding) + channels(w["bias"])


def up(x):
    return x.repeat(2, 2).repeat(2, 3)


def down(x):
    return sum(x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4


def residual_block(w, x, embedding=None, resample=None):
    change = {"up": up, "down": down, None: lambda x: x}[resample]
    y = convolution(w.of("conv"), change(silu(group_norm(w.of("norm"), x))))
    conditions = () if embedding is None else (dense(w.of("scale"), embedding), dense(w.of("shift"), embedding))
    y = convolution(w.of("out_conv"), silu(group_norm(w.of("out_norm"), y, *conditions)))
    x = change(x)
    return y + (convolution(w.of("shortcut"), x, 0) if "shortcut" in w else x)


def sinusoids(t, features, longest=10_000.0):
    angles = t[:, None] * longest ** -(jnp.arange(features // 2) / (features // 2))
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], 1)


def time_embedding(w, t, features):
    if "learned" in w:
        angles = 2 * math.pi * t[:, None] * w["learned.frequencies"]
        x = jnp.concatenate([t[:, None], jnp.cos(angles), jnp.sin(angles)], 1)
    else:
        x = sinusoids(t, features)
    return dense(w.of("last"), silu(dense(w.of("first"), x)))


def unet(w, x, t, width, multipliers, blocks, heads, condition=None, context=None, mask=None):
    """``heads(channels)`` says how many heads attention has; where there is attention, the weights say."""
    embedding = time_embedding(w.of("time"), t, width)
    embedding = silu(embedding if condition is None else embedding + condition)

    def unit(w, x, resample=None):
        x = residual_block(w.of("block"), x, embedding, resample)
        if "attention" not in w:
            return x
        return pixel_attention(w.of("attention"), x, heads(x.shape[1]), context, mask)

    x = convolution(w.of("first"), x)
    skips, number = [x], 0
    for level in range(len(multipliers)):
        for resample in [None] * blocks + ["down"] * (level + 1 < len(multipliers)):
            x = unit(w.of(f"down.{number}"), x, resample)
            skips.append(x)
            number += 1
    for number in (0, 1):
        x = unit(w.of(f"middle.{number}"), x)
    number = 0
    for level in reversed(range(len(multipliers))):
        for _ in range(blocks + 1):
            x = unit(w.of(f"up.{number}"), jnp.concatenate([x, skips.pop()], 1))
            number += 1
        if level:
            x = unit(w.of(f"up.{number}"), x, "up")
            number += 1
    return convolution(w.of("last"), silu(group_norm(w.of("norm"), x)))


def pooled_text(w, text, mask, heads):
    query = jnp.broadcast_to(w["query.weight"][None], (len(text), *w["query.weight"].shape))
    pooled = attention(w.of("attention"), query, heads, layer_norm(w.of("norm"), text), mask)
    return dense(w.of("last"), silu(dense(w.of("first"), pooled[:, 0])))


def efficient_unet(w, x, t, widths, depths, heads, condition, text, mask):
    embedding = silu(time_embedding(w.of("time"), t, widths[0]) + condition)

    def level(w, x, depth):
        for i in range(depth):
            x = residual_block(w.of(f"blocks.{i}"), x, embedding)
        return pixel_attention(w.of("attention"), x, heads, text, mask) if "attention" in w else x

    x, skips = convolution(w.of("first"), x), []
    for i, depth in enumerate(depths):
        x = level(w.of(f"down.{i}"), convolution(w.of(f"halve.{i}"), x, stride=2), depth)
        skips.append(x)
    for i, depth in enumerate(reversed(depths)):
        x = level(w.of(f"up.{i}"), jnp.concatenate([x, skips.pop() / math.sqrt(2)], 1), depth)
        x = convolution(w.of(f"double.{i}"), up(x))
    return convolution(w.of("last"), silu(group_norm(w.of("norm"), x)))
