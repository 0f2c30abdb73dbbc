"""Augmentation as an option of every GAN of images: where it stands, what it leaves alone, and what moves p."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from ganfleet import config as configs
from ganfleet import strategies, testing
from ganfleet.clock import Clock
from ganfleet.engine import contract, drawing
from ganfleet.errors import ConfigError
from ganfleet.nn import SGD, buffers_of
from ganfleet.store import checkpoint
from ganfleet.strategies.base import ImageSpec, Phase, Player
from ganfleet.strategies.gan import GAN
from ganfleet.strategies.image_gan import freeze

TINY = {
    "gan": "resolution: 8, latent: 4, hidden: [8]",
    "dcgan": "resolution: 8, latent: 4, ngf: 4, ndf: 4",
    "cgan": "resolution: 8, latent: 4, ngf: 4, ndf: 4",
    "wgan": "resolution: 8, latent: 4, ngf: 4, ndf: 4",
    "wgan_gp": "resolution: 8, latent: 4, ngf: 4, ndf: 4",
    "sngan": "resolution: 16, latent: 4, ngf: 4, ndf: 4",
    "stylegan": "resolution: 8, start_resolution: 8, latent: 4, mapping_layers: 1, fmap_base: 32, mbstd_group: 2",
    "cyclegan": "resolution: 24, ngf: 2, ndf: 2, blocks: 1",
}
STYLEGANS = {
    "stylegan, lazy": TINY["stylegan"] + ", r1_every: 2",
    "stylegan, wgan_gp": TINY["stylegan"] + ", loss: wgan_gp",
}
EVERY = {name: (name, options) for name, options in TINY.items()}
EVERY |= {name: ("stylegan", options) for name, options in STYLEGANS.items()}


def made(directory, name, options, **train):
    path = directory / "config.yaml"
    given = ", ".join(f"{key}: {value}" for key, value in {"batch_size": 4, "lanes": 1, **train}.items())
    path.write_text(f"strategy: {{name: {name}, {options}}}\ntrain: {{{given}}}\n")
    config = configs.load(path)
    found = strategies.find(name)
    strategy = contract.make(found, config.strategy, ImageSpec(3, 10), 4)
    strategy.begins_trained = config.train.init_from is not None
    for stage in strategy.schedule():
        strategy.check(stage, 4)
    return strategy


# ── Every image that D is asked about is augmented


class Recorder:
    """In place of a strategy's augmentation: images get 100 brighter, so that they can be told; views are noted."""

    def __init__(self, strategy):
        self.views = set()
        strategy.augment = self
        strategy.settings = lambda nets, noise, view: self.views.add(view) or view

    def __call__(self, image, settings):
        return image + 100


class Networks:
    """G makes black images, and D refuses what was not augmented."""

    def __init__(self, side):
        self.G = self.G_AB = self.G_BA = self
        self.D_A = self.D_B = self.D
        self.side = side
        self.layers, self.w_avg = 4, self
        self.mapping = lambda z, label: ms.ops.zeros((z.shape[0], 4))
        self.synthesis = self.__call__

    def __call__(self, first, *others):
        return ms.ops.zeros((first.shape[0], 3, self.side, self.side))

    def add(self, x):
        pass

    def D(self, image, *conditions):
        assert (image > 50).all()
        return image.mean((1, 2, 3))


@pytest.fixture
def eager(monkeypatch):
    before = ms.get_context("mode")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=before)


@pytest.mark.parametrize("name, options", EVERY.values(), ids=EVERY)
def test_d_sees_nothing_that_is_not_augmented(name, options, tmp_path, eager):
    strategy = made(tmp_path, name, options + ", augment: diffaugment")
    stage, clock = strategy.schedule()[0], Clock(1)
    drawn = drawing.draw(strategy, np.random.default_rng(0), 4, clock, Phase("D", None))
    noise = {key: ms.Tensor(value) for key, value in drawn.items()}
    black = ms.ops.zeros((4, 3, stage.resolution, stage.resolution))
    real = {"image": black, "image_a": black, "image_b": black, "label": ms.Tensor([0, 1, 2, 3])}
    noise |= {"fake_a": black, "fake_b": black}  # out of CycleGAN's pools
    for phase in strategy.phases(stage):
        recorder = Recorder(strategy)
        phase.loss(Networks(stage.resolution), real, noise)
        kinds = {"G": ["fake"], "D": ["fake", "real"], "D_r1": ["real"]}[phase.name]
        wanted = {f"{judge}/{kind}" for judge in strategy.judges for kind in kinds}
        assert recorder.views == wanted and wanted <= drawn.keys()


