"""What a config's optimizers and callbacks and a strategy's draws must be: one error that names the culprit."""

import numpy as np
import pytest

from ganfleet import Callback, Config, nn
from ganfleet.clock import Clock
from ganfleet.engine import contract, run
from ganfleet.engine.sampler import seeded
from ganfleet.errors import ConfigError
from ganfleet.strategies.base import ImageSpec, Player
from ganfleet.strategies.gan import GAN


def players(**options):
    made = GAN(GAN.Options(resolution=4, hidden=(4,), **options), ImageSpec(channels=1), 8)
    return contract.players(made, made.schedule()[0])


def test_a_config_may_choose_another_optimizer_and_clip_its_gradients():
    made = players(optimizers={"D": {"name": "adamw", "lr": 4e-4, "clip_norm": 2}})
    assert made["D"].optimizer == nn.ClipByGlobalNorm(nn.AdamW(4e-4), 2.0)
    assert made["D"].lr_scale == 2  # of the strategy's 2e-4, for what is scheduled
    assert made["G"].optimizer == nn.Adam(2e-4, (0.5, 0.999)) and made["G"].lr_scale == 1


def test_a_learning_rate_of_zero_can_be_replaced():
    assert players(lr=0.0, optimizers={"D": {"name": "sgd", "lr": 1e-3}})["D"].optimizer == nn.SGD(1e-3)


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"D": {}}, r"strategy\.optimizers\.D has no name"),
        ({"D": {"name": "adamm"}}, "unknown optimizer 'adamm', did you mean adam"),
        ({"D": {"name": "adam", "lr": -1}}, r"D\.lr is -1, and must be a number, 0 or more"),
        ({"D": {"name": "adam", "clip_norm": 0}}, r"D\.clip_norm is 0, and must be a number above 0"),
        ({"D": {"name": "adam", "clip_norm": True}}, r"D\.clip_norm is True"),
        ({"D": {"name": "sgd", "betas": [0, 1]}}, "SGD does not take this"),
        ({"E": {"name": "adam"}}, "names a player 'E', and this strategy has D, G"),
    ],
)
def test_an_optimizer_that_cannot_be_is_refused(settings, told):
    with pytest.raises(ConfigError, match=told):
        players(optimizers=settings)


@pytest.mark.parametrize(
    "player, told",
    [
        (Player({}, nn.SGD(0.1)), "player 'D' has no networks"),
        (Player(nn.Dense(2, 1), "adam"), "no slots.* and update"),
    ],
)
def test_a_player_that_cannot_train_is_refused(player, told):
    class Odd(GAN):
        def players(self, stage):
            return {"D": player}

    made = Odd(Odd.Options(resolution=4), ImageSpec(channels=1), 8)
    with pytest.raises(ConfigError, match=told):
        contract.players(made, made.schedule()[0])


@pytest.mark.parametrize(
    "drawn, told",
    [
        (None, r"sample_inputs\(\) must return a dict of arrays, not None, for one image"),
        ({"z": np.array(["a"])}, "'z' of type <U1 for one image: give numbers"),
        ({"z": np.zeros((2, 4))}, r"'z' with shape \(2, 4\) for one image"),
    ],
)
def test_what_an_image_is_made_of_is_checked_before_a_graph_sees_it(drawn, told):
    class Odd(GAN):
        def draw(self, rng, n, clock):
            return drawn

    made = Odd(Odd.Options(resolution=4), ImageSpec(channels=1), 8)
    with pytest.raises(ConfigError, match=told):
        seeded(made, Clock(10), 0)


def test_a_callback_that_needs_arguments_cannot_be_named_in_a_config(tmp_path):
    sections = {"strategy": {"name": "gan", "resolution": 8}, "run": {"callbacks": ["test_contract:NeedsMore"]}}
    with pytest.raises(ConfigError, match="test_contract:NeedsMore must be made without arguments"):
        run.prepare(Config.from_dict(sections))


class NeedsMore(Callback):
    def __init__(self, what):
        self.what = what
