"""Operators of MindSpore by which a model would depend on more than config, seed and data do not get into a graph."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn as ms_nn
from mindspore import ops
from one_number import OneNumber

from ganfleet import nn, testing
from ganfleet.engine import compile_cache, operators
from ganfleet.engine.compile_cache import Graph
from ganfleet.errors import ConfigError
from ganfleet.strategies.base import Player

ms.set_context(mode=ms.GRAPH_MODE)


class WithLayer(OneNumber):
    """D has a layer of MindSpore's, or of ours, between two dense ones."""

    class Options(OneNumber.Options):
        layer: str = "ReLU"
        ours: bool = False

    def players(self, stage):
        layer = getattr(nn if self.options.ours else ms_nn, self.options.layer)()
        net = ms_nn.SequentialCell(nn.Dense(stage.resolution**2, 13), layer, nn.Dense(13, 1))
        return {"D": Player(net, nn.SGD(self.options.lr))}

    def loss(self, nets, real, noise):
        image = real["image"]
        score = nets.D(image.reshape(image.shape[0], -1)) - noise["wanted"]
        return nn.discriminator_loss(score, -score), {"score": nn.softplus(score).mean()}


@pytest.fixture
def told(monkeypatch):
    """What is told about operators."""
    lines = []
    monkeypatch.setattr(operators, "_told", set())
    monkeypatch.setattr(operators, "tell", lines.append)
    return lines


@pytest.mark.parametrize("layer", ["Dropout", "Dropout1d"])
def test_a_loss_that_draws_in_its_graph_is_refused(layer):
    with pytest.raises(ConfigError, match=r"WithLayer\.loss\(\) draws random .* \(Dropout.*\): every rank .*draw\(\)"):
        testing.simulate(WithLayer, steps=1, options={"layer": layer})


class DrawsPictures(OneNumber):
    def sample(self, nets, noise):
        return ops.standard_normal((noise["wanted"].shape[0], 1, 4, 4))


def test_a_sampler_that_draws_in_its_graph_is_refused():
    run = testing.simulate(DrawsPictures, steps=1)
    with pytest.raises(ConfigError, match=r"DrawsPictures\.sample\(\) draws random .* \(StandardNormal\)"):
        run.images  # noqa: B018


