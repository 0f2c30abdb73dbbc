"""The networks and gradients of pix2pix and pix2pixHD equal those of float64 JAX, and have the published size."""

from itertools import pairwise
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pix2pix_float64 as float64
import pytest
from mindspore import nn as ms_nn
from nn.reference import assert_close, assert_gradients, normal

from ganfleet.engine.program import Program
from ganfleet.engine.sampler import Graph
from ganfleet.engine.tensors import tensors
from ganfleet.metrics.networks import lite0
from ganfleet.size import Size
from ganfleet.store import weights
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.pix2pix import Pix2Pix, Pix2PixHD, perceptual
from ganfleet.strategies.pix2pix.networks import EnhancedGenerator, ResNetTrunk, UNetGenerator, dropped

A, B, FAKE = (np.tanh(normal(2, 3, 16, 24, seed=seed)) for seed in range(3))
TINY = {"resolution": [16, 24], "ngf": 2, "ndf": 2, "layers": 2}
VGG16 = (2, 2, 3, 3, 3)


def model_of(found, **options):
    """A tiny model with weights so large that every layer matters, and these in float64 by name."""
    strategy = found(found.Options(**TINY, **options), ImageSpec(channels=3), batch_size=2)
    program = Program(strategy, strategy.schedule()[0], 3)
    components = program.tensors()
    for component in ("G.weights", "D.weights"):
        for seed, (name, array) in enumerate(components[component].items()):
            drawn = 0.1 * normal(*array.shape, seed=seed)
            components[component][name] = array * 8 if name.endswith("weight") else drawn + name.endswith("gain")
    program.load(components)
    w = components["G.weights"] | components["D.weights"]
    return SimpleNamespace(
        strategy=strategy,
        program=program,
        phases={compiled.name: compiled for compiled in program.phases},
        w={name: jnp.asarray(array, jnp.float64) for name, array in w.items()},
    )


def double(*arrays):
    return [np.asarray(array, np.float64) for array in arrays]


def assert_phase(model, player, noise, loss, *given):
    """Loss and gradients of the phase of ``player`` are those of ``loss(w, *given)``; what the loss kept.

    Images are ``given`` as arguments: convolutions of constants are folded by XLA, and then wrong.
    """
    real = {"image_a": A, "image_b": B}
    flat, kept = model.phases[player].run(tensors(real), tensors(noise))
    value, gradients = jax.jit(jax.value_and_grad(loss))(model.w, *given)
    weights = model.program.players[player].weights
    assert {p.name for p in weights} == {name for name in model.w if name.startswith(f"{player}.")}
    rest = assert_gradients(flat.asnumpy(), weights, gradients, 2e-4, nothing=1e-5)
    assert_close(rest[0], value, 1e-5, "loss")
    return kept


# ── pix2pix


@pytest.fixture(scope="module")
def pix2pix():
    return model_of(Pix2Pix)


def test_pix2pix_draws_dropout_for_the_layers_above_the_innermost(pix2pix):
    drawn = pix2pix.strategy.draw(np.random.default_rng(0), 500, None)
    assert {name: array.shape for name, array in drawn.items()} == {"dropout0": (500, 2, 8, 12)}
    assert set(np.unique(drawn["dropout0"])) == {0, 2} and drawn["dropout0"].mean() == pytest.approx(1, abs=0.01)
    sizes = {depth: dropped(64, depth, Size(2**depth, 2**depth)) for depth in (8, 7, 6)}
    assert sizes == {
        8: [(512, 4, 4), (512, 8, 8), (512, 16, 16)],
        7: [(512, 4, 4), (512, 8, 8)],
        6: [(512, 4, 4)],
    }


@pytest.mark.parametrize("player", ["D", pytest.param("G", marks=pytest.mark.slow)])
def test_gradients_of_pix2pix_equal_float64_for_every_weight(player, pix2pix):
    noise = pix2pix.strategy.draw(np.random.default_rng(1), 2, None)
    loss = float64.d_loss if player == "D" else float64.g_loss
    assert_phase(pix2pix, player, noise, loss, *double(A, B), double(*noise.values()))


def test_a_translation_is_normalised_by_itself_and_keeps_dropout_of_one_fixed_draw(pix2pix):
    """At the size of training, and at another where the draw is repeated."""
    graph = Graph(pix2pix.strategy.a_to_b, pix2pix.program.nets, "stock")
    [still] = pix2pix.program.nets.G.still
    unet = jax.jit(float64.unet, static_argnames="by_image")
    still = still.asnumpy().astype(np.float64)
    assert set(np.unique(still)) == {0, 2}
    assert_close(graph({"image_a": A}), unet(pix2pix.w, *double(A), [still], by_image=True), 1e-5)
    large = np.tanh(normal(1, 3, 32, 40, seed=7))
    mask = np.tile(still, (1, 1, 2, 2))[:, :, :16, :20]
    assert_close(graph({"image_a": large}), unet(pix2pix.w, *double(large), [mask], by_image=True), 1e-5)


def test_dropout_can_be_left_out_of_translations_and_altogether():
    for options, drawn, still in (({"test_dropout": False}, 1, 0), ({"dropout": 0}, 0, 0), ({}, 1, 1)):
        strategy = Pix2Pix(Pix2Pix.Options(**TINY, **options), ImageSpec(channels=3), batch_size=2)
        assert len(strategy.draw(np.random.default_rng(0), 2, None)) == drawn
        assert len(strategy.generator().still) == still


