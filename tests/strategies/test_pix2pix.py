"""pix2pix and pix2pixHD in training: the same bits on any fleet and through a resume, and what they refuse."""

from types import SimpleNamespace

import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pix2pix_float64 as float64
import pytest

import ganfleet as library
from ganfleet import config as configs
from ganfleet.clock import Clock
from ganfleet.engine import run
from ganfleet.errors import CheckpointMismatch, ConfigError
from ganfleet.store import checkpoint
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.pix2pix import Pix2Pix, Pix2PixHD, perceptual
from ganfleet.strategies.pix2pix.networks import halving
from ganfleet.testing import FakeImages, assert_resumes, simulate

PAIRS = FakeImages(channels=3, classes=0, names=("image_a", "image_b"))
TINY = {"resolution": 8, "ngf": 2, "ndf": 2}


def made(found=Pix2Pix, channels=3, **options):
    return found(found.Options(**options), ImageSpec(channels), batch_size=4)


@pytest.mark.slow
def test_pix2pix_ends_with_the_same_bits_on_any_fleet_and_through_a_resume():
    assert_resumes(Pix2Pix, steps=2, options=TINY, source=PAIRS)


@pytest.fixture
def vgg(tmp_path):
    """A file like torchvision's of VGG19, with one channel."""
    rng, arrays = np.random.default_rng(4), {}
    for number in (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28):
        arrays[f"features.{number}.weight"] = rng.normal(0, 0.5, (1, 1 if number else 3, 3, 3)).astype(np.float32)
        arrays[f"features.{number}.bias"] = np.full(1, 0.1, np.float32)
    np.savez(tmp_path / "vgg19.npz", **arrays)
    return tmp_path / "vgg19.npz"


@pytest.mark.slow
def test_pix2pixhd_with_a_perceptual_loss_does_too_and_translates_without_its_file(vgg, tmp_path):
    options = {"resolution": 16, "ngf": 2, "ndf": 2, "downs": 1, "blocks": 1, "layers": 1, "perceptual": str(vgg)}
    assert_resumes(Pix2PixHD, steps=2, options=options, source=PAIRS)
    once = simulate(Pix2PixHD, 1, 1, options=options, source=PAIRS)
    assert set(once.stats[0]) >= {"adversarial", "feature_matching", "perceptual", "scores/real", "scores/fake"}
    assert list(once.snapshot.facts["frozen"]) == ["F"]
    changed = dict(np.load(vgg))
    np.savez(vgg, **changed | {"features.0.bias": np.full(1, 0.2, np.float32)})
    with pytest.raises(CheckpointMismatch, match="the frozen network 'F' is another than when the checkpoint was made"):
        simulate(Pix2PixHD, 1, 1, options=options, source=PAIRS, resumed_from=once.snapshot)

    checkpoint.save(tmp_path / "run", once.snapshot, 1, keep=1)
    vgg.unlink()
    image = np.tanh(np.random.default_rng(0).standard_normal((3, 16, 24))).astype(np.float32)
    with library.load(tmp_path / "run", strategy="ganfleet.strategies.pix2pix:Pix2PixHD") as loaded:
        assert loaded.translate(image, "A2B").shape == (3, 16, 24)


def test_images_that_are_no_pairs_are_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("strategy: {name: pix2pix, resolution: 32}\ntrain: {batch_size: 1, lanes: 1}\n")
    source = FakeImages(channels=3, classes=0, names=("image_a", "image_b"))
    source.are_pairs = False
    with pytest.raises(ConfigError, match=r"learns from pairs.* choose data\.source: paired"):
        run.strategy_of(configs.load(path), source)


@pytest.mark.parametrize(
    ("found", "options", "message"),
    [
        (Pix2Pix, {"resolution": 20}, "20, which a U-Net cannot halve three times: use multiples of 8"),
        (Pix2Pix, {"resolution": 96, "depth": 6}, "96, and this G needs multiples of 64, 64 or more"),
        (Pix2Pix, {"resolution": [64, 20], "generator": "resnet", "layers": 3}, "lower strategy.layers to 2 or less"),
        (
            Pix2Pix,
            {"resolution": 31, "generator": "resnet", "downs": 1},
            "31, and this G needs multiples of 2, 4 or",
        ),
        (Pix2PixHD, {"resolution": 24}, "24, and this G needs multiples of 16, 32 or more"),
        (Pix2PixHD, {"resolution": 48, "generator": "local"}, "48, and this G needs multiples of 32, 64 or more"),
    ],
)
def test_a_size_that_the_networks_cannot_have_is_refused_by_name(found, options, message):
    strategy = made(found, **options)
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        strategy.check(strategy.schedule()[0], 1)


