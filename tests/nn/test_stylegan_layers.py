"""StyleGAN's and ProGAN's layers to first and second order against float64 JAX, and their initial weights."""

import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn as ms_nn
from reference import Function, assert_exact_to_second_order, channels, conv, normal

from ganfleet import nn


def enlarged(x):
    return x.repeat(2, 2).repeat(2, 3)


def reduced(x):
    return sum(x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4


@pytest.mark.parametrize("kernel", [1, 3])
def test_equalized_convolution_scales_its_weight_by_gain_over_root_of_fan_in(kernel):
    net = nn.EqualizedConv2d(3, 4, kernel, gain=1.5)

    def reference(params, x):
        weight, bias = params
        return conv(x, weight * 1.5 / (3 * kernel**2) ** 0.5, padding=kernel // 2) + channels(bias)

    assert_exact_to_second_order(net, reference, normal(2, 3, 6, 4))


def test_equalized_convolution_enlarges_first():
    net = nn.EqualizedConv2d(3, 4, 3, resample="up", bias=False)

    def reference(params, x):
        return conv(enlarged(x), params[0] * (2 / 27) ** 0.5, padding=1)

    assert_exact_to_second_order(net, reference, normal(2, 3, 4, 3))


def test_equalized_convolution_reduces_last():
    net = nn.EqualizedConv2d(3, 4, 3, resample="down")

    def reference(params, x):
        return reduced(conv(x, params[0] * (2 / 27) ** 0.5, padding=1)) + channels(params[1])

    assert_exact_to_second_order(net, reference, normal(2, 3, 6, 4))


def test_equalized_dense_multiplies_weight_and_bias_by_lr_multiplier():
    net = ms_nn.SequentialCell(nn.EqualizedDense(6, 5, lr_multiplier=0.2), nn.EqualizedDense(5, 3, gain=1, bias=False))

    def reference(params, x):
        w1, b1, w2 = params
        hidden = x @ w1.T * 0.2 * (2 / 6) ** 0.5 + 0.2 * b1
        return hidden @ w2.T / 5**0.5

    assert_exact_to_second_order(net, reference, normal(4, 6))


@pytest.mark.parametrize(
    ("layer", "std"),
    [
        (nn.EqualizedConv2d(32, 32, 3), 1),
        (nn.EqualizedDense(64, 64), 1),
        (nn.EqualizedDense(64, 64, lr_multiplier=0.01), 100),
    ],
    ids=["conv", "dense", "slowed down"],
)
def test_weights_start_normal_with_std_one_over_lr_multiplier_and_biases_at_zero(layer, std):
    for p in layer.get_parameters():
        nn.initialize(p, seed=0)
    assert np.std(layer.weight.asnumpy()) == pytest.approx(std, rel=0.05)
    assert not layer.bias.asnumpy().any()


def test_slowed_down_layer_is_like_any_other_at_the_start():
    """arXiv:1812.04948, C: the multiplier changes how fast a layer learns, not what it computes before it does."""
    outputs = []
    for multiplier in (1, 0.01):
        layer = nn.EqualizedDense(8, 8, lr_multiplier=multiplier)
        layer.weight.set_data(ms.Tensor(normal(8, 8) / multiplier))
        outputs.append(layer(ms.Tensor(normal(4, 8, seed=1))).asnumpy())
    assert np.allclose(*outputs, rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 6), (2, 5, 3, 2)])
def test_pixel_norm_is_exact_to_second_order(shape):
    def reference(params, x):
        return x / jnp.sqrt((x**2).mean(1, keepdims=True) + 1e-8)

    assert_exact_to_second_order(Function(nn.pixel_norm), reference, normal(*shape))


class Styled(ms_nn.Cell):
    """Instance norm with a gain and a bias that are parameters."""

    def __init__(self, n, c):
        super().__init__()
        self.norm = nn.InstanceNorm(1e-8)
        self.gain = nn.parameter("gain", (n, c), nn.Constant(1.0))
        self.bias = nn.parameter("bias", (n, c), nn.Constant(0.0))

    def construct(self, x):
        return self.norm(x, self.gain, self.bias)


def test_instance_norm_with_a_style_is_exact_to_second_order():
    def reference(params, x):
        gain, bias = (p[:, :, None, None] for p in params)
        x = (x - x.mean((2, 3), keepdims=True)) / jnp.sqrt(x.var((2, 3), keepdims=True) + 1e-8)
        return x * gain + bias

    assert_exact_to_second_order(Styled(2, 3), reference, 2 * normal(2, 3, 4, 5) + 1)


@pytest.mark.parametrize("shape", [(2, 3, 4, 8), (1, 2, 33, 128)], ids=["by matrices", "by convolution"])
def test_blur_is_exact_to_second_order(shape):
    def reference(params, x):
        kernel = jnp.broadcast_to(jnp.outer(jnp.array([1, 2, 1.0]), jnp.array([1, 2, 1.0])) / 16, (1, 1, 3, 3))
        return conv(x.reshape(-1, 1, *x.shape[2:]), kernel, padding=1).reshape(x.shape)

    assert_exact_to_second_order(Function(nn.blur), reference, normal(*shape))


def test_minibatch_stddev_of_samples_a_stride_apart_is_exact_to_second_order():
    """With 6 samples in groups of 3, those are samples 0, 2, 4 and 1, 3, 5."""

    def reference(params, x):
        deviations = [jnp.sqrt(x[i::2].var(0) + 1e-8).mean() for i in (0, 1)]
        extra = jnp.stack(deviations * 3)[:, None, None, None]
        return jnp.concatenate([x, jnp.broadcast_to(extra, (6, 1, 2, 3))], 1)

    assert_exact_to_second_order(Function(stddev_in_threes), reference, normal(6, 4, 2, 3))


def stddev_in_threes(x):
    return nn.minibatch_stddev(x, 3)


def test_minibatch_stddev_of_a_batch_below_the_group_takes_all_of_it():
    x = normal(2, 3, 4, 4)
    extra = nn.minibatch_stddev(ms.Tensor(x), 4).asnumpy()[:, 3]
    assert np.allclose(extra, np.sqrt(x.var(0) + 1e-8).mean(), rtol=1e-5)


def test_joined_batches_keep_the_groups_that_each_has_by_itself():
    """The expectation is of numpy: real samples 0, 2, 4 and 1, 3, 5 are groups, and so are those of the fakes."""
    real, fake = normal(6, 4, 2, 3), 3 * normal(6, 4, 2, 3, seed=1)
    extra = nn.minibatch_stddev(nn.joined(ms.Tensor(real), ms.Tensor(fake), 3), 3)[:, 4, 0, 0]
    for scores, batch in zip(nn.parted(extra, 3), (real, fake), strict=True):
        deviations = [np.sqrt(batch[i::2].var(0) + 1e-8).mean() for i in (0, 1)]
        assert np.allclose(scores.asnumpy(), deviations * 3, rtol=1e-5)


def test_joined_batches_come_apart_in_order():
    real, fake = np.arange(6, dtype=np.float32), 10 + np.arange(6, dtype=np.float32)
    parts = nn.parted(nn.joined(ms.Tensor(real), ms.Tensor(fake), 2), 2)
    assert [part.asnumpy().tolist() for part in parts] == [real.tolist(), fake.tolist()]
