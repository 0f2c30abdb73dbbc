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
    assert not values["G.0.bias"].any() and not values["G.1.bias"].any() and not values["G.1.moments.seen"].any()
    assert np.array_equal(values["G.1.moments.value"], [[0] * 64, [1] * 64])


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


def test_stock_layers_draw_their_own_weights_by_the_seed_alone():
    def stock(seed):
        with nn.reproducible(seed):
            return initialized(ms_nn.SequentialCell(ms_nn.Dense(100, 50, weight_init="ones"), ms_nn.Dense(50, 2)))

    np.random.seed(1)
    first = stock(5)
    np.random.seed(2)
    second = stock(5)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert (first["G.0.weight"] == 1).all()  # what its author chose
    assert len(np.unique(first["G.1.weight"])) > 90 and not np.array_equal(stock(6)["G.1.weight"], first["G.1.weight"])


def test_weights_that_were_set_are_not_drawn():
    net = two_layers()
    loaded = np.zeros((64, 3, 4, 4), np.float32)  # zeros too are values
    net[0].weight.set_data(ms.Tensor(loaded))
    values = initialized(net)
    assert np.array_equal(values["G.0.weight"], loaded)
    assert values["G.1.gain"].std() > 0
