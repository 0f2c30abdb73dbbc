"""What lanes keep: tensors from one phase to the next of a step, and a memory of their own across steps and resumes."""

import numpy as np
import pytest
from in_memory import ArraySource, trainer
from mindspore import nn as ms_nn

from ganfleet import nn
from ganfleet.fleet import SimulatedFleet
from ganfleet.store import checkpoint
from ganfleet.strategies.base import Phase, Player, Strategy

SAMPLES = np.random.default_rng(0).standard_normal((64, 3), dtype=np.float32)
YAML = """
strategy: {name: "test_lanes:Replay"}
train: {steps: 6, batch_size: 8, lanes: 4, seed: 5}
"""


class Replay(Strategy):
    """G first; D is then shown what G made on the same lane one step ago, and at the start what it made just now."""

    reads = ("x",)

    def __init__(self, *args):
        super().__init__(*args)
        self.made, self.shown = [], []

    def players(self, stage):
        return {
            "G": Player(ms_nn.SequentialCell(nn.Dense(2, 3)), nn.SGD(0.1)),
            "D": Player(ms_nn.SequentialCell(nn.Dense(3, 1)), nn.SGD(0.1)),
        }

    def phases(self, stage):
        return [Phase("G", self.g_loss), Phase("D", self.d_loss, prepare=self.one_step_late)]

    def draw(self, rng, n, clock):
        return {"z": rng.standard_normal((n, 2))}

    def g_loss(self, nets, real, noise):
        fake = nets.G(noise["z"])
        return -nets.D(fake).mean(), {}, {"fake": fake}

    def d_loss(self, nets, real, noise):
        return nets.D(noise["late"]).mean() - nets.D(real["x"]).mean(), {"late": noise["late"].mean()}

    def one_step_late(self, rng, kept, memory):
        late = memory.get("fake", kept["fake"])
        memory["fake"] = kept["fake"]
        self.made.append(kept["fake"])
        self.shown.append(late)
        return {"late": late}


@pytest.fixture
def make(tmp_path):
    def make_trainer():
        return trainer(YAML, ArraySource("x", SAMPLES), tmp_path)

    return make_trainer


def step(trained, times):
    for _ in range(times):
        trained.stepper.step(trained.loader.next().lanes, trained.clock, np.zeros(2, np.float32))
        trained.clock.tick(8)


def test_a_phase_is_shown_what_an_earlier_phase_kept_on_the_same_lane(make):
    trained = make()
    step(trained, 2)
    made, shown = trained.strategy.made, trained.strategy.shown
    assert len(made) == 2 * 4 and made[0].shape == (2, 3)
    for lane in range(4):
        np.testing.assert_array_equal(shown[lane], made[lane])
        np.testing.assert_array_equal(shown[4 + lane], made[lane])
        assert (made[4 + lane] != made[lane]).all()


@pytest.mark.slow
def test_memory_of_every_lane_is_in_the_checkpoint_and_comes_back_on_another_fleet(make):
    straight, first, second = make(), make(), make()
    step(straight, 6)
    step(first, 3)
    snapshot = first.snapshot()
    assert set(snapshot.tensors["lanes"]) == {f"{lane}/fake" for lane in range(4)}
    second.stepper.fleet = second.fleet = SimulatedFleet(4, "exact", 2)
    second.restore(snapshot)
    step(second, 3)
    assert checkpoint.digest(second.snapshot()) == checkpoint.digest(straight.snapshot())
    del snapshot.tensors["lanes"]["1/fake"]
    forgetful = make()
    forgetful.restore(snapshot)
    step(forgetful, 3)
    assert checkpoint.digest(forgetful.snapshot())["total"] != checkpoint.digest(straight.snapshot())["total"]


def test_a_snapshot_stays_as_it_is_while_training_goes_on(make):
    trained = make()
    step(trained, 1)
    snapshot = trained.snapshot()
    before = checkpoint.digest(snapshot)
    step(trained, 1)
    assert checkpoint.digest(snapshot) == before
