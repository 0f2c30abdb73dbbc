"""Attention, transformers, residual blocks, their norms and embeddings of time against float64 JAX."""

import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
import unet_float64 as float64
from mindspore import nn as ms_nn
from reference import FIRST, Function, assert_close, assert_exact_to_second_order, normal
from unet_float64 import by_name

from ganfleet import nn

MASK = np.float32([[1, 1, 0], [1, 0, 0]])


class WithContext(ms_nn.Cell):
    """Takes the tokens (n, t + s, features) apart: the first t, and the last s as a context of their first features."""

    def __init__(self, net, s, features, mask=None):
        super().__init__(auto_prefix=False)
        self.net, self.s, self.features = net, s, features
        self.mask = None if mask is None else ms.Tensor(mask)

    def construct(self, x):
        t = x.shape[1] - self.s
        return self.net(x[:, :t], x[:, t:, : self.features], self.mask)


class Conditioned(ms_nn.Cell):
    """Takes (n, c, h + 1, w) apart: an image, and its last row as an embedding (n, c·w)."""

    def __init__(self, net):
        super().__init__(auto_prefix=False)
        self.net = net

    def construct(self, x):
        return self.net(x[:, :, :-1], x[:, :, -1].reshape(x.shape[0], -1))


def apart(x, s, features):
    return x[:, :-s], x[:, -s:, :features]


# ── Norms


def test_group_norm_is_exact_to_second_order():
    net = nn.GroupNorm(6, 3)

    def reference(params, x):
        y = x.reshape(2, 3, -1)
        y = (y - y.mean(-1, keepdims=True)) / jnp.sqrt(y.var(-1, keepdims=True) + 1e-5)
        gain, bias = (each.reshape(1, 6, 1, 1) for each in params)
        return y.reshape(x.shape) * gain + bias

    assert_exact_to_second_order(net, reference, 2 * normal(2, 6, 3, 2) + 1)


def test_scale_and_shift_condition_a_group_norm():
    class Net(ms_nn.Cell):
        def __init__(self):
            super().__init__(auto_prefix=False)
            self.norm = nn.GroupNorm(4)

        def construct(self, x):
            return self.norm(x[:, :, 1:], x[:, :, 0, 0], x[:, :, 0, 1])

    net = Net()
    reference = by_name(net)(lambda w, x: float64.group_norm(w, x[:, :, 1:], x[:, :, 0, 0], x[:, :, 0, 1]))
    assert_exact_to_second_order(net, reference, normal(2, 4, 3, 3), orders=1)


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 5)])
def test_layer_norm_is_exact_to_second_order(shape):
    net = nn.LayerNorm(5)
    assert_exact_to_second_order(net, by_name(net)(float64.layer_norm), 2 * normal(*shape) + 1)


def test_rms_norm_is_exact_to_second_order():
    def reference(params, x):
        return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * params[0]

    assert_exact_to_second_order(nn.RMSNorm(5), reference, normal(2, 3, 5))


def test_gelu_is_the_exact_one_to_second_order():
    assert_exact_to_second_order(Function(nn.gelu), lambda params, x: jax.nn.gelu(x, False), 2 * normal(4, 5))


# ── Attention


def test_self_attention_is_exact_to_second_order():
    net = nn.Attention(6, 2)
    assert_exact_to_second_order(net, by_name(net)(lambda w, x: float64.attention(w, x, 2)), normal(2, 3, 6))


def test_causal_attention_is_exact():
    net = nn.Attention(6, 3, causal=True)
    reference = by_name(net)(lambda w, x: float64.attention(w, x, 3, causal=True))
    assert_exact_to_second_order(net, reference, normal(2, 4, 6), orders=1)


@pytest.mark.parametrize("joint", [False, True], ids=["instead", "beside"])
def test_attention_to_a_masked_context_is_exact(joint):
    net = WithContext(nn.Attention(6, 2, context_features=4, joint=joint), 3, 4, MASK)

    def reference(w, x):
        x, context = apart(x, 3, 4)
        return float64.attention(w, x, 2, context, MASK)

    assert_exact_to_second_order(net, by_name(net)(reference), normal(2, 2 + 3, 6), orders=1)


def test_causal_attention_beside_a_context_sees_all_of_it_and_no_later_token():
    net = WithContext(nn.Attention(4, 1, context_features=4, joint=True, causal=True), 2, 4)

    def reference(w, x):
        x, context = apart(x, 2, 4)
        return float64.attention(w, x, 1, context, causal=True)

    assert_exact_to_second_order(net, by_name(net)(reference), normal(2, 3 + 2, 4), orders=1)


