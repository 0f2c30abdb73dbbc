"""What ganfleet.testing tells an author: nothing where all is well, and the usual mistakes by name."""

import numpy as np
import pytest
from mindspore import nn as ms_nn
from mindspore import ops
from nn.reference import normal
from one_number import OneNumber

from ganfleet import nn, testing
from ganfleet.errors import ConfigError, NonFinite
from ganfleet.strategies.base import Phase, Player

# ── simulate


def test_a_simulation_gives_digest_stats_and_images():
    run = testing.simulate(OneNumber, 2, 3, seed=7)
    assert len(run.digest) == 64
    assert [list(stats) for stats in run.stats] == [["Loss/D"]] * 3
    assert run.snapshot.facts["clock"] == {"step": 3, "nimg": 24}
    assert run.images.shape == (4, 1, 4, 4) and run.images.std() > 0
    assert testing.simulate(OneNumber, 1, 3, seed=7).digest == run.digest


def test_the_first_loss_is_that_of_the_fake_images_and_the_draws():
    """Lane l of step 0 has the samples 2l and 2l + 1 of the order, and wants what its own stream draws."""

    class Seen(OneNumber):
        def loss(self, nets, real, noise):
            loss, _ = super().loss(nets, real, noise)
            return loss, {"label": real["label"], "pixel": real["image"][:, 0, 0, 0]}

    [stats] = testing.simulate(Seen, steps=1, batch_size=2, lanes=1, source=testing.FakeImages(count=2)).stats
    assert sorted(stats["label"]) == [0, 1]
    fakes = testing.FakeImages(count=2).at(4)
    for label, pixel in zip(stats["label"].astype(int), stats["pixel"], strict=True):
        assert pixel == pytest.approx(fakes[label]["image"][0, 0, 0] / 127.5 - 1, abs=1e-6)


def test_fake_images_have_what_a_strategy_may_ask_for():
    source = testing.FakeImages(channels=3, classes=0, names=("image_a", "image_b")).at(8)
    sample = source[5]
    assert list(sample) == ["image_a", "image_b"]
    assert sample["image_a"].shape == (3, 8, 8) and sample["image_a"].dtype == np.uint8
    assert (sample["image_a"] != sample["image_b"]).any()
    np.testing.assert_array_equal(sample["image_a"], source[5]["image_a"])


def test_wrong_options_and_keys_are_config_errors():
    with pytest.raises(ConfigError, match=r"override strategy\.rl=1\.0: unknown key"):
        testing.simulate(OneNumber, options={"rl": 1.0})
    with pytest.raises(ConfigError, match=r"train\.batchsize=4: unknown key, did you mean batch_size"):
        testing.simulate(OneNumber, batchsize=4)
    with pytest.raises(ConfigError, match="3 ranks cannot share them equally"):
        testing.simulate(OneNumber, 3)


def test_no_update_is_skipped_silently():
    class Explodes(OneNumber):
        def draw(self, rng, n, clock):
            return {"wanted": np.full((n, 1), np.nan)}

    with pytest.raises(NonFinite, match="phase D are not finite"):
        testing.simulate(Explodes, steps=1)


# ── The usual mistakes


def test_a_global_generator_is_named_with_the_method_that_uses_it():
    class Global(OneNumber):
        def draw(self, rng, n, clock):
            return {"wanted": np.random.standard_normal((n, 1))}

    with pytest.raises(AssertionError, match=r"draw\(\) uses a global random generator"):
        testing.assert_fleet_invisible(Global, steps=1)


def test_a_generator_of_its_own_is_named_with_the_first_draw_that_differs():
    class Own(OneNumber):
        def __init__(self, *args):
            super().__init__(*args)
            self.generator = np.random.default_rng(0)

        def draw(self, rng, n, clock):
            return {"wanted": self.generator.standard_normal((n, 1))}

    with pytest.raises(AssertionError) as raised:
        testing.assert_fleet_invisible(Own, world_sizes=(1, 2), steps=1)
    message = str(raised.value)
    assert "Own trains to other bits on 2 ranks than on 1: in D.weights, D.0." in message
    assert "draw gave other values from step 0, lane 2 on" in message  # lane 2 is the second rank's first
    assert "Training changes self.generator" in message