def test_real_and_fake_images_are_changed_by_other_numbers(tmp_path):
    strategy = made(tmp_path, "gan", TINY["gan"] + ", augment: ada")
    plain = made(tmp_path, "gan", TINY["gan"])
    drawn, without = (
        drawing.draw(each, np.random.default_rng(0), 4, Clock(1), Phase("D", None)) for each in (strategy, plain)
    )
    assert drawn.keys() - without.keys() == {"D/real", "D/fake"} and (drawn["D/real"] != drawn["D/fake"]).any()
    np.testing.assert_array_equal(drawn["z"], without["z"])


def test_a_sample_has_no_augmentation(tmp_path):
    strategy = made(tmp_path, "gan", TINY["gan"] + ", augment: ada")
    assert strategy.sample_inputs(np.random.default_rng(0), Clock(1)).keys() == {"z"}


class Own(GAN):
    """Of a user: whose players and draws know nothing of augmentation."""

    def players(self, stage):
        return {"D": Player(self.networks()[1], SGD(0.1)), "G": Player(self.networks()[0], SGD(0.1))}

    def draw(self, rng, n, clock):
        return {"z": np.zeros((n, 4), np.float32)}


def test_a_subclass_has_it_whatever_its_own_methods_do(tmp_path):
    options = GAN.Options(resolution=8, latent=4, hidden=(8,), augment={"name": "ada"}, freeze_d=1)
    strategy = Own(options, ImageSpec(3, 0), 4)
    players = contract.players(strategy, strategy.schedule()[0])
    assert {each.name.partition(".")[0] for each in players["D"].nets["D"].trainable_params()} == {"last"}
    assert buffers_of(players["D"].nets["ada"])
    drawn = drawing.draw(strategy, np.random.default_rng(0), 4, Clock(1), Phase("D", None))
    assert drawn.keys() == {"z", "D/real", "D/fake"}


# ── Trained


def simulated(name="gan", steps=9, world_size=1, resumed_from=None, **options):
    given = {"resolution": 8, "latent": 4, "hidden": [8]} if name == "gan" else options.pop("tiny")
    source = testing.FakeImages(channels=3)
    return testing.simulate(name, world_size, steps, options=given | options, source=source, resumed_from=resumed_from)


@pytest.fixture(scope="module")
def adapted():
    """A run whose p begins at 0.25 and moves by 8 · 3 / 240 = 0.1 every three batches, up or down as the signs say."""
    return simulated(augment={"name": "ada", "p": 0.25, "target": 0.0, "every": 3, "kimg": 0.24})


@pytest.mark.slow
def test_p_moves_as_the_logged_signs_say(adapted):
    signs = [float(step["augment/sign"]) for step in adapted.stats]
    p = 0.25
    for step, stats in enumerate(adapted.stats):
        assert abs(float(stats["augment/p"]) - p) < 1e-6
        if step % 3 == 2:
            p = max(p + 0.1 * np.sign(np.mean(signs[step - 2 : step + 1])), 0)
    stored = adapted.snapshot.tensors["D.buffers"]["ada.state.value"]
    np.testing.assert_allclose(stored, [p, 0, 0], atol=1e-6)
    assert len({round(float(stats["augment/p"]), 6) for stats in adapted.stats}) > 1


def test_ranks_and_a_resume_leave_every_bit_of_an_adapting_run(adapted):
    how = {"augment": {"name": "ada", "p": 0.25, "target": 0.0, "every": 3, "kimg": 0.24}}
    half = simulated(steps=4, world_size=2, **how)  # between two moves of p
    resumed = simulated(steps=5, world_size=4, resumed_from=half.snapshot, **how)
    assert resumed.digest == adapted.digest
    assert half.snapshot.tensors["D.buffers"]["ada.state.value"][2] == 1


@pytest.mark.slow
def test_at_p_0_training_has_the_bits_of_a_run_without_augmentation():
    plain, at_zero = simulated(steps=3), simulated(steps=3, augment={"name": "ada", "target": 0.99})
    for component in ("G.weights", "D.weights", "G.optimizer"):
        assert checkpoint.digest(plain.snapshot)[component] == checkpoint.digest(at_zero.snapshot)[component]
    assert float(at_zero.stats[-1]["augment/p"]) == 0


