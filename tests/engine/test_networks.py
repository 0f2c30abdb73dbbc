"""What a program does with a strategy's networks: what is drawn, what is kept, what is frozen, what stages inherit."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn as ms_nn
from mindspore import ops

from ganfleet import nn, testing
from ganfleet.clock import Clock
from ganfleet.engine.program import Program
from ganfleet.errors import CheckpointMismatch, ConfigError
from ganfleet.store import weights
from ganfleet.strategies.base import Ema, Frozen, ImageSpec, Phase, Player, Stage, Strategy, StrategyOptions


class Plain(Strategy):
    """D is a stock layer and one of ganfleet's."""

    class Options(StrategyOptions):
        resolution: int = 4

    def players(self, stage):
        return {"D": Player(self.network(), nn.SGD(0.1))}

    def network(self):
        return ms_nn.SequentialCell(ms_nn.Dense(16, 3, weight_init="normal"), nn.Dense(3, 1))

    def phases(self, stage):
        return [Phase("D", self.loss)]

    def draw(self, rng, n, clock):
        return {}

    def loss(self, nets, real, noise):
        image = real["image"]
        scores = nets.D(image.reshape(image.shape[0], -1))
        return (scores * scores).mean(), {}


def start(strategy, seed=0):
    made = strategy(strategy.Options(), ImageSpec(channels=1), 8)
    return Program(made, made.schedule()[0], seed).tensors()["D.weights"]


class WithLoadedWeights(Plain):
    def network(self):
        net = super().network()
        net[0].weight.set_data(ms.Tensor(np.arange(48, dtype=np.float32).reshape(3, 16)))
        net[1].weight.set_data(ms.Tensor(np.float32([[1, 2, 3]])))
        return net


def test_weights_that_were_loaded_are_not_drawn_anew():
    loaded = start(WithLoadedWeights)
    np.testing.assert_array_equal(loaded["D.0.weight"], np.arange(48).reshape(3, 16))
    np.testing.assert_array_equal(loaded["D.1.weight"], [[1, 2, 3]])


def test_stock_layers_start_as_their_own_initialiser_says_and_the_seed():
    """N(0, 0.01²) is what MindSpore's "normal" draws; ganfleet's default would be far wider."""
    state = np.random.get_state()[1].copy()
    weight = start(Plain, seed=1)["D.0.weight"]
    assert 0.005 < weight.std() < 0.02
    np.testing.assert_array_equal(weight, start(Plain, seed=1)["D.0.weight"])
    assert not np.array_equal(weight, start(Plain, seed=2)["D.0.weight"])
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # the caller's own generator is as before


# ── Frozen networks


