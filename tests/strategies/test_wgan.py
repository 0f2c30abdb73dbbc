"""WGAN follows its paper's algorithm and its authors' schedule; WGAN-GP's gradients are those of float64 JAX."""

from itertools import pairwise

import dcgan_float64 as float64
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from in_memory import ArraySource, one_lane, trainer
from nn.reference import assert_close, assert_gradients, conv, normal
from pydantic import ValidationError

from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.engine.callbacks import Callback
from ganfleet.engine.program import Program
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.wgan import WGAN, WGANGP, generator_due

# With this seed no unit is on for as many real as fake images: the gradient of its bias would be nothing but rounding,
# and RMSProp divides it by itself.
SEED, BATCH, LATENT, BOUND, LR = 1, 8, 6, 0.04, 0.01


# ── The schedule


def original_loop(rounds, critic_steps, long_critic_steps):
    """For each step of the critic, whether one of G follows: WassersteinGAN/main.py's loops, with data without end."""
    followed = []
    for gen_iterations in range(rounds):
        long = gen_iterations < 25 or gen_iterations % 500 == 0
        d_iters = long_critic_steps if long else critic_steps
        j = 0
        while j < d_iters:
            j += 1
            followed.append(j == d_iters)
    return followed


@pytest.mark.parametrize("steps", [(5, 100), (1, 3), (4, 4), (7, 2)], ids=str)
def test_g_is_due_where_the_original_loop_updates_it(steps):
    expected = original_loop(3000, *steps)
    assert [generator_due(step, *steps) for step in range(len(expected))] == expected


def test_the_default_schedule_is_the_originals_and_needs_the_clocks_step_alone():
    strategy = WGAN(WGAN.Options(), ImageSpec(1), 64)
    expected = original_loop(40, 5, 100)
    phases = strategy.phases(strategy.schedule()[0])
    due = [[p.name for p in phases if p.is_due(Clock(1, step=s))] for s in range(len(expected))]
    assert due == [["D", "G"] if g else ["D"] for g in expected]


# ── WGAN


def mlp(w, name, x):
    """A multilayer perceptron with two layers and leaky ReLU."""
    x = x.reshape(len(x), -1)
    x = float64.leaky_relu(x @ w[f"{name}.layers.0.weight"].T + w[f"{name}.layers.0.bias"])
    return x @ w[f"{name}.last.weight"].T + w[f"{name}.last.bias"]


def fake(w, z):
    return jnp.tanh(mlp(w, "G", z))


def estimate(w, real, z):
    return mlp(w, "D", real).mean() - mlp(w, "D", fake(w, z)).mean()


CRITIC = jax.jit(jax.value_and_grad(estimate))
GENERATOR = jax.jit(jax.value_and_grad(lambda w, z: -mlp(w, "D", fake(w, z)).mean()))


class Algorithm1:
    """Algorithm 1 of arXiv:1701.07875 in float64, with RMSProp as PyTorch does it, or plain gradient descent."""

    def __init__(self, components, optimizer):
        self.w = {n: a.astype(np.float64) for c in ("D.weights", "G.weights") for n, a in components[c].items()}
        self.w = {n: np.clip(a, -BOUND, BOUND) if n.startswith("D") else a for n, a in self.w.items()}
        self.v = {n: np.zeros(a.shape) for n, a in self.w.items()}
        self.optimizer = optimizer

    def step(self, step, real, g_follows):
        """The estimate and, where G had its turn, G's loss."""
        logged = {}
        logged["wasserstein"], gradients = CRITIC(self.w, real, latents("D", step))
        self._descend("D", {name: -gradient for name, gradient in gradients.items()})
        self.w |= {n: np.clip(a, -BOUND, BOUND) for n, a in self.w.items() if n.startswith("D")}
        if g_follows:
            logged["Loss/G"], gradients = GENERATOR(self.w, latents("G", step))
            self._descend("G", gradients)
        return logged

    def _descend(self, player, gradients):
        for name in [n for n in self.w if n.startswith(player)]:
            update = np.asarray(gradients[name])
            if self.optimizer == "rmsprop":
                self.v[name] = 0.99 * self.v[name] + 0.01 * update**2
                update = update / (np.sqrt(self.v[name]) + 1e-8)
            self.w[name] = self.w[name] - LR * update


def latents(phase, step):
    return rng.stream(SEED, f"draw/{phase}", step, 0).standard_normal((BATCH, LATENT), dtype=np.float32)


WGAN_CONFIG = f"""
strategy: {{name: wgan, architecture: mlp, resolution: 4, latent: {LATENT}, hidden: [8], clip: {BOUND}, lr: {LR},
           critic_steps: 1, long_critic_steps: 2, optimizer: %s}}
train: {{steps: %d, batch_size: {BATCH}, lanes: %d, seed: {SEED}}}
"""


@pytest.mark.parametrize("optimizer", ["rmsprop", pytest.param("sgd", marks=pytest.mark.slow)])
def test_wgan_is_algorithm_1_in_float64(optimizer, tmp_path):
    train = trainer(WGAN_CONFIG % (optimizer, 4, 1), ArraySource("image", np.tanh(normal(32, 1, 4, 4))), tmp_path)
    reference = Algorithm1(train.program.tensors(), optimizer)
    with train.loader:
        for step in range(4):
            batch = train.loader.next()
            stats = train.stepper.step(batch.lanes, train.clock, np.zeros(2, np.float32)).stats
            train.clock.tick(BATCH)
            expected = reference.step(step, batch.lanes[0]["image"], g_follows=step % 2)
            assert ("Loss/G" in stats) == ("Loss/G" in expected)
            for name, value in expected.items():
                assert_close(stats[name], value, 1e-4, f"{name} of step {step}")
    ended = train.program.tensors()
    for name, value in reference.w.items():
        assert_close(ended[f"{name[0]}.weights"][name], value, 1e-4, name)
    assert max(np.abs(a).max() for a in ended["D.weights"].values()) == np.float32(BOUND), "clipping had work to do"


