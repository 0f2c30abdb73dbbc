"""Half precision in the engine: the loss scale follows overflows, is in the checkpoint, and no fleet sees it."""

import numpy as np
import pytest

from ganfleet import nn, testing
from ganfleet.engine import run
from ganfleet.errors import ConfigError, NonFinite
from ganfleet.strategies.base import Phase, Player, Strategy, StrategyOptions


class Steep(Strategy):
    """A loss so steep that its gradient in float16 overflows at the first scales."""

    class Options(StrategyOptions):
        resolution: int = 4
        steepness: float = 100.0

    def players(self, stage):
        return {"D": Player(nn.Dense(16, 1), nn.SGD(1e-5))}

    def phases(self, stage):
        return [Phase("D", self.loss)]

    def draw(self, rng, n, clock):
        return {"factor": np.float32(1)}

    def loss(self, nets, real, noise):
        image = real["image"]
        return self.options.steepness * noise["factor"] * nets.D(image.reshape(image.shape[0], -1)).mean(), {}


def test_the_scale_halves_until_gradients_are_finite_and_nothing_is_counted():
    """A weight's gradient sums two samples' 50 · scale · pixel: above 65504, float16's largest, until 2⁹ at most."""
    run = testing.simulate(Steep, steps=9, precision="float16")
    scale, good = run.snapshot.facts["scaler"]["D"].values()
    assert scale == 2.0 ** (16 - (9 - good)) and scale <= 2.0**10 and good >= 2
    assert run.snapshot.facts["guard"] == {"nonfinite": 0}
    assert run.snapshot.tensors["D.optimizer"]["updates"] == good


def test_the_update_is_that_of_float32_but_for_rounding():
    half = testing.simulate(Steep, steps=2, precision="float16", options={"steepness": 1.0})
    single = testing.simulate(Steep, steps=2, options={"steepness": 1.0})
    start = testing.simulate(Steep, steps=1, options={"steepness": 0.0}).snapshot.tensors["D.weights"]["D.weight"]
    moved = [each.snapshot.tensors["D.weights"]["D.weight"] - start for each in (half, single)]
    assert half.snapshot.tensors["D.weights"]["D.weight"].dtype == np.float32
    np.testing.assert_allclose(moved[0], moved[1], rtol=0.02, atol=2e-7)
    assert np.abs(moved[1]).max() > 1e-6 and not np.array_equal(*moved)


@pytest.mark.slow
def test_fleets_and_resumes_are_equal_in_float16():
    testing.assert_fleet_invisible(Steep, steps=8, precision="float16")
    testing.assert_resumes(Steep, steps=5, precision="float16")


class Broken(Steep):
    def draw(self, rng, n, clock):
        return {"factor": np.float32(np.nan)}


def test_an_overflow_counts_once_the_scale_is_at_its_floor():
    """2¹⁶ can be halved 16 times."""
    run = testing.simulate(Broken, steps=18, precision="float16", nonfinite_budget=2)
    assert run.snapshot.facts["guard"] == {"nonfinite": 2}
    with pytest.raises(NonFinite):
        testing.simulate(Broken, steps=19, precision="float16", nonfinite_budget=2)


def test_what_the_backend_cannot_run_is_refused_before_anything_starts(tmp_path):
    from ganfleet import Config

    sections = {"strategy": {"name": "gan", "resolution": 8}, "train": {"precision": "bfloat16"}}
    config = Config.from_dict(sections, f"run.dir={tmp_path}/runs")
    with pytest.raises(ConfigError, match="bfloat16 convolutions"):
        run.train(config)
    assert not (tmp_path / "runs").exists()