# ── pix2pixHD


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    """A file like torchvision's of VGG16, with few channels."""
    rng, arrays, before = np.random.default_rng(4), {}, 3
    for number, width in zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), (2, 2, 3, 3) + (4,) * 9, strict=True):
        arrays[f"features.{number}.weight"] = rng.normal(0, 0.5, (width, before, 3, 3)).astype(np.float32)
        arrays[f"features.{number}.bias"] = rng.normal(0, 0.1, width).astype(np.float32)
        before = width
    path = tmp_path_factory.mktemp("vgg") / "vgg16.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def hd(vgg):
    options = {"generator": "local", "downs": 1, "blocks": 1, "local_blocks": 1, "perceptual": str(vgg)}
    return model_of(Pix2PixHD, **options)


@pytest.mark.slow
def test_gradients_of_pix2pixhd_equal_float64_for_every_weight_of_g(hd, vgg):
    frozen = {name: array.astype(np.float64) for name, array in weights.read(vgg).items()}

    def loss(w, a, b):
        return float64.hd_g_loss(w, a, b, lambda image: float64.vgg(frozen, VGG16, image))

    kept = assert_phase(hd, "G", {}, loss, *double(A, B))
    assert_close(kept["fake"].asnumpy(), float64.enhanced(hd.w, *double(A)), 1e-5, "fake")


@pytest.mark.slow
def test_gradients_of_pix2pixhd_equal_float64_for_every_weight_of_its_ds(hd):
    assert len({name.split(".")[2] for name in hd.w if name.startswith("D.scales")}) == 2
    assert_phase(hd, "D", {"fake": FAKE}, float64.hd_d_loss, *double(A, B, FAKE))


class ToImage(ms_nn.Cell):
    """The distance between the features of two images, and its derivative to the first."""

    def __init__(self, net):
        super().__init__(auto_prefix=False)
        self.net = net

    @ms.jit
    def construct(self, image, other):
        def distance(image):
            return perceptual.distance(self.net.maps(image), self.net.maps(other))

        return distance(image), ms.grad(distance)(image)


@pytest.mark.slow
def test_the_distance_by_lite0_and_its_derivative_equal_float64():
    image, other = (np.tanh(normal(1, 3, 32, 32, seed=seed)) for seed in (5, 6))
    value, slope = ToImage(perceptual.network("lite0").set_train(False))(ms.Tensor(image), ms.Tensor(other))
    named = {name: jnp.asarray(a, jnp.float64) for name, a in lite0("", "").items() if not name.endswith("tracked")}

    def distance(image, other):
        return float64.perceptual(float64.lite0(named, image), float64.lite0(named, other))

    expected, to_image = jax.jit(jax.value_and_grad(distance))(*double(image, other))
    assert_close(value.asnumpy(), expected, 1e-4)
    assert_close(slope.asnumpy(), to_image, 1e-3)


def test_features_are_vgg19s_or_vgg16s_by_the_names_in_the_file(vgg):
    assert perceptual.network(str(vgg)).blocks == (2, 2, 3, 3, 1)
    numbers = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
    shapes = {f"features.{n}.weight": np.zeros((1, 3 if n == 0 else 1, 3, 3)) for n in numbers}
    assert perceptual.VGG(shapes | {f"features.{n}.bias": np.zeros(1) for n in numbers}).blocks == (2, 2, 4, 4, 1)


# ── Sizes


def size(net):
    return sum(p.size for p in net.trainable_params())


def test_pix2pixs_networks_have_the_published_number_of_weights():
    strategy = Pix2Pix(Pix2Pix.Options(), ImageSpec(channels=3), batch_size=1)
    assert strategy.depth == 8
    assert size(strategy.generator()) == 54_413_955
    assert size(strategy.discriminators()) == 2_768_705


def test_a_unet_for_128_pixels_has_one_inner_level_less():
    strategy = Pix2Pix(Pix2Pix.Options(resolution=128, ngf=8), ImageSpec(channels=3), batch_size=1)
    level = 64 * 64 * 16 + 128 * 64 * 16 + 4 * 64  # a convolution down, one up with a skip, and their norms
    assert size(strategy.generator()) == size(UNetGenerator(3, 8, 8, [])) - level


def test_pix2pixhds_networks_have_the_published_number_of_weights():
    """The authors' print 182,546,755 for Cityscapes, of whose 36 channels in the first layer 33 are more than here.

    At an eighth of the channels, whose sum is that of a polynomial; the same polynomial at 64 is theirs.
    """

    def trunk(width, channels):
        widths = [width * 2**i for i in range(5)]
        convs = sum(9 * a * b for a, b in pairwise(widths))
        ups_and_downs = 2 * convs + sum(widths[1:]) + sum(widths[:-1])
        return channels * 49 * width + width + ups_and_downs + 18 * (9 * widths[-1] ** 2 + widths[-1])

    def last(width):
        return 49 * 3 * width + 3

    assert trunk(64, 36) + last(64) == 182_546_755
    small = Pix2PixHD(Pix2PixHD.Options(ngf=8), ImageSpec(channels=3), batch_size=1)
    assert size(small.generator()) == trunk(8, 3) + last(8)
    assert size(ResNetTrunk(3, 8, 9, 4)) == trunk(8, 3)
    local = 49 * 3 * 4 + 4 + 9 * 4 * 8 + 8 + 3 * 2 * (9 * 8 * 8 + 8) + 9 * 8 * 4 + 4 + last(4)
    assert size(EnhancedGenerator(3, 4, 9, 4, 3)) == trunk(8, 3) + local
    d = 16 * 6 * 64 + 64 + 16 * (64 * 128 + 128 * 256 + 256 * 512) + 128 + 256 + 512 + 16 * 512 + 1
    assert size(small.discriminators()) == 2 * d == 5_535_618
