"""Buffers move by what all lanes saw, once per phase of their player, and never by what nobody recorded."""

import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
from in_memory import one_lane
from mindspore import nn as ms_nn
from mindspore import ops

from ganfleet import nn, testing
from ganfleet.engine.program import Program
from ganfleet.errors import NonFinite
from ganfleet.strategies.base import ImageSpec, Phase, Player, Strategy, StrategyOptions

jax.config.update("jax_enable_x64", True)


class TwoNetworks(Strategy):
    """One player with two networks that have batch norm; its phase uses the first of them only."""

    class Options(StrategyOptions):
        resolution: int = 4

    def players(self, stage):
        def net():
            return ms_nn.SequentialCell(nn.Dense(16, 4), nn.BatchNorm(4), nn.Dense(4, 1))

        return {"D": Player({"used": net(), "unused": net()}, nn.SGD(0.01))}

    def phases(self, stage):
        return [Phase("D", self.loss)]

    def draw(self, rng, n, clock):
        return {}

    def loss(self, nets, real, noise):
        image = real["image"]
        scores = nets.used(image.reshape(image.shape[0], -1))
        return (scores * scores).mean(), {}


def test_a_batch_norm_that_no_loss_calls_keeps_its_moments():
    run = testing.simulate(TwoNetworks, steps=3)
    moments = run.snapshot.tensors["D.buffers"]
    np.testing.assert_array_equal(moments["unused.1.moments.value"], [[0] * 4, [1] * 4])
    used = moments["used.1.moments.value"]
    assert np.isfinite(used).all() and not np.array_equal(used, [[0] * 4, [1] * 4])


class Summing(ms_nn.Cell):
    """One of several like layers: keeps the mean of the squares of its weight and of what it gives out."""

    def __init__(self):
        super().__init__()
        self.weight = nn.parameter("weight", (3, 3), nn.Normal(0.5))
        self.squares = nn.Buffer((2,))

    def construct(self, x):
        y = ops.matmul(x, self.weight)
        self.squares.add(ops.stack(((self.weight * self.weight).mean(), (y * y).mean())))
        return ops.tanh(y)


class Deep(ms_nn.Cell):
    def __init__(self):
        super().__init__()
        self.layers = ms_nn.CellList([Summing() for _ in range(3)])
        self.last = Summing()

    def construct(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.last(x)


class LikeLayers(Strategy):
    class Options(StrategyOptions):
        resolution: int = 4

    def players(self, stage):
        return {"D": Player(Deep(), nn.SGD(0.0))}

    def phases(self, stage):
        return [Phase("D", self.loss)]

    def draw(self, rng, n, clock):
        return {"x": rng.standard_normal((n, 3), dtype=np.float32)}

    def loss(self, nets, real, noise):
        y = nets.D(noise["x"])
        return (y * y).mean(), {}


def test_each_of_several_like_layers_has_its_own_buffer_and_the_gradient_is_that_of_float64():
    strategy = LikeLayers(LikeLayers.Options(), ImageSpec(channels=1), 4)
    program = Program(strategy, strategy.schedule()[0], seed=0)
    player = program.players["D"]
    weights = [p.asnumpy().astype(float) for p in player.weights]
    x = np.random.Generator(np.random.Philox(1)).standard_normal((4, 3), dtype=np.float32)
    flat, _ = one_lane(program.phases[0], {}, {"x": x})

    def loss(weights):
        y, squares = jnp.asarray(x, float), []
        for weight in weights:
            z = y @ weight
            squares += [(weight**2).mean(), (z**2).mean(), 1.0]
            y = jnp.tanh(z)
        return (y**2).mean(), jnp.stack(squares)

    gradient, seen = jax.grad(loss, has_aux=True)([jnp.asarray(weight) for weight in weights])
    expected = np.concatenate([np.ravel(each) for each in gradient] + [np.ravel(seen)])
    np.testing.assert_allclose(flat[: len(expected)], expected, rtol=1e-5, atol=1e-7)


class Counts(ms_nn.Cell):
    """Has a buffer of a number and one that moves in a way of its own."""

    def __init__(self):
        super().__init__()
        self.weight = nn.parameter("weight", (1,), nn.Constant(1.0))
        self.mean = nn.Buffer((), 0.0, momentum=0.5)
        self.total = nn.Buffer((2,), (1.0, 10.0), move=added)

    def construct(self, x):
        return x * self.weight


def added(value, mean):
    return value + mean


class Records(Strategy):
    """D's phase records what it draws; G's records into D's buffers, too, which must not count."""

    def players(self, stage):
        return {"D": Player(Counts(), nn.SGD(0.0)), "G": Player(Counts(), nn.SGD(0.0))}

    def phases(self, stage):
        return [Phase("D", self.d_loss), Phase("G", self.g_loss)]

    def draw(self, rng, n, clock):
        return {"x": rng.standard_normal((n, 1), dtype=np.float32)}

    def d_loss(self, nets, real, noise):
        x = nets.D(noise["x"])
        nets.D.mean.add(noise["x"].mean())
        nets.D.total.add(ops.concat((noise["x"].mean().reshape(1), ops.ones((1,), ms.float32))))
        return x.mean(), {"x": noise["x"].mean()}

    def g_loss(self, nets, real, noise):
        nets.D.mean.add(100 * noise["x"].mean())
        return nets.G(noise["x"]).mean(), {}


def test_a_buffer_moves_by_the_mean_over_all_lanes_of_its_own_players_phase():
    run = testing.simulate(Records, world_size=2, steps=3)
    mean, total = 0.0, np.array([1.0, 10.0])
    for stats in run.stats:
        mean += 0.5 * (float(stats["x"]) - mean)
        total += [float(stats["x"]), 1]
    buffers = run.snapshot.tensors["D.buffers"]
    np.testing.assert_allclose(buffers["D.mean.value"], mean, rtol=1e-6)
    np.testing.assert_allclose(buffers["D.total.value"], total, rtol=1e-6)
    np.testing.assert_array_equal(run.snapshot.tensors["G.buffers"]["G.mean.value"], 0.0)


@pytest.mark.slow
def test_buffers_are_equal_on_every_fleet_and_after_a_resume():
    testing.assert_fleet_invisible(Records, steps=2)
    testing.assert_resumes(Records, steps=2)


class Spoilt(Records):
    """What is recorded is not finite from the second step on."""

    def draw(self, rng, n, clock):
        return {"x": np.full((n, 1), np.nan if clock.step else 1.0, np.float32)}


def test_an_update_that_is_not_finite_leaves_buffers_as_they_were():
    run = testing.simulate(Spoilt, steps=3, nonfinite_budget=4)
    buffers = run.snapshot.tensors["D.buffers"]
    np.testing.assert_allclose(buffers["D.mean.value"], 0.5)
    np.testing.assert_allclose(buffers["D.total.value"], [2, 11])
    assert run.snapshot.facts["guard"] == {"nonfinite": 4}
    assert run.snapshot.tensors["D.optimizer"]["updates"] == 1


def test_more_updates_that_are_not_finite_than_allowed_end_the_run():
    with pytest.raises(NonFinite, match=r"more than train\.nonfinite_budget 3"):
        testing.simulate(Spoilt, steps=3, nonfinite_budget=3)
