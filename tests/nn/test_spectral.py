"""Spectral norm: the largest singular value, its gradient with u and v held fixed, and how u moves."""

import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn as ms_nn
from mindspore import ops
from reference import FIRST, assert_close, assert_exact_to_second_order, channels, conv, normal

from ganfleet import nn

LABELS = np.int32([2, 0, 2, 3])


class Net(ms_nn.Cell):
    """One of each normalised layer, with u of known values."""

    def __init__(self):
        super().__init__()
        self.conv = nn.SpectralConv2d(2, 3, 4, stride=2, padding=1)
        self.dense = nn.SpectralDense(12, 5, bias=False)
        self.embedding = nn.SpectralEmbedding(4, 5)
        self.labels = ms.Tensor(LABELS)
        self.directions = [direction(layer, seed) for seed, layer in enumerate((self.conv, self.dense, self.embedding))]

    def construct(self, x):
        y = nn.tanh(self.conv(x))
        return self.dense(y.reshape(4, -1)) * self.embedding(self.labels)


def direction(layer, seed):
    """Sets the layer's u; its values in float64."""
    u = layer.u.value
    values = normal(*u.shape, seed=seed)
    values /= np.linalg.norm(values)
    u.set_data(ms.Tensor(values))
    return jnp.asarray(values, jnp.float64)


def after_power_step(w, u, training):
    """w / σ, and the u that σ was made with, by algorithm 1 of the paper; the gradient reaches w itself alone."""
    matrix = w.reshape(w.shape[0], -1)
    known = jax.lax.stop_gradient(matrix)
    v = known.T @ u
    v = v / jnp.linalg.norm(v)
    if training:
        u = known @ v
        u = u / jnp.linalg.norm(u)
    return w / jnp.einsum("i,ij,j", u, matrix, v), u


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_normalised_layers_are_exact_to_second_order(training):
    net = Net().set_train(training)

    def reference(params, x):
        w1, b1, *others = params
        w1, w2, table = (
            after_power_step(w, u, training)[0] for w, u in zip([w1, *others], net.directions, strict=True)
        )
        y = jnp.tanh(conv(x, w1, 2, 1) + channels(b1))
        return y.reshape(4, -1) @ w2.T * table[LABELS]

    assert_exact_to_second_order(net, reference, normal(4, 2, 4, 4))


class Phase(ms_nn.Cell):
    """One phase: W / σ(W), after which u moves as the engine moves it."""

    def __init__(self, weight):
        super().__init__()
        self.layer = nn.SpectralEmbedding(*weight.shape)
        self.layer.weight.set_data(ms.Tensor(weight))

    @ms.jit
    def construct(self):
        normalised = self.layer.factor()
        if self.training:
            ops.assign(self.layer.u.value, self.layer.u.moved(self.layer.u.seen))
        return normalised


def test_u_and_the_weight_after_ten_phases_equal_ten_steps_of_the_power_method():
    weight = normal(6, 12)
    net = Phase(weight).set_train()
    u, w = direction(net.layer, 1), jnp.asarray(weight, jnp.float64)
    for _ in range(10):
        actual = net().asnumpy()
        expected, u = after_power_step(w, u, training=True)
    assert_close(actual, expected, FIRST)
    assert_close(net.layer.u.value.asnumpy(), u, FIRST)


def test_after_enough_phases_the_largest_singular_value_is_one():
    net = Phase(normal(12, 45)).set_train()
    direction(net.layer, 2)
    for _ in range(60):
        net()
    normalised = net.set_train(False)().asnumpy()
    assert np.linalg.svd(normalised, compute_uv=False)[0] == pytest.approx(1, abs=1e-3)


def test_u_starts_as_a_direction_of_its_own():
    layers = ms_nn.SequentialCell(nn.SpectralDense(3, 8), nn.SpectralDense(8, 8))
    layers.update_parameters_name("D.")
    for p in layers.get_parameters():
        nn.initialize(p, seed=0)
    first, second = (layer.u.value.asnumpy() for layer in layers)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-6) and np.abs(first - second).max() > 0.01
