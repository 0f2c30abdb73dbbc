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
from ganfleet.nn import Constant, gradient_penalty, r1
from ganfleet.strategies.stylegan.networks import Discriminator, Generator, ProGenerator

BATCH, LATENT = 8, 6
SMALL = {"base": 64, "maximum": 5}  # 5, 5, 4, 2 … channels: odd ones, and narrower from 16x16 on
CASES = {  # variant, resolution, fade, classes
    "8x8 stable with labels": ("stylegan", 8, False, 3),
    "16x16 in a fade with labels": ("stylegan", 16, True, 3),
    "32x32 stable": ("stylegan", 32, False, 0),
    "ProGAN 8x8 in a fade with labels": ("progan", 8, True, 3),
}
LABELS = np.arange(BATCH, dtype=np.int32) % 3
ALPHA = np.float32(0.3)


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
        scores, conditions = self.net(image, alpha, label), (alpha, label)
        steepness = r1(self.net, image, conditions)
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
        self.layers = 2 * resolution.bit_length() - 4
        sizes = {"latent": LATENT, "classes": classes, **SMALL}
        self.g = (Generator if self.styled else ProGenerator)(resolution, 3, fade, **sizes)
        self.d = Discriminator(resolution, 3, fade, classes=classes, blur=self.styled, **SMALL)
        for net in (self.g, self.d):
            fill(net)
        self.z, self.image = normal(BATCH, LATENT, seed=1), normal(BATCH, 3, resolution, resolution, seed=2)
        self.strengths = 1 + 0.3 * normal(1, self.layers, 1, seed=3)
        self.noise = [normal(BATCH, 1, 4 << i // 2, 4 << i // 2, seed=10 + i) for i in range(self.layers)]
        self.image_probe, self.score_probe = normal(*self.image.shape, seed=4), normal(BATCH, seed=5)
        self.one_hot = np.eye(3)[LABELS] if self.labelled else None
        self._g = GeneratorNumbers(self.g, self.styled, self.labelled, self.layers)
        self._d = DiscriminatorNumbers(self.d, self.labelled)

    def generate(self, alpha=ALPHA):
        return run(self._g, self.image_probe, self.z, np.float32(alpha), LABELS, self.strengths, *self.noise)

    def judge(self, image, what="score", alpha=ALPHA):
        choice = np.array([what == "score", what == "R1", what == "GP"], np.float32)
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


@pytest.mark.parametrize("name", CASES)
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
            image = float64.pro_generator(w, c.z.astype(float), float(ALPHA), c.fade, c.one_hot)
        return (image**2 * c.image_probe).sum(), image

    image, gradients = c.generate()
    expected, expected_image = jax.jit(reference)(in_float64(c.g, trainable=True))
    assert_close(image, expected_image, FIRST, "image")
    assert_gradients(c.g, gradients, expected, SECOND, "gradient")


@pytest.mark.parametrize("name", CASES)
def test_scores_and_the_gradients_of_both_penalties_equal_float64(name):
    c = case(name)

    def critic(w, image):
        w = w | in_float64(c.d, trainable=False)
        return float64.discriminator(w, image, float(ALPHA), c.fade, c.one_hot, blurred=c.styled)

    def reference(w, image):
        judge = functools.partial(critic, w)
        score = (judge(image) ** 2 * c.score_probe).sum()
        return {"score": score, "R1": float64.r1(judge, image), "GP": float64.gradient_penalty(judge, image)}

    w, image = in_float64(c.d, trainable=True), c.image.astype(float)
    scores, gradients = jax.jit(lambda w, image: (critic(w, image), jax.jacrev(reference)(w, image)))(w, image)
    assert_close(c.judge(c.image)[0], scores, FIRST, "score")
    for what, expected in gradients.items():
        assert_gradients(c.d, c.judge(c.image, what)[1], expected, SECOND, f"gradient of {what}")