class Calls(Graph):
    """The function's sum, and its gradient."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def total(self, x):
        return self.function(x).astype(ms.float32).sum()

    @ms.jit
    def construct(self, x):
        total, gradient = ms.value_and_grad(self.total)(x)
        return total, gradient


# What MindSpore's documentation lists as random and a CPU has.
def rand(x):
    return ops.rand(3)


def rand_like(x):
    return ops.rand_like(x)


def randn(x):
    return ops.randn(3)


def randn_like(x):
    return ops.randn_like(x)


def randint(x):
    return ops.randint(0, 5, (3,))


def randperm(x):
    return ops.randperm(5)


def normal(x):
    return ops.normal((3,), 0.0, 1.0)


def standard_normal(x):
    return ops.standard_normal((3,))


def standard_laplace(x):
    return ops.standard_laplace((3,))


def uniform(x):
    return ops.uniform((3,), ms.Tensor(0.0), ms.Tensor(1.0))


def bernoulli(x):
    return ops.bernoulli(ops.sigmoid(x))


def multinomial(x):
    return ops.multinomial(ops.ones(3), 1)


def shuffle(x):
    return ops.shuffle(ops.ones(3))


def dropout(x):
    return ops.dropout(x)


def dropout2d(x):
    return ops.dropout2d(x.reshape(1, 1, 2, 2))


DRAWS = [
    rand,
    rand_like,
    randn,
    randn_like,
    randint,
    randperm,
    normal,
    standard_normal,
    standard_laplace,
    uniform,
    bernoulli,
    multinomial,
    shuffle,
    dropout,
    dropout2d,
]


@pytest.mark.parametrize("function", DRAWS)
def test_all_that_draws_is_found(function):
    with pytest.raises(ConfigError, match="draws random numbers in its graph"):
        Calls(function)(ms.Tensor(np.ones(4, np.float32)))


def test_a_graph_from_the_disk_is_looked_at_too():
    for _ in range(2):
        with pytest.raises(ConfigError, match="draws random numbers in its graph"):
            Calls(randn)(ms.Tensor(np.ones(5, np.float32)))
    assert compile_cache.counts["loaded"]


class Branch(Calls):
    def total(self, x):
        return self.function(x).sum() if x.sum() > 0 else x.sum()


class Loop(Calls):
    def total(self, x):
        i = 0 * x.sum()
        while i < 3:
            x = x + self.function(x)
            i = i + 1
        return x.sum()


@pytest.mark.parametrize("graph", [Branch, Loop])
def test_what_draws_in_a_branch_or_a_loop_is_found(graph):
    with pytest.raises(ConfigError, match=r"draws random numbers in its graph \(StandardNormal\)"):
        graph(randn_like)(ms.Tensor(np.ones(4, np.float32)))


def test_dropout_is_no_random_operator_where_it_does_nothing(told):
    net = ms_nn.SequentialCell(ms_nn.Dropout(p=0.5)).set_train(False)
    assert Calls(net)(ms.Tensor(np.ones(4, np.float32)))[0].asnumpy() == 4


def test_an_operator_whose_bits_are_not_steady_is_told_once_with_what_is(told):
    for rate in (0.1, 0.2):
        testing.simulate(WithLayer, steps=1, options={"layer": "ELU", "lr": rate})
    [line] = told
    assert line.startswith(
        "WithLayer.loss() has MindSpore's Elu in its graph, whose last digits on a CPU depend on how"
    )
    assert line.endswith("ganfleet.nn.elu is steady")


class Trains(Calls):
    trains = True


def squared(x):
    return x**2 + ops.pow(x, 2)


def deviation(x):
    return x.std()


def deviations(x):
    return x.reshape(2, 2).std(0)


def cubed(x):
    return x**3


def zeroth(x):
    return x**0


def squared_by_a_tensor(x):
    return ops.pow(x, ops.ones_like(x) * 2)


def root(x):
    return ops.pow(x, 0.5)


def power_of_tensors(x):
    return ops.pow(x, x)


def logarithm(x):
    return ops.log(x)


def decimal_logarithm(x):
    return ops.log10(x)


def ours(x):
    return nn.power(x, 3) + nn.log(x) + nn.logsumexp(x, 0) + nn.softplus(x) + nn.elu(x) + nn.mish(x)


@pytest.mark.parametrize(
    "function, operators_told",
    [
        (squared, []),
        (ops.square, []),
        (deviation, []),
        (deviations, ["Pow"]),
        (ops.norm, []),
        (zeroth, []),
        (squared_by_a_tensor, ["Pow"]),
        (cubed, ["Pow"]),
        (root, ["Pow"]),
        (power_of_tensors, ["Log", "Pow"]),
        (logarithm, ["Log"]),
        (ops.softplus, ["Softplus"]),
        (ops.elu, ["Elu"]),
        (decimal_logarithm, ["Log"]),
        (ours, []),
    ],
)
def test_what_is_told_is_what_is_not_steady(function, operators_told, told):
    Trains(function)(ms.Tensor(np.ones(4, np.float32)))
    assert [line.split("MindSpore's ")[1].split()[0] for line in told] == operators_told


@pytest.mark.parametrize("layer", ["ELU", "Mish", "Softplus"])
def test_models_and_logs_with_ours_are_equal_on_all_fleets_and_after_resumes(layer, told):
    """Longer than MindSpore tries sizes of blocks for: five calls for each, on at least two sizes."""
    options = {"layer": layer, "ours": True}
    testing.assert_fleet_invisible(WithLayer, world_sizes=(1, 2), steps=12, options=options)
    testing.assert_resumes(WithLayer, steps=7, options=options)
    assert not told
