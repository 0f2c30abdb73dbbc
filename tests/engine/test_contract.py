"""What a config's optimizers and callbacks and a strategy's draws must be: one error that names the culprit."""

import os
from pathlib import Path

import numpy as np
import pytest
from in_memory import one_lane

from ganfleet import Callback, Config, nn
from ganfleet.clock import Clock
from ganfleet.engine import contract, drawing, run
from ganfleet.engine.draws import Draws
from ganfleet.engine.program import Program
from ganfleet.engine.sampler import seeded
from ganfleet.errors import ConfigError, NonFinite, StrategyFailed
from ganfleet.size import Size
from ganfleet.strategies.base import Ema, ImageSpec, Phase, Player, Stage
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
        ({"D": {"name": "adam", "betas": [0, 1]}}, "beta2 is 1, and must be a finite number, 0 or more and below 1"),
        ({"D": {"name": "adam", "betas": 0.5}}, "Adam does not take this"),
        ({"D": {"name": "adamw", "weight_decay": "much"}}, "weight_decay is 'much'"),
        ({"D": {"name": "adamw", "decay": "norms"}}, "decay is 'norms', and must be a function"),
        ({"E": {"name": "adam"}}, "names a player 'E', and this strategy has D, G"),
    ],
)
def test_an_optimizer_that_cannot_be_is_refused(settings, told):
    with pytest.raises(ConfigError, match=told):
        players(optimizers=settings)


@pytest.mark.parametrize(
    "made, error, told",
    [
        (None, ConfigError, r"must be float of shape \(2, 1, height, width\) .* not None"),
        (np.zeros((2, 3, 4, 4), np.float32), ConfigError, r"not float32 of shape \(2, 3, 4, 4\): mend its sample"),
        (np.zeros((1, 1, 4, 4), np.float32), ConfigError, r"not float32 of shape \(1, 1, 4, 4\)"),
        (np.zeros((2, 1, 4, 4), np.uint8), ConfigError, "not uint8"),
        (np.full((2, 1, 4, 4), np.nan, np.float32), NonFinite, "the images that GAN draws are not finite"),
    ],
)
def test_what_is_no_image_is_not_drawn(made, error, told):
    strategy = GAN(GAN.Options(resolution=4), ImageSpec(channels=1), 8)
    with pytest.raises(error, match=told):
        drawing.images(strategy, made, 2)


SHARED = nn.Dense(2, 1)
FIXED = nn.Dense(2, 1)
for weight in FIXED.get_parameters():
    weight.requires_grad = False


@pytest.mark.parametrize(
    "declared, told",
    [
        ({"D": Player({}, nn.SGD(0.1))}, "player 'D' has no networks"),
        ({"D": Player(nn.Dense(2, 1), "adam")}, "no slots.* and update"),
        ({"the D": Player(nn.Dense(2, 1), nn.SGD(0.1))}, "a player is named 'the D'"),
        ({"D": Player({"D.A": nn.Dense(2, 1)}, nn.SGD(0.1))}, "a network is named 'D.A'"),
        ({"D": Player(nn.Dense(2, 1), nn.SGD(0.1), after_update=0.01)}, "after_update .* must be a function"),
        ({"D": Player(nn.Dense(2, 1), nn.SGD(0.1), ema=0.999)}, "the ema of player 'D' must be an Ema, not a float"),
        ({"D": Player(FIXED, nn.SGD(0.1))}, r"player 'D' has no weights to train: .* frozen\(\)"),
        ({"D": Player({"A": SHARED, "B": SHARED}, nn.SGD(0.1))}, "networks 'A' and 'B' share the weight"),
    ],
)
def test_a_player_that_cannot_train_is_refused(declared, told):
    made = strategy_with(players=lambda self, stage: declared)
    with pytest.raises(ConfigError, match=told):
        contract.players(made, made.schedule()[0])


def strategy_with(**methods):
    odd = type("Odd", (GAN,), methods)
    return odd(odd.Options(resolution=4, latent=4), ImageSpec(channels=1), 8)


