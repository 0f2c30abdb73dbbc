"""StyleGAN's and ProGAN's networks equal float64 JAX, have the published sizes, and grow without a jump."""

import functools

import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
import stylegan_float64 as float64
from mindspore import nn, ops
from nn.reference import FIRST, SECOND, assert_close, normal, rng

from ganfleet.engine.tensors import named
from ganfleet.nn import Constant, buffers_of, gradient_penalty, scored_r1
from ganfleet.size import Size
from ganfleet.strategies.stylegan.networks import Discriminator, Generator, ProGenerator, feature_maps

BATCH, LATENT = 8, 6
SMALL = {"base": 64, "maximum": 5}  # 5, 5, 4, 2 … channels: odd ones, and narrower from 16x16 on
CASES = {  # variant, resolution, fade, classes
    "8x8 stable with labels": ("stylegan", 8, False, 3),
    "16x16 in a fade with labels": ("stylegan", 16, True, 3),
    "32x48 stable": ("stylegan", Size(32, 48), False, 0),
    "ProGAN 8x12 in a fade with labels": ("progan", Size(8, 12), True, 3),
}
# The first takes seconds; the others are among the slow tests.
CHEAP, *OTHERS = CASES
NAMES = [CHEAP, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
LABELS = np.arange(BATCH, dtype=np.int32) % 3
ALPHA = np.float32(0.3)
CHOICES = dict(zip(("score", "R1", "GP"), np.eye(3), strict=True))


class GeneratorNumbers(nn.Cell):
    """Images, and the gradients of Σ images² · probe with respect to the weights."""

    def __init__(self, net, styled, labelled, layers):
        super().__init__(auto_prefix=False)
        self.net, self.styled, self.labelled = net, styled, labelled
        self.noise_names = tuple(f"noise{i}" for i in range(layers))
        self.weights = ms.ParameterTuple(net.trainable_params())

    def forward(self, probe, z, alpha, label, strengths, noise):
        if self.styled:
            w = self.net.mapping(z, label)
            image = self.net.synthesis(w.reshape(w.shape[0], 1, -1) * strengths, noise, alpha)
        else:
            image = self.net(z, alpha, label)
        return (image * image * probe).sum(), image

    @ms.jit
    def construct(self, probe, z, alpha, label, strengths, *noise):
        label = label if self.labelled else None
        run = ms.value_and_grad(self.forward, None, self.weights, has_aux=True)
        (_, image), gradients = run(probe, z, alpha, label, strengths, named(self.noise_names, noise))
        return image, gradients


class DiscriminatorNumbers(nn.Cell):
    """Scores, and the gradients with respect to the weights of choice · [Σ scores² · probe, R1, WGAN-GP's penalty]."""

    def __init__(self, net, labelled):
        super().__init__(auto_prefix=False)
        self.net, self.labelled = net, labelled
        self.weights = ms.ParameterTuple(net.trainable_params())

    def forward(self, choice, probe, image, alpha, label):
        conditions = (alpha, label)
        scores, steepness = scored_r1(self.net, image, conditions)
        penalty = gradient_penalty(self.net, image, image, ops.zeros((1, 1, 1, 1), ms.float32), conditions)
        return choice[0] * (scores * scores * probe).sum() + choice[1] * steepness + choice[2] * penalty, scores

    @ms.jit
    def construct(self, choice, probe, image, alpha, label):
        label = label if self.labelled else None
        run = ms.value_and_grad(self.forward, None, self.weights, has_aux=True)
        (_, scores), gradients = run(choice, probe, image, alpha, label)
        return scores, gradients


class Case:
    """One network of each kind with drawn weights, and their compiled graphs."""

    def __init__(self, variant, resolution, fade, classes):
        self.styled, self.fade, self.labelled = variant == "stylegan", fade, classes > 0
        height, width = Size.of(resolution)
        self.layers = 2 * height.bit_length() - 4
        self.sides = [(4 << i, (4 * width // height) << i) for i in range(self.layers // 2)]
        sizes = {"latent": LATENT, "classes": classes, **SMALL}
        if self.styled:
            self.g = Generator(resolution, 3, fade, mapping_layers=2, **sizes)
        else:
            self.g = ProGenerator(resolution, 3, fade, **sizes)
        self.d = Discriminator(resolution, 3, fade, classes=classes, blur=self.styled, **SMALL)
        for net in (self.g, self.d):
            fill(net)
        self.z, self.image = normal(BATCH, LATENT, seed=1), normal(BATCH, 3, height, width, seed=2)
        self.strengths = 1 + 0.3 * normal(1, self.layers, 1, seed=3)
        self.noise = [normal(BATCH, 1, *self.sides[i // 2], seed=10 + i) for i in range(self.layers)]
        self.image_probe, self.score_probe = normal(*self.image.shape, seed=4), normal(BATCH, seed=5)
        self.one_hot = np.eye(3)[LABELS] if self.labelled else None
        self._g = GeneratorNumbers(self.g, self.styled, self.labelled, self.layers)
        self._d = DiscriminatorNumbers(self.d, self.labelled)

    def generate(self, alpha=ALPHA):
        return run(self._g, self.image_probe, self.z, np.float32(alpha), LABELS, self.strengths, *self.noise)

    def judge(self, image, what="score", alpha=ALPHA):
        choice = CHOICES[what].astype(np.float32)
        return run(self._d, choice, self.score_probe, image, np.float32(alpha), LABELS)


@functools.cache
def case(name):
    return Case(*CASES[name])


def fill(net):
    """Weights as at a run's start, but nothing that starts as a constant is one."""
    for name, p in net.parameters_and_names():
        draw = rng(sum(name.encode()))
        values = p.initial(draw, p.shape)
        if isinstance(p.initial, Constant):
            values = values + (50 if name.startswith("mapping") else 0.5) * draw.standard_normal(p.shape)
        p.set_data(ms.Tensor(values.astype(np.float32)))


def run(graph, *arrays):
    return jax.tree.map(lambda t: t.asnumpy(), graph(*(ms.Tensor(a) for a in arrays)))


def in_float64(net, trainable):
    return {
        name: jnp.asarray(p.asnumpy(), jnp.float64)
        for name, p in net.parameters_and_names()
        if p.requires_grad == trainable
    }


def assert_gradients(net, actual, expected, tolerance, what):
    assert len(actual) == len(expected)
    for p, gradient in zip(net.trainable_params(), actual, strict=True):
        assert_close(gradient, expected[p.name], tolerance, f"{what} to {p.name}")


def of_same_name(net, source):
    """The weights of ``net`` that ``source`` has, set to its values."""
    theirs = dict(source.parameters_and_names())
    for name, p in net.parameters_and_names():
        if name in theirs:
            p.set_data(theirs[name].value())


@pytest.mark.parametrize("name", NAMES)
def test_images_and_the_gradients_of_every_weight_equal_float64(name):
    c = case(name)
    noise = {f"noise{i}": jnp.asarray(a, jnp.float64) for i, a in enumerate(c.noise)}

    @functools.partial(jax.grad, has_aux=True)
    def reference(w):
        w |= in_float64(c.g, trainable=False)
        if c.styled:
            styles = float64.mapping(w, c.z.astype(float), c.one_hot)[:, None] * c.strengths
            image = float64.synthesis(w, styles, noise, float(ALPHA), c.fade)
        else:
            image = float64.pro_generator(w, c.z.astype(float), float(ALPHA), c.fade, c.one_hot, c.sides[0])
        return (image**2 * c.image_probe).sum(), image

    image, gradients = c.generate()
    expected, expected_image = jax.jit(reference)(in_float64(c.g, trainable=True))
    assert_close(image, expected_image, FIRST, "image")
    assert_gradients(c.g, gradients, expected, SECOND, "gradient")


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_the_gradients_of_both_penalties_equal_float64(name):
    c = case(name)

    def reference(w, image, choice):
        w = w | in_float64(c.d, trainable=False)

        def critic(image):
            return float64.discriminator(w, image, float(ALPHA), c.fade, c.one_hot, blurred=c.styled)

        scores, r1, penalty = float64.scores_and_penalties(critic, image)
        return choice @ jnp.stack([(scores**2 * c.score_probe).sum(), r1, penalty]), scores

    gradients = jax.jit(jax.grad(reference, has_aux=True))
    for what, choice in CHOICES.items():
        expected, expected_scores = gradients(in_float64(c.d, trainable=True), c.image.astype(float), choice)
        scores, actual = c.judge(c.image, what)
        assert_close(scores, expected_scores, FIRST, "score")
        assert_gradients(c.d, actual, expected, SECOND, f"gradient of {what}")


def test_published_numbers_of_weights_at_1024():
    """As the original code prints them: all layers, with the converters to and from RGB of every resolution."""
    full = (1024, 3, False)
    assert size(Generator(*full)) == 26_219_627
    assert size(ProGenerator(*full)) == 23_079_115
    assert size(Discriminator(*full)) == size(Discriminator(*full, blur=False)) == 23_087_249
    assert Generator(*full).layers == 18


def size(net):
    buffers = {id(p) for buffer in buffers_of(net) for p in buffer.get_parameters()}
    return sum(p.size for p in net.get_parameters() if id(p) not in buffers)


def test_channels_halve_from_64_on_at_full_size():
    channels = [feature_maps(4 << i) for i in range(9)]
    assert channels == [512, 512, 512, 512, 256, 128, 64, 32, 16]


@pytest.mark.parametrize("net", [Generator, ProGenerator, Discriminator])
def test_a_stage_trains_only_the_rgb_layers_it_uses(net):
    def rgb(resolution, fade):
        return {
            p.name.rpartition(".")[0] for p in net(resolution, 3, fade, **SMALL).trainable_params() if "rgb" in p.name
        }

    assert [len(rgb(4, False)), len(rgb(32, False)), len(rgb(32, True))] == [1, 1, 2]
    assert rgb(32, True) == rgb(16, False) | rgb(32, False)


@pytest.fixture
def grown():
    """The 16x16 networks in their fade, with the weights of the 8x8 ones where the names are the same."""
    old, new = case("8x8 stable with labels"), case("16x16 in a fade with labels")
    before = [(p, p.asnumpy()) for net in (new.g, new.d) for p in net.get_parameters()]
    of_same_name(new.g, old.g)
    of_same_name(new.d, old.d)
    yield old, new
    for p, value in before:
        p.set_data(ms.Tensor(value))


@pytest.mark.slow
def test_at_fade_0_the_grown_networks_are_the_old_ones(grown):
    old, new = grown
    new.strengths[:, : old.layers] = old.strengths
    image, _ = new.generate(alpha=0)
    assert np.array_equal(image, old.generate()[0].repeat(2, 2).repeat(2, 3))
    halved = new.image.reshape(BATCH, 3, 8, 2, 8, 2).mean((3, 5))
    assert_close(new.judge(new.image, alpha=0)[0], old.judge(halved)[0], 1e-6)
    assert np.array_equal(new.judge(halved.repeat(2, 2).repeat(2, 3), alpha=0)[0], old.judge(halved)[0])


def test_at_fade_1_the_old_branch_has_no_influence(grown):
    _, new = grown
    for net, compute in ((new.g, new.generate), (new.d, functools.partial(new.judge, new.image, "R1"))):
        before, gradients = compute(alpha=1)
        branch = [i for i, p in enumerate(net.trainable_params()) if "rgb" in p.name][:2]
        for i in branch:
            assert not gradients[i].any()
            p = net.trainable_params()[i]
            p.set_data(ms.Tensor(p.asnumpy() + 1))
        assert np.array_equal(compute(alpha=1)[0], before)