class Weights(Callback):
    """Every player's weights, flat, at the start and after each step."""

    def __init__(self, trainer):
        self.seen = [self._flat(trainer)]

    def after_step(self, trainer, stats):
        self.seen.append(self._flat(trainer))

    def _flat(self, trainer):
        components = trainer.program.tensors()
        return {p: np.concatenate([a.ravel() for a in components[f"{p}.weights"].values()]) for p in "DG"}


def test_critic_weights_never_leave_the_bound_and_g_moves_only_when_due(tmp_path):
    train = trainer(WGAN_CONFIG % ("rmsprop", 60, 2), ArraySource("image", np.tanh(normal(32, 1, 4, 4))), tmp_path)
    weights = Weights(train)
    train.callbacks = (weights,)
    train.run()
    seen = weights.seen
    for weights in seen:
        assert np.abs(weights["D"]).max() <= np.float32(BOUND)
    assert (np.abs(seen[-1]["D"]) == np.float32(BOUND)).any(), "clipping had work to do"
    assert np.abs(seen[-1]["G"]).max() > 2 * BOUND
    moved = [not np.array_equal(a["G"], b["G"]) for a, b in pairwise(seen)]
    assert moved == original_loop(35, 1, 2)


def test_the_conv_critic_starts_within_the_bound_too():
    strategy = WGAN(WGAN.Options(resolution=8, ngf=4, ndf=4), ImageSpec(3), 8)
    start = Program(strategy, strategy.schedule()[0], 0).tensors()["D.weights"]
    assert max(np.abs(a).max() for a in start.values()) == np.float32(0.01)


def test_critic_and_generator_may_be_of_different_kinds():
    strategy = WGAN(WGAN.Options(resolution=8, ngf=4, hidden=(5, 7), critic="mlp"), ImageSpec(3), 8)
    players = Program(strategy, strategy.schedule()[0], 0).tensors()
    shapes = [array.shape for array in players["D.weights"].values() if array.ndim > 1]
    assert shapes == [(7, 192), (5, 7), (1, 5)]
    assert any(array.ndim == 4 for array in players["G.weights"].values())


def test_a_convolutional_wgan_of_a_wrong_resolution_is_refused():
    with pytest.raises(ValidationError, match="conv needs a resolution that is a power of two, 8 or more, not 12"):
        WGAN.Options(resolution=12)
    WGAN.Options(resolution=12, architecture="mlp")


# ── WGAN-GP


def critic(w, image):
    """Scores (n,) of the convolutional critic."""
    x = image
    for i in range(float64.layers(w, "D.convs") // 2):
        x = float64.leaky_relu(conv(x, w[f"D.convs.{i}.weight"], 2, 1) + w[f"D.convs.{i}.bias"][:, None, None])
    return conv(x, w["D.last.weight"]).reshape(-1)


def gp_d_loss(w, real, z, u):
    fake = float64.generator(w, z)[0]
    slopes = jax.vmap(jax.grad(lambda x: critic(w, x[None])[0]))(u * fake + (1 - u) * real)
    penalty = ((jnp.sqrt((slopes**2).sum((1, 2, 3))) - 1) ** 2).mean()
    estimate = critic(w, real).mean() - critic(w, fake).mean()
    return 10 * penalty - estimate, {"wasserstein": estimate, "gradient_penalty": penalty}


def gp_g_loss(w, real, z, u):
    return -critic(w, float64.generator(w, z)[0]).mean(), {}


@pytest.mark.slow
@pytest.mark.parametrize("player, loss", [("D", gp_d_loss), ("G", gp_g_loss)])
def test_gradients_of_wgan_gp_equal_float64_for_every_weight(player, loss):
    strategy = WGANGP(WGANGP.Options(resolution=16, latent=20, ngf=8, ndf=8), ImageSpec(3), 8)
    model = Program(strategy, strategy.schedule()[0], 3)
    compiled = next(compiled for compiled in model.phases if compiled.name == player)
    start = {n: 3 * a for c in ("D.weights", "G.weights") for n, a in model.tensors()[c].items()}
    components = model.tensors()
    for component in ("D.weights", "G.weights"):
        components[component] = {n: start[n] for n in components[component]}
    model.load(components)
    real, noise = np.tanh(normal(8, 3, 16, 16, seed=1)), strategy.draw(np.random.default_rng(2), 8, Clock(1))
    assert noise["u"].shape == (8, 1, 1, 1) and len(np.unique(noise["u"])) == 8

    flat, stats = one_lane(compiled, {"image": real}, noise)
    w = {n: jnp.asarray(a, jnp.float64) for n, a in start.items()}
    inputs = (jnp.asarray(a, jnp.float64) for a in (real, noise["z"], noise["u"]))
    gradients, expected = jax.jit(jax.grad(loss, has_aux=True))(w, *inputs)

    for name, value in expected.items():
        assert_close(stats[name], value, 1e-5, name)
    weights = model.players[player].weights
    assert {p.name for p in weights} == {n for n in w if n.startswith(player) and not n.endswith(".value")}
    assert_gradients(flat, weights, gradients, 1e-4)