class Judge(ms_nn.Cell):
    """A frozen network with batch norm and a stock layer, whose mode and weights must not change."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(16, 4)
        self.norm = nn.BatchNorm(4)
        self.last = ms_nn.Dense(4, 1)

    def construct(self, x):
        return self.last(self.norm(self.dense(x)))


class Judged(Strategy):
    """G learns to please a frozen network."""

    class Options(StrategyOptions):
        resolution: int = 4
        judge: str = ""

    def players(self, stage):
        return {"G": Player(ms_nn.SequentialCell(nn.Dense(2, 16)), nn.Adam(0.01), ema=Ema(decay=0.5))}

    def frozen(self, stage):
        return {"judge": Frozen(Judge(), weights=self.options.judge)}

    def phases(self, stage):
        return [Phase("G", self.loss)]

    def draw(self, rng, n, clock):
        return {"z": rng.standard_normal((n, 2))}

    def loss(self, nets, real, noise):
        return -nets.judge(nets.G(noise["z"])).mean(), {}

    def sample(self, nets, inputs):
        return nets.G(inputs["z"]).reshape(-1, 1, 4, 4)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A file with the weights of a Judge, by the names its parameters have."""
    draw = np.random.default_rng(0)
    shapes = {p.name: p.shape for p in Judge().get_parameters()}
    tensors = {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    tensors["norm.moments.value"] = np.float32([[0] * 4, [2] * 4])
    tensors["norm.moments.seen"] = np.zeros(9, np.float32)
    path = tmp_path_factory.mktemp("judge") / "judge.safetensors"
    weights.write(path, tensors)
    return path, tensors


def test_a_frozen_network_is_used_and_neither_changed_nor_stored(judge):
    path, tensors = judge
    runs = [testing.simulate(Judged, ranks, 4, options={"judge": str(path)}) for ranks in (1, 2)]
    for run in runs:
        assert run.snapshot.facts["frozen"] == {"judge": weights.sha256(tensors)}
        assert not any("judge" in name for group in run.snapshot.tensors.values() for name in group)
        program = run._trainer.program
        after = {p.name.removeprefix("judge."): p.asnumpy() for p in program.nets.judge.get_parameters()}
        assert weights.sha256(after) == weights.sha256(tensors)
    assert runs[0].digest == runs[1].digest
    losses = [float(stats["Loss/G"]) for stats in runs[0].stats]
    assert losses == sorted(losses, reverse=True)  # G gets better by the frozen network's word


def test_a_frozen_network_gives_what_its_weights_say(judge):
    """Batch norm in evaluation, by the moments of the file."""
    path, w = judge
    made = Judged(Judged.Options(judge=str(path)), ImageSpec(1), 8)
    program = Program(made, made.schedule()[0], 0)
    x = np.random.default_rng(1).standard_normal((3, 16)).astype(np.float32)
    y = x @ w["dense.weight"].T + w["dense.bias"]
    y = y / np.sqrt(2 + 1e-5) * w["norm.gain"] + w["norm.bias"]
    expected = y @ w["last.weight"].T + w["last.bias"]
    np.testing.assert_allclose(program.nets.judge(ms.Tensor(x)).asnumpy(), expected, rtol=2e-4, atol=1e-5)


def test_a_frozen_network_of_other_weights_is_refused_on_resume(judge, tmp_path):
    path, tensors = judge
    half = testing.simulate(Judged, 1, 2, options={"judge": str(path)})
    other = tmp_path / "other.safetensors"
    weights.write(other, tensors | {"last.bias": tensors["last.bias"] + 1})
    with pytest.raises(CheckpointMismatch, match=r"the frozen network 'judge' .* is another than when"):
        testing.simulate(Judged, 1, 2, options={"judge": str(other)}, resumed_from=half.snapshot)


def test_a_frozen_network_without_weights_is_refused():
    class Nowhere(Judged):
        def frozen(self, stage):
            return {"judge": Frozen(Judge())}

    with pytest.raises(ConfigError, match=r"'judge' has no weights \(dense.weight was never set\)"):
        testing.simulate(Nowhere, 1, 1)


# ── Stages


class TwoStages(Plain):
    """The second stage begins after two steps, and has another player and a wider D."""

    grows = False

    def schedule(self):
        return [Stage(4, 8), Stage(4, 8, starts_at=16, name="second")]

    def players(self, stage):
        second = stage.name == "second"
        width = 5 if second and self.grows else 3
        players = {"D": Player(ms_nn.SequentialCell(nn.Dense(16, width), nn.Dense(width, 1)), nn.Adam(0.1))}
        if second:
            players["E"] = Player(nn.Dense(16, 1), nn.SGD(0.1), ema=Ema(decay=0.5))
        return players

    def phases(self, stage):
        return [Phase("D", self.loss), *([Phase("E", self.e_loss)] if stage.name == "second" else [])]

    def e_loss(self, nets, real, noise):
        image = real["image"]
        return nets.E(image.reshape(image.shape[0], -1)).mean(), {}


@pytest.mark.slow
def test_a_player_that_first_appears_in_a_later_stage_starts_there():
    first, second = testing.simulate(TwoStages, 1, 2), testing.simulate(TwoStages, 1, 4)
    assert "E.weights" not in first.snapshot.tensors
    assert second.snapshot.tensors["E.optimizer"]["updates"] == 2
    assert second.snapshot.tensors["D.optimizer"]["updates"] == 2  # afresh
    testing.assert_resumes(TwoStages, steps=2)


class Widens(TwoStages):
    grows = True


def test_a_weight_of_another_shape_in_the_next_stage_is_refused_by_name():
    with pytest.raises(
        ConfigError, match=r"D\.0\.weight has shape \(3, 16\) in one stage and \(5, 16\) in the next.*carry_over"
    ):
        testing.simulate(Widens, 1, 4)


@pytest.mark.slow
def test_a_strategy_may_say_what_a_weight_of_another_shape_becomes():
    class Pads(Widens):
        def carry_over(self, name, old, shape):
            return np.pad(old, [(0, to - was) for was, to in zip(old.shape, shape, strict=True)])

    class PadsAndStops(Pads):
        def schedule(self):
            return [Stage(4, 8), Stage(4, 8, starts_at=16, name="second")]

        def hyper(self, player, clock):
            return {"lr": 0.0 if clock.step >= 2 else 0.1}

    before = testing.simulate(Pads, 1, 2).snapshot.tensors["D.weights"]
    after = testing.simulate(PadsAndStops, 1, 3).snapshot.tensors["D.weights"]
    np.testing.assert_array_equal(after["D.0.weight"], np.pad(before["D.0.weight"], [(0, 2), (0, 0)]))
    np.testing.assert_array_equal(after["D.1.weight"], np.pad(before["D.1.weight"], [(0, 0), (0, 2)]))


# ── Phases and graphs


def test_a_closure_as_a_loss_is_compiled_once(monkeypatch):
    from ganfleet.engine import phase

    made = []
    original = phase._PhaseGraph.__init__
    monkeypatch.setattr(phase._PhaseGraph, "__init__", lambda self, *a: (made.append(a), original(self, *a))[1])

    class WithClosure(Plain):
        def phases(self, stage):
            factor = 2.0

            def loss(nets, real, noise):
                return self.loss(nets, real, noise)[0] * factor, {}

            return [Phase("D", loss)]

    testing.simulate(WithClosure, 1, 5)
    assert len(made) == 1


def test_a_phase_is_due_when_its_own_function_of_the_clock_says_so():
    class Sometimes(Plain):
        def phases(self, stage):
            return [Phase("D", self.loss, due=lambda clock: clock.nimg % 24 == 8)]

    run = testing.simulate(Sometimes, 1, 6)
    assert ["Loss/D" in stats for stats in run.stats] == [False, True, False, False, True, False]
    assert run.snapshot.tensors["D.optimizer"]["updates"] == 2


# ── Averages and schedules


class Averaged(Plain):
    """G has an average, and moves in two phases of a step or in every third step only."""

    every = 1

    def players(self, stage):
        return {"D": Player(nn.Dense(16, 1), nn.SGD(0.1), ema=Ema(half_life_kimg=0.016))}

    def phases(self, stage):
        return [Phase("D", self.loss, every=self.every), Phase("D", self.loss, every=self.every, name="again")]


class Seldom(Averaged):
    every = 3


@pytest.mark.parametrize("strategy", [Averaged, Seldom])
def test_an_average_moves_once_per_step_by_the_images_of_the_step(strategy):
    """avg ← w + (avg − w)·½^(8 / 16) after each of the steps, whatever the number of updates in it."""
    tensors = [testing.simulate(strategy, 1, steps).snapshot.tensors for steps in (1, 2, 3, 4)]
    average = start(strategy)["D.weight"]
    for each in tensors:
        weight = each["D.weights"]["D.weight"]
        average = weight + (average - weight) * 0.5**0.5
        np.testing.assert_allclose(each["D.ema"]["D.weight"], average, rtol=1e-5, atol=1e-7)


def test_learning_rate_beta2_and_half_life_may_follow_a_schedule():
    """Against Adam by hand, in float64, with the gradients of a linear loss, which are constant."""

    class Scheduled(Plain):
        def players(self, stage):
            return {"D": Player(nn.Dense(16, 1, bias=False), nn.Adam(1.0, (0.0, 0.9)), ema=Ema(half_life_kimg=1.0))}

        def hyper(self, player, clock):
            return {"lr": 0.1 / (1 + clock.step), "beta2": 0.9 + 0.03 * clock.step, "ema_half_life_kimg": 0.008}

        def loss(self, nets, real, noise):
            return nets.D(ops.ones((2, 16), ms.float32)).mean(), {}

    weight = start(Scheduled)["D.weight"].astype(np.float64)
    average, v = weight, 0.0
    for step in range(3):
        beta2 = 0.9 + 0.03 * step
        v = beta2 * v + (1 - beta2)
        weight = weight - 0.1 / (1 + step) / (np.sqrt(v / (1 - beta2 ** (step + 1))) + 1e-8)
        average = weight + (average - weight) * 0.5
    ended = testing.simulate(Scheduled, 1, 3).snapshot.tensors
    np.testing.assert_allclose(ended["D.weights"]["D.weight"], weight, rtol=1e-5)
    np.testing.assert_allclose(ended["D.ema"]["D.weight"], average, rtol=1e-5)


def test_a_method_of_the_first_release_that_nothing_calls_is_refused():
    class Old(Plain):
        def after_step(self, clock, stats):
            pass

    with pytest.raises(ConfigError, match=r"Old\.after_step\(\) is of an older ganfleet.*Buffer"):
        testing.simulate(Old, 1, 1)


def test_draws_made_ahead_are_those_made_in_time():
    """The digest of a run does not depend on whether the next step's numbers are in the making."""
    from ganfleet.engine.draws import Draws
    from ganfleet.strategies.gan import GAN

    made = GAN(GAN.Options(resolution=4), ImageSpec(1), 8)
    stage = made.schedule()[0]
    phases = made.phases(stage)
    clock, ahead = Clock(10**6), Draws(made, phases, stage, 0, range(2), 4)
    for _ in range(3):
        in_time = Draws(made, phases, stage, 0, range(2), 4)
        drawn, expected = ahead.at(clock), in_time.at(clock)
        assert drawn.keys() == expected.keys() == {(name, lane) for name in "DG" for lane in (0, 1)}
        for key in drawn:
            np.testing.assert_array_equal(drawn[key]["z"], expected[key]["z"])
        in_time.close()
        clock.tick(8)
    ahead.close()