@pytest.mark.parametrize(
    "stages, told",
    [
        (None, "must return a list of Stage, not None"),
        ([], "must return a list of Stage, not an empty list"),
        ([Stage(4, 8), Stage(4, 8, 10)], "two stages are named 'main'"),
        ([Stage(4, 8, 10)], r"must start at 0 images, then each after the one before, not at \[10\]"),
        ([Stage(4, 8), Stage(4, 8, 0, "next")], r"not at \[0, 0\]"),
        ([Stage(4, 0)], "stage 'main' has batch_size 0"),
        ([Stage(3, 8)], "has resolution 3, which does not divide strategy.resolution=4"),
        ([Stage(Size(2, 4), 8)], "has resolution 2x4, which does not divide strategy.resolution=4"),
        ([Stage(Size(0, 4), 8)], r"has resolution Size\(height=0, width=4\), and it must be 1 or more"),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused(stages, told):
    with pytest.raises(ConfigError, match=told):
        contract.schedule(strategy_with(schedule=lambda self: stages))


def without_super(self, options, image, batch_size):
    self.options = options


@pytest.mark.parametrize(
    "init, told",
    [
        (lambda self, options: None, r"Odd.__init__ must take \(options, image, batch_size\)"),
        (without_super, r"must call super\(\).__init__"),
    ],
)
def test_a_class_that_is_made_of_other_things_is_refused(init, told):
    odd = type("Odd", (GAN,), {"__init__": init})
    with pytest.raises(ConfigError, match=told):
        contract.make(odd, odd.Options(), ImageSpec(channels=1), 8)


def raises(self, *what):
    return {}["latent"]


LINE = raises.__code__.co_firstlineno + 1
ASKED = {
    "schedule": lambda made: contract.schedule(made),
    "players": lambda made: contract.players(made, made.schedule()[0]),
    "frozen": lambda made: contract.frozen(made, made.schedule()[0], {}),
    "phases": lambda made: contract.phases(made, made.schedule()[0], ["G", "D"]),
    "hyper": lambda made: contract.hyper(made, "G", nn.SGD(0.1), None, Clock(10)),
    "draw": lambda made: drawing.draw(made, None, 1, Clock(10), Phase("D", raises)),
    "sample_inputs": lambda made: seeded(made, Clock(10), 0),
}


@pytest.mark.parametrize("method", ASKED)
def test_what_a_strategys_own_code_raises_is_told_with_its_line(method):
    made = strategy_with(**{method: raises})
    made.__class__.__module__ = __name__
    with pytest.raises(
        StrategyFailed, match=rf"^Odd.{method}\(\) failed at test_contract.py:{LINE}: KeyError: 'latent'"
    ):
        ASKED[method](made)


def wrong_shapes(nets, real, noise):
    return (noise["z"] @ real["image"]).mean(), {}


def no_such_network(nets, real, noise):
    return nets.Q(real["image"]).mean(), {}


@pytest.mark.parametrize("loss", [wrong_shapes, no_such_network])
def test_what_a_loss_does_wrong_is_told_with_its_line_and_leaves_no_files(loss, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = strategy_with(phases=lambda self, stage: [Phase("D", loss)])
    program = Program(made, made.schedule()[0], seed=0)
    with pytest.raises(
        StrategyFailed, match=rf"the loss of phase 'D' failed at test_contract.py:{line_of(loss) + 1}: "
    ):
        one_lane(program.phases[0], {"image": np.zeros((2, 3), np.float32)}, {"z": np.zeros((2, 4), np.float32)})
    assert not list(tmp_path.iterdir()) and not Path(os.environ["MS_OM_PATH"]).exists()


def looks_at_values(nets, real, noise):
    loss = nets.D(real["image"]).mean()
    return loss * float(loss.asnumpy()), {}


def test_a_loss_that_looks_at_values_is_told_that_a_graph_has_none():
    made = strategy_with(phases=lambda self, stage: [Phase("D", looks_at_values)])
    program = Program(made, made.schedule()[0], seed=0)
    with pytest.raises(StrategyFailed, match=r"the loss of phase 'D' failed: .* tensors have no values yet"):
        one_lane(program.phases[0], {"image": np.zeros((2, 1, 4, 4), np.float32)}, {})


def test_what_a_strategy_draws_keeps_its_shape():
    def draw(self, rng, n, clock):
        return {"z": np.zeros((n, 3 + (clock.step > 1)), np.float32), "fade": clock.step}

    made = strategy_with(draw=draw)
    stage, phase = made.schedule()[0], Phase("D", no_such_network)
    draws = Draws(made, [phase], stage, 0, range(1), of=1, ahead=False)
    assert draws.at(Clock(10))["D", 0]["z"].shape[1] == draws.at(Clock(10, step=1))["D", 0]["z"].shape[1] == 3
    with pytest.raises(ConfigError, match=r"draw\(\) for phase 'D': 'z' is of shape \(\d+, 4\) at step 2, and was of"):
        draws.at(Clock(10, step=2))
    draws.close()


def line_of(function):
    return function.__code__.co_firstlineno


@pytest.mark.parametrize(
    "given, told",
    [
        ({"learning_rate": 1e-3}, "nobody reads learning_rate: there are lr, beta1, beta2, ema_half_life_kimg"),
        ({"ema_decay": 0.9}, "nobody reads ema_decay"),
        ({"lr": -1.0}, "at step 7: lr is -1.0, and must be a finite number, 0 or more"),
        ({"lr": np.nan}, "lr is nan"),
        ({"beta2": 1.0}, "beta2 is 1.0"),
        ([1e-3], "must return a dict of numbers"),
    ],
)
def test_a_schedule_of_what_there_is_not_is_refused(given, told):
    made = strategy_with(hyper=lambda self, player, clock: given)
    with pytest.raises(ConfigError, match=told):
        contract.hyper(made, "G", nn.Adam(1e-3), Ema(half_life_kimg=1.0), Clock(10, step=7))


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
