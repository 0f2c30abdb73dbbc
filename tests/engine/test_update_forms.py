"""A player's update without a branch, as Ascend compiles it, has the bits of the one with a branch."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn as ms_nn
from mindspore import ops

from ganfleet import nn
from ganfleet.engine import compile_cache
from ganfleet.engine.player import FlatPlayer
from ganfleet.nn import forms
from ganfleet.strategies.base import Player

GRADIENTS = np.random.default_rng(0).standard_normal((3, 4 * 3 + 3 + 3 + 3), dtype=np.float32)


@ops.constexpr
def has_none():
    return False


def states():
    """All that three updates change, after each; the second one's sum is not finite."""
    ms.set_context(mode=ms.GRAPH_MODE)
    nets = ms_nn.SequentialCell(nn.Dense(4, 3), nn.BatchNorm(3))
    for parameter in nets.get_parameters():
        parameter.set_data(ms.Tensor(np.ones(parameter.shape, np.float32)))
    nets.update_parameters_name("N.")
    player = FlatPlayer("N", Player(nets, nn.Adam(1e-2, (0.5, 0.9))))
    seen = np.ones(player.seen_size, np.float32)
    found = []
    with compile_cache.unused():
        for step, gradient in enumerate(GRADIENTS):
            total = np.concatenate((gradient[: player.size], seen, np.float32([7])))
            total[1] = np.nan if step == 1 else total[1]
            summary = player.update(ms.Tensor(total), ms.Tensor(np.float32(0.5)), {})
            found.append([summary.asnumpy().copy(), player.tensors()])
    return found


def values(state):
    summary, components = state
    return {name: array for arrays in components.values() for name, array in arrays.items()} | {"summary": summary}


@pytest.fixture(scope="module")
def branched():
    return states()


def test_both_forms_have_the_same_bits(branched, monkeypatch):
    monkeypatch.setattr(forms, "branches", has_none)
    for one, other in zip(states(), branched, strict=True):
        one, other = values(one), values(other)
        assert one.keys() == other.keys()
        for name in one:
            assert np.array_equal(one[name], other[name]), name


def test_a_sum_that_is_not_finite_changes_nothing(branched):
    first, second, third = map(values, branched)
    assert (first.pop("summary")[0], second.pop("summary")[0], third.pop("summary")[0]) == (1, 0, 1)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not any(np.array_equal(second[name], third[name]) for name in second if "bias" in name)
