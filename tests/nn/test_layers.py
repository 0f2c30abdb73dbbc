"""Every layer to first and second order against float64 JAX, and how batch norm collects its running statistics."""

import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn as ms_nn
from reference import (
    FIRST,
    Function,
    assert_close,
    assert_exact_to_second_order,
    batch_norm,
    channels,
    conv,
    conv_transpose,
    normal,
)

from ganfleet import nn


class Jitted(ms_nn.Cell):
    def __init__(self, net):
        super().__init__()
        self.net = net

    @ms.jit
    def construct(self, x):
        return self.net(x)


def test_convolution_is_exact_to_second_order():
    net = ms_nn.SequentialCell(
        nn.Conv2d(3, 4, (3, 5), padding=2), nn.Tanh(), nn.Conv2d(4, 5, 4, stride=2, padding=1, bias=False)
    )

    def reference(params, x):
        w1, b1, w2 = params
        return conv(jnp.tanh(conv(x, w1, padding=2) + channels(b1)), w2, stride=2, padding=1)

    assert_exact_to_second_order(net, reference, normal(2, 3, 6, 8))


def test_transposed_convolution_is_exact_to_second_order():
    net = ms_nn.SequentialCell(
        nn.ConvTranspose2d(5, 4, (4, 6)), ms_nn.ReLU(), nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1, bias=False)
    )

    def reference(params, x):
        w1, b1, w2 = params
        return conv_transpose(jnp.maximum(conv_transpose(x, w1) + channels(b1), 0), w2, stride=2, padding=1)

    assert_exact_to_second_order(net, reference, normal(2, 5, 1, 2))


def test_dense_and_leaky_relu_are_exact_to_second_order():
    net = ms_nn.SequentialCell(nn.Dense(6, 5), nn.LeakyReLU(0.2), nn.Dense(5, 3, bias=False))

    def reference(params, x):
        w1, b1, w2 = params
        hidden = x @ w1.T + b1
        return jnp.where(hidden > 0, hidden, 0.2 * hidden) @ w2.T

    assert_exact_to_second_order(net, reference, normal(4, 6))


def test_tanh_is_exact_to_second_order_also_where_it_saturates():
    x = np.linspace(-9, 9, 400, dtype=np.float32).reshape(20, 20)
    assert_exact_to_second_order(Function(nn.tanh), lambda params, x: jnp.tanh(x), x)
    assert np.abs(Jitted(nn.Tanh())(ms.Tensor(x)).asnumpy()).max() <= 1


@pytest.mark.parametrize("shape", [(6, 3, 4, 4), (8, 3)])
def test_batch_norm_in_training_is_exact_to_second_order(shape):
    net = nn.BatchNorm(3).set_train()
    x = 2 * normal(*shape) + 1
    assert_exact_to_second_order(net, lambda params, x: batch_norm(x, *params), x)


def test_upsampling_is_exact_to_second_order():
    def reference(params, x):
        return x.repeat(2, 2).repeat(2, 3)

    assert_exact_to_second_order(Function(nn.upsample), reference, normal(2, 3, 4, 6))


def test_downsampling_is_exact_to_second_order():
    def reference(params, x):
        return sum(x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4

    assert_exact_to_second_order(Function(nn.downsample), reference, normal(2, 3, 4, 6))


def test_patches_become_pixels_and_the_way_back_is_exact_to_second_order():
    def pixels(params, x):
        return jnp.stack([x[:, c, i::2, j::2] for c in range(3) for i in (0, 1) for j in (0, 1)], 1)

    x = normal(2, 3, 4, 6)

    def halved(x):
        return nn.space_to_depth(x, 2)

    assert_exact_to_second_order(Function(halved), pixels, x)
    back = nn.depth_to_space(nn.space_to_depth(ms.Tensor(x), 2), 2)
    np.testing.assert_array_equal(back.asnumpy(), x)


@pytest.mark.parametrize("keeps_moments", [True, False], ids=["cpu", "ascend"])
def test_batch_norm_sums_mean_unbiased_variance_and_count_of_its_calls(keeps_moments):
    layer = nn.BatchNorm(3)
    layer.keeps_moments = keeps_moments
    train = Jitted(layer).set_train()
    batches = [normal(4, 3, 2, 2, seed=1), 3 * normal(4, 3, 2, 2, seed=2) + 1]
    for batch in batches:
        train(ms.Tensor(batch))
    per_channel = [b.transpose(1, 0, 2, 3).reshape(3, -1).astype(np.float64) for b in batches]
    expected = np.concatenate([sum(c.mean(1) for c in per_channel), sum(c.var(1, ddof=1) for c in per_channel), [2.0]])
    assert_close(layer.moments.seen.asnumpy(), expected, FIRST)
    assert np.array_equal(layer.moments.value.asnumpy(), [[0, 0, 0], [1, 1, 1]])


def test_batch_norm_counts_one_call_where_a_penalty_differentiates_it_twice():
    net = ms_nn.SequentialCell(nn.BatchNorm(3), nn.Tanh())
    net.set_train()

    class Penalised(ms_nn.Cell):
        def __init__(self):
            super().__init__()
            self.net = net
            self.weights = ms.ParameterTuple(net.trainable_params())

        @ms.jit
        def construct(self, x):
            def loss(x):
                return nn.r1(self.net, x)

            return ms.value_and_grad(loss, None, self.weights)(x)[0]

    x = normal(4, 3, 2, 2)
    Penalised()(ms.Tensor(x))
    assert net[0].moments.seen.asnumpy()[-1] == 1
    assert_close(net[0].moments.seen.asnumpy()[:3], x.astype(np.float64).mean((0, 2, 3)), FIRST)


def test_a_nan_batch_leaves_no_trace_in_the_next_one():
    layer = nn.BatchNorm(3)
    train = Jitted(layer).set_train()
    good = ms.Tensor(normal(4, 3, 2, 2))
    before = train(good).asnumpy()
    train(ms.Tensor(np.full((4, 3, 2, 2), np.nan, np.float32)))
    assert np.array_equal(layer.moments.value.asnumpy(), [[0, 0, 0], [1, 1, 1]])
    assert np.array_equal(train(good).asnumpy(), before)


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 3)])
def test_batch_norm_in_evaluation_uses_the_running_moments(shape):
    layer = nn.BatchNorm(3)
    mean, variance, gain, bias = normal(3), 1 + normal(3, seed=1) ** 2, normal(3, seed=2), normal(3, seed=3)
    layer.moments.value.set_data(ms.Tensor(np.stack([mean, variance])))
    layer.gain.set_data(ms.Tensor(gain))
    layer.bias.set_data(ms.Tensor(bias))
    x = normal(*shape)
    actual = Jitted(layer).set_train(False)(ms.Tensor(x)).asnumpy()
    m, v, g, b = (a.astype(np.float64).reshape((1, 3) + (1,) * (len(shape) - 2)) for a in (mean, variance, gain, bias))
    assert_close(actual, (x - m) / np.sqrt(v + 1e-5) * g + b, FIRST)
    assert layer.moments.seen.asnumpy()[-1] == 0


def test_batch_norm_of_one_value_per_channel_is_refused():
    with pytest.raises(ValueError, match="two values per channel"):
        Jitted(nn.BatchNorm(3)).set_train()(ms.Tensor(normal(1, 3)))
