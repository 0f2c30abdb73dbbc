"""Initial weights: reproducible by name and seed, distributed as told."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn as ms_nn

from ganfleet import nn, rng


def initialized(net, seed=0, prefix="G."):
    net.update_parameters_name(prefix)
    for p in net.get_parameters():
        nn.initialize(p, seed)
    return {p.name: p.asnumpy() for p in net.get_parameters()}


def two_layers():
    return ms_nn.SequentialCell(
        nn.Conv2d(3, 64, 4, init=nn.Normal(0.02)), nn.BatchNorm(64, init=nn.Normal(0.02, mean=1))
    )


def test_the_init_survives_renaming_and_draws_the_stream_of_the_new_name():
    values = initialized(two_layers(), seed=5)
    expected = rng.stream(5, "init/G.0.weight").normal(0, 0.02, (64, 3, 4, 4)).astype(np.float32)
    assert np.array_equal(values["G.0.weight"], expected)


def test_gains_biases_and_running_moments_start_as_their_layers_say():
    values = initialized(two_layers())
    assert abs(values["G.1.gain"].mean() - 1) < 0.01 and 0.015 < values["G.1.gain"].std() < 0.025
    assert not values["G.0.bias"].any() and not values["G.1.bias"].any() and not values["G.1.seen"].any()
    assert np.array_equal(values["G.1.running"], [[0] * 64, [1] * 64])


def test_seed_and_name_choose_the_weights_and_nothing_else_does():
    np.random.seed(1)
    first = initialized(two_layers())["G.0.weight"]
    np.random.seed(2)
    assert np.array_equal(initialized(two_layers())["G.0.weight"], first)
    assert not np.array_equal(initialized(two_layers(), seed=1)["G.0.weight"], first)
    assert not np.array_equal(initialized(two_layers(), prefix="D.")["D.0.weight"], first)


@pytest.mark.parametrize("layer, fan_in", [(nn.Dense(100, 50), 100), (nn.Conv2d(16, 50, 5), 400)])
def test_weights_without_an_init_are_uniform_within_one_over_root_fan_in(layer, fan_in):
    weight = initialized(layer)["G.weight"]
    assert np.abs(weight).max() <= fan_in**-0.5
    assert abs(weight.std() - (3 * fan_in) ** -0.5) < 0.02 * fan_in**-0.5


def test_stock_layers_are_redrawn_by_name_but_keep_their_constants():
    def stock():
        return ms_nn.SequentialCell(ms_nn.Dense(100, 50), ms_nn.LayerNorm((50,)))

    ms.set_seed(1)
    first = initialized(stock())
    ms.set_seed(2)
    second = initialized(stock())
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert 0.09 < np.abs(first["G.0.weight"]).max() <= 0.1
    assert (first["G.1.gamma"] == 1).all() and (first["G.1.beta"] == 0).all()