def test_a_memory_on_self_that_prepare_fills_is_caught():
    class Pool(OneNumber):
        def __init__(self, *args):
            super().__init__(*args)
            self.last = np.zeros((2, 1), np.float32)

        def phases(self, stage):
            return [Phase("D", self.loss, prepare=self.one_lane_late)]

        def one_lane_late(self, rng, kept, memory):
            shown, self.last = self.last, rng.standard_normal((2, 1))
            return {"wanted": shown}

    with pytest.raises(AssertionError, match=r"logged stats differ from step 0 on.*changes self\.last"):
        testing.assert_fleet_invisible(Pool, world_sizes=(1, 2), steps=1)


class Forgets(OneNumber):
    """What it wants grows, step by step, and no checkpoint says so."""

    def __init__(self, *args):
        super().__init__(*args)
        self.scale = 1.0

    def draw(self, rng, n, clock):
        return {"wanted": self.scale * rng.standard_normal((n, 1))}

    def hyper(self, player, clock):
        self.scale *= 2
        return {}


class Growing(ms_nn.Cell):
    """A dense layer and a factor that doubles with each phase that records it."""

    def __init__(self, inputs):
        super().__init__()
        self.dense = nn.Dense(inputs, 1)
        self.scale = nn.Buffer((), 1.0)

    def construct(self, x):
        return self.dense(x)


class Remembers(OneNumber):
    """The same with a buffer."""

    def players(self, stage):
        return {"D": Player(Growing(stage.resolution**2), nn.SGD(self.options.lr))}

    def loss(self, nets, real, noise):
        loss, stats = super().loss(nets, real, {"wanted": nets.D.scale.value * noise["wanted"]})
        nets.D.scale.add(2 * nets.D.scale.value)
        return loss, stats


@pytest.mark.slow
def test_state_that_a_checkpoint_lacks_is_named():
    with pytest.raises(AssertionError) as raised:
        testing.assert_resumes(Forgets, steps=1)
    message = str(raised.value)
    assert "Forgets trains to other bits when it is resumed after 1 of 2 steps: in D.weights" in message
    assert "draw gave other values from step 1, lane 0 on" in message
    assert (
        "Training changes self.scale of the strategy: what must outlast a resume belongs in a ganfleet.nn.Buffer"
        in message
    )
    testing.assert_resumes(Remembers, steps=1)


@pytest.mark.slow
def test_a_number_that_a_graph_has_frozen_is_caught_by_a_resume():
    class Frozen(OneNumber):
        def draw(self, rng, n, clock):
            self.scale = 1 + clock.step
            return {"wanted": rng.standard_normal((n, 1))}

        def loss(self, nets, real, noise):
            loss, stats = super().loss(nets, real, noise)
            return self.scale * loss, stats

    with pytest.raises(AssertionError, match=r"self\.scale.*a compiled graph keeps the values"):
        testing.assert_resumes(Frozen, steps=1)


# ── Second order


class StopsTheGradient(ms_nn.Cell):
    """x², whose own gradient is right, and has none."""

    def construct(self, x):
        return x * x

    def bprop(self, x, out, dout):
        return (2 * ops.stop_gradient(x) * dout,)


def test_an_exact_layer_passes_kinks_and_all():
    d = ms_nn.SequentialCell(nn.Conv2d(2, 3, 3, 1, 1), nn.LeakyReLU(), ms_nn.Flatten(), nn.Dense(48, 2), nn.Tanh())
    testing.check_second_order(d, normal(2, 2, 4, 4))


def test_a_layer_that_mindspore_cannot_differentiate_twice_is_named():
    with pytest.raises(AssertionError, match=r"^ELU has no derivative of order 2; MindSpore says: .*EluGrad"):
        testing.check_second_order(ms_nn.ELU(), normal(2, 3))


def test_a_silently_wrong_second_derivative_is_found_and_named():
    with pytest.raises(
        AssertionError, match=r"^StopsTheGradient: the derivative of order 2 with respect to x is wrong"
    ):
        testing.check_second_order(StopsTheGradient(), normal(2, 3))


def test_a_wrong_first_derivative_is_told_as_such():
    def half(x):
        return x * ops.stop_gradient(x)

    with pytest.raises(AssertionError, match=r"^half: the derivative of order 1 with respect to x is wrong"):
        testing.check_second_order(half, normal(2, 3))


def test_what_differences_cannot_judge_is_not_passed():
    with pytest.raises(AssertionError, match="cannot be judged: every difference meets a kink"):
        testing.check_second_order(ops.floor, np.linspace(-2, 2, 401, dtype=np.float32).round(2))
