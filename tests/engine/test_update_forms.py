"""A player's update has the same bits in place, as CPUs compile it, without a branch, as Ascend does, and otherwise."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn as ms_nn
from mindspore import ops

from ganfleet import nn
from ganfleet.engine import compile_cache
from ganfleet.engine.player import FlatPlayer
from ganfleet.engine.tensors import copy
from ganfleet.nn import forms
from ganfleet.strategies.base import Ema, Player

GRADIENTS = np.random.default_rng(0).standard_normal((3, 4 * 3 + 3 + 3 + 3), dtype=np.float32)


@ops.constexpr
def has_none():
    return False


class Backwards(nn.Adam):
    """Adam on the gradient's opposite."""

    def update(self, gradient, weights, slots, t, hyper):
        return super().update(-gradient, weights, slots, t, hyper)


def states(optimizer=nn.Adam, after_update=None):
    """All that three updates change, after each; the second one's sum is not finite."""
    ms.set_context(mode=ms.GRAPH_MODE)
    nets = ms_nn.SequentialCell(nn.Dense(4, 3), nn.BatchNorm(3))
    for parameter in nets.get_parameters():
        parameter.set_data(ms.Tensor(np.ones(parameter.shape, np.float32)))
    nets.update_parameters_name("N.")
    player = Player(nets, optimizer(1e-2, (0.5, 0.9)), ema=Ema(decay=0.9), after_update=after_update)
    player = FlatPlayer("N", player)
    seen = np.ones(player.seen_size, np.float32)
    found = []
    with compile_cache.unused():
        for step, gradient in enumerate(GRADIENTS):
            total = np.concatenate((gradient[: player.size], seen, np.float32([7])))
            total[1] = np.nan if step == 1 else total[1]
            summary = player.update(ms.Tensor(total), ms.Tensor(np.float32(0.5)), {})
            player.average(0.75)
            networks = {name: copy(vector) for name, (vector, _) in player.replicated().items() if "networks" in name}
            found.append([summary.asnumpy().copy(), player.tensors() | {"networks": networks}])
    return found


def values(state):
    summary, components = state
    arrays = {f"{component}/{name}": array for component, of in components.items() for name, array in of.items()}
    return arrays | {"summary": summary}


def assert_equal(states, expected):
    for one, other in zip(map(values, states), map(values, expected), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert np.array_equal(one[name], other[name]), name


@pytest.fixture(scope="module")
def branched():
    return states()


def test_without_a_branch_the_bits_are_the_same(branched, monkeypatch):
    monkeypatch.setattr(forms, "branches", has_none)
    assert_equal(states(), branched)


@pytest.mark.parametrize("optimizer, after_update", [(nn.Adam, None), (Backwards, None), (nn.Adam, ops.neg)])
def test_the_stock_form_has_the_same_bits(optimizer, after_update):
    """Only plain Adam, with nothing after it, is in place."""
    own = states(optimizer, after_update)
    with forms.using(forms.STOCK):
        assert_equal(states(optimizer, after_update), own)


def test_the_networks_own_parameters_follow_the_vector(branched):
    for state in map(values, branched):
        for name in ("N.0.weight", "N.1.bias"):
            assert np.array_equal(state[f"networks/N.networks/{name}"], state[f"N.weights/{name}"])


def test_a_sum_that_is_not_finite_changes_nothing_but_the_average(branched):
    first, second, third = map(values, branched)
    assert (first.pop("summary")[0], second.pop("summary")[0], third.pop("summary")[0]) == (1, 0, 1)
    moved = {name for name in first if not np.array_equal(first[name], second[name])}
    assert moved and all("ema" in name for name in moved)
    assert not any(np.array_equal(second[name], third[name]) for name in second if "bias" in name)