def test_the_softmax_is_stable_where_logits_are_thousands():
    q, k, v = (normal(1, 4, 6, seed=seed) * scale for seed, scale in ((0, 300), (1, 300), (2, 1)))

    class Net(ms_nn.Cell):
        @ms.jit
        def construct(self, q, k, v):
            return nn.attend(q, k, v, 2)

    expected = float64.attend(*(jnp.asarray(each, jnp.float64) for each in (q, k, v)), 2)
    assert_close(Net()(*(ms.Tensor(each) for each in (q, k, v))).asnumpy(), expected, FIRST)


def test_attention_to_nothing_that_may_be_seen_is_finite():
    class Net(ms_nn.Cell):
        @ms.jit
        def construct(self, x, mask):
            return nn.attend(x, x, x, 1, nn.unseen(mask))

    x = normal(2, 3, 4)
    y = Net()(ms.Tensor(x), ms.Tensor(np.float32([[0, 0, 0], [1, 1, 1]]))).asnumpy()
    assert_close(y[0], np.repeat(x[:1].mean(1), 3, 0), FIRST)


def test_heads_must_share_the_features_evenly():
    with pytest.raises(ValueError, match="6 features cannot be shared among 4 heads"):
        nn.Attention(6, 4)


@pytest.mark.parametrize("joint", [False, True], ids=["instead", "beside"])
def test_attention_of_pixels_to_tokens_is_exact(joint):
    class Net(ms_nn.Cell):
        def __init__(self):
            super().__init__(auto_prefix=False)
            self.attention = nn.PixelAttention(4, 2, context_features=3, joint=joint)
            self.mask = ms.Tensor(MASK)

        def construct(self, x):
            return self.attention(x[:, :, 1:], x[:, :3, 0], self.mask)

    net = Net()
    reference = by_name(net)(lambda w, x: float64.pixel_attention(w, x[:, :, 1:], 2, x[:, :3, 0], MASK))
    assert_exact_to_second_order(net, reference, normal(2, 4, 3, 3), orders=1)


@pytest.mark.parametrize("crosses", [False, True])
def test_a_transformer_block_is_exact(crosses):
    block = nn.TransformerBlock(6, 2, context_features=4 if crosses else None, causal=True)
    net = WithContext(block, 3, 4, MASK if crosses else None)

    def reference(w, x):
        x, context = apart(x, 3, 4)
        return float64.transformer_block(w, x, 2, context, MASK, causal=True)

    assert_exact_to_second_order(net, by_name(net)(reference), normal(2, 3 + 3, 6), orders=1)


# ── Residual blocks


@pytest.mark.parametrize("resample", [None, "up", "down"])
def test_a_residual_block_is_exact(resample):
    out = 4 if resample == "up" else 6
    net = Conditioned(nn.ResidualBlock(4, out, embedding_features=8, resample=resample))

    def reference(w, x):
        return float64.residual_block(w, x[:, :, :-1], x[:, :, -1].reshape(2, -1), resample)

    assert_exact_to_second_order(net, by_name(net)(reference), normal(2, 4, 5, 2), orders=1)


def test_blocks_begin_as_the_identity():
    x = ms.Tensor(normal(2, 4, 4, 4))
    for block in (nn.ResidualBlock(4, 4), nn.PixelAttention(4, 2)):
        for p in block.get_parameters():
            nn.initialize(p, 0)

        class Net(ms_nn.Cell):
            def __init__(self, block):
                super().__init__()
                self.block = block

            @ms.jit
            def construct(self, x):
                return self.block(x)

        assert np.array_equal(Net(block)(x).asnumpy(), x.asnumpy())


# ── Time


@pytest.mark.parametrize("learned", [False, True])
def test_an_embedding_of_time_is_exact(learned):
    class Net(ms_nn.Cell):
        def __init__(self):
            super().__init__(auto_prefix=False)
            self.time = nn.TimeEmbedding(6, 5, learned)

        def construct(self, x):
            return self.time(x.reshape(-1))

    net = Net()
    reference = by_name(net)(lambda w, x: float64.time_embedding(w, x.reshape(-1), 6))
    assert_exact_to_second_order(net, reference, normal(4, 1), orders=1)


def test_sinusoids_are_cosines_and_sines_of_frequencies_from_1_down():
    class Net(ms_nn.Cell):
        @ms.jit
        def construct(self, t):
            return nn.sinusoids(t, 8)

    t = np.float32([0, 1, 0.5, 999])
    y = Net()(ms.Tensor(t)).asnumpy()
    frequencies = [1, 0.1, 0.01, 0.001]
    expected = [[f(a * each) for f in (np.cos, np.sin) for each in frequencies] for a in t.astype(np.float64)]
    np.testing.assert_allclose(y, expected, atol=1e-4)