STYLEGAN = {"resolution": 8, "start_resolution": 8, "latent": 4, "mapping_layers": 1, "fmap_base": 32, "mbstd_group": 2}


@pytest.mark.slow
def test_ranks_leave_every_bit_through_r1():
    """Through a gradient penalty: tests/promises/test_strategies_invisible.py."""
    name, tiny, augment = "stylegan", STYLEGAN, {"name": "ada", "p": 0.5, "every": 1, "kimg": 0.1}
    alone = simulated(name, 4, tiny=dict(tiny), augment=augment)
    half = simulated(name, 2, 2, tiny=dict(tiny), augment=augment)
    assert simulated(name, 2, 4, half.snapshot, tiny=dict(tiny), augment=augment).digest == alone.digest


# ── Refusals


@pytest.mark.parametrize(
    "name, options", [EVERY["wgan"], EVERY["wgan_gp"], EVERY["stylegan, wgan_gp"], EVERY["cyclegan"]]
)
def test_p_does_not_follow_scores_that_have_no_zero(name, options, tmp_path):
    with pytest.raises(ConfigError, match="those of this loss have no zero: give a p that stays"):
        made(tmp_path, name, options + ", augment: ada")
    made(tmp_path, name, options + ", augment: {name: ada, p: 0.2, target: null}")


@pytest.mark.parametrize(
    "augment, message",
    [
        ("ads", 'augment: expected none, diffaugment or ada, got "ads", did you mean ada?'),
        ("{name: ada, policy: [color]}", "policy goes with name: diffaugment, not ada"),
        ("{name: diffaugment, p: 0.2}", "p goes with name: ada, not diffaugment"),
        ("{name: ada, target: null}", "with p: 0 and no target nothing is ever augmented"),
        ("{name: ada, tarket: 0.5}", "augment.tarket: unknown key, did you mean target?"),
    ],
)
def test_wrong_options_are_told(augment, message, tmp_path):
    with pytest.raises(ConfigError) as error:
        made(tmp_path, "gan", f"{TINY['gan']}, augment: {augment}")
    assert message in str(error.value)


# ── FreezeD


FIRST_LAYERS = {
    "gan": ["layers.0"],
    "dcgan": ["first"],
    "cgan": ["net.first"],
    "wgan": ["convs.0"],
    "wgan_gp": ["convs.0"],
    "sngan": ["convs.0", "convs.1", "convs.2"],
    "stylegan": ["from_rgb.1", "blocks.1.conv", "blocks.1.down"],
    "cyclegan": ["convs.0", "convs.1"],
}


@pytest.mark.parametrize("name, first", FIRST_LAYERS.items(), ids=FIRST_LAYERS)
def test_the_first_layers_of_d_do_not_learn(name, first, tmp_path):
    def learning(freeze_d):
        options = f"{TINY[name]}, freeze_d: {freeze_d}"
        strategy = made(tmp_path, name, options, init_from="base")
        nets = contract.networks("D", contract.players(strategy, strategy.schedule()[0])["D"]).values()
        return {(i, parameter.name) for i, net in enumerate(nets) for parameter in net.trainable_params()}

    still = learning(0) - learning(len(first))
    layers = {(i, next(each for each in first if weight.startswith(f"{each}."))) for i, weight in still}
    assert layers == {(i, each) for i in range(2 if name == "cyclegan" else 1) for each in first}


def test_a_d_that_cannot_be_frozen_is_told(tmp_path):
    frozen = TINY["gan"] + ", freeze_d: 2"
    with pytest.raises(ConfigError, match=r"name the run that trained them in train\.init_from"):
        made(tmp_path, "gan", frozen)
    with pytest.raises(ConfigError, match="freeze_d is 2, and D has 2 layers: use 1 at most"):
        strategy = made(tmp_path, "gan", frozen, init_from="base")
        contract.players(strategy, strategy.schedule()[0])
    growing = TINY["stylegan"].replace("start_resolution: 8", "start_resolution: 4")
    with pytest.raises(ConfigError, match=r"set strategy\.start_resolution to strategy\.resolution"):
        made(tmp_path, "stylegan", growing + ", freeze_d: 2", init_from="base")
    with pytest.raises(ConfigError, match="does not say which layers an image passes"):
        freeze("D", nn.Dense(4, 1), 1)