def test_a_resnet_that_halves_once_takes_sizes_that_one_that_halves_twice_refuses():
    for downs, fits in ((1, True), (2, False)):
        strategy = made(Pix2Pix, resolution=30, generator="resnet", downs=downs, blocks=1, ngf=1, ndf=1)
        assert strategy.translations()["A2B"].multiple == 2**downs
        if fits:
            strategy.check(strategy.schedule()[0], 1)
            image = ms.Tensor(np.zeros((1, 3, 30, 34), np.float32))
            assert strategy.generator()(image).shape == (1, 3, 30, 34)
        else:
            with pytest.raises(ConfigError, match="multiples of 4"):
                strategy.check(strategy.schedule()[0], 1)


def test_a_residual_resnet_adds_to_its_image_what_another_draws_and_translates_within_bounds():
    image = np.random.default_rng(0).uniform(-1, 1, (2, 3, 8, 12)).astype(np.float32)

    def output(**options):
        strategy = made(Pix2Pix, resolution=8, generator="resnet", blocks=1, ngf=2, ndf=1, **options)
        net = strategy.generator()
        rng = np.random.default_rng(1)
        for parameter in net.trainable_params():
            parameter.set_data(ms.Tensor(rng.normal(0, 0.2, parameter.shape).astype(np.float32)))
        translated = strategy.a_to_b(SimpleNamespace(G=net), {"image_a": ms.Tensor(image)})
        return net(ms.Tensor(image)).asnumpy().astype(np.float64), translated.asnumpy()

    drawn, _ = output()
    assert np.abs(drawn).max() > 0.3
    added, translated = output(residual=True)
    np.testing.assert_allclose(np.tanh(added - image), drawn, rtol=0, atol=1e-6)
    assert np.abs(added).max() > 1 and np.array_equal(translated, np.clip(added, -1, 1).astype(np.float32))


@pytest.mark.parametrize("resolution", [8, 16, 64, 256, 512, [8, 24]])
def test_every_power_of_two_and_other_multiples_of_eight_get_a_unet_and_a_d(resolution):
    strategy = made(resolution=resolution, ngf=1, ndf=1)
    strategy.check(strategy.schedule()[0], 1)
    sides = np.array(resolution if isinstance(resolution, list) else [resolution] * 2)
    assert (sides % 2**strategy.depth == 0).all() and strategy.depth == min(8, int(np.log2(np.gcd(*sides))))
    layers = len(strategy.discriminators().scales[0].convs) - 1
    assert layers == (3 if sides.min() >= 24 else 2 if sides.min() >= 12 else 1)


def test_means_of_three_by_three_pixels_count_only_those_that_there_are():
    for side in (7, 8):
        matrix = halving(side).asnumpy()
        expected = float64.halved(jnp.eye(side)[None, None, :, :] * jnp.ones((1, 1, 1, 1)))
        np.testing.assert_allclose(matrix.sum(0), 1, rtol=1e-6)
        np.testing.assert_allclose(matrix.T @ np.eye(side) @ matrix, np.asarray(expected)[0, 0], atol=1e-6)


def test_a_discriminators_layers_can_be_frozen_scale_by_scale():
    path = made(Pix2PixHD, ngf=1, ndf=1).discriminators().path()
    assert [len(layer) for layer in path] == [2] * 5
    assert [len(layer) for layer in made(ngf=1, ndf=1).discriminators().path()] == [1, 2, 2, 2, 1]


def test_files_of_other_networks_and_no_files_are_refused_by_name(vgg, tmp_path):
    arrays = dict(np.load(vgg))
    del arrays["features.21.bias"]
    np.savez(tmp_path / "half.npz", **arrays)
    for path, message in (
        (tmp_path / "half.npz", r"strategy\.perceptual: .*half\.npz: it lacks features\.21\.bias: name the weights of"),
        (tmp_path / "gone.pth", r"gone\.pth cannot be read"),
    ):
        with pytest.raises(ConfigError, match=message):
            perceptual.network(str(path))


def test_both_images_of_a_pair_are_augmented_alike():
    strategy = made(augment="diffaugment", **TINY)
    image = np.tanh(np.random.default_rng(0).standard_normal((4, 3, 8, 8))).astype(np.float32)
    drawn = strategy.draw_beside(np.random.default_rng(1), 4, Clock(total_nimg=1))
    settings = strategy.settings(None, {name: ms.Tensor(array) for name, array in drawn.items()}, "D/real")
    pair = strategy.pair(ms.Tensor(image), ms.Tensor(image), settings).asnumpy()
    np.testing.assert_array_equal(pair[:, :3], pair[:, 3:])
    assert np.abs(pair[:, :3] - image).max() > 0.1
