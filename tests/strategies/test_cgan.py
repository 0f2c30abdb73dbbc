"""CGAN's networks and losses are those of float64 JAX, a class can be asked for, data without labels are refused."""

import dcgan_float64 as float64
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ganfleet, one_error
from in_memory import one_lane
from nn.reference import assert_close, normal
from PIL import Image

from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.engine.program import Program
from ganfleet.engine.sampler import Sampler
from ganfleet.errors import ConfigError
from ganfleet.fleet import Fleet
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.cgan import CGAN

CLASSES, SIZE, CLOCK = 3, 8, Clock(1)
SMALL = {"resolution": SIZE, "latent": 6, "hidden": (8,), "ngf": 4, "ndf": 4}


def cgan(**options):
    return CGAN(CGAN.Options(**(SMALL | options)), ImageSpec(channels=1, classes=CLASSES), batch_size=8)


# ── The reference


def generator(w, z, label, architecture):
    """Images of ``z`` with the label's row of a table behind them."""
    z = jnp.concatenate([z, w["G.embedding.weight"][label]], 1)
    if architecture == "conv":
        return float64.generator(inner(w), z)[0]
    return jnp.tanh(mlp(w, "G", z)).reshape(-1, 1, SIZE, SIZE)


def discriminator(w, image, label, architecture):
    """Logits (n,) of the images with the label's row of a table as one more channel, or behind the flat pixels."""
    features = w["D.embedding.weight"][label]
    if architecture == "conv":
        return float64.discriminator(inner(w), jnp.concatenate([image, features.reshape(-1, 1, SIZE, SIZE)], 1))[0]
    return mlp(w, "D", jnp.concatenate([image.reshape(len(image), -1), features], 1)).reshape(-1)


def inner(w):
    """The weights of the networks that the labels were joined to, by DCGAN's names."""
    return {name.replace(".net", ""): array for name, array in w.items()}


def mlp(w, name, x):
    x = float64.leaky_relu(x @ w[f"{name}.net.layers.0.weight"].T + w[f"{name}.net.layers.0.bias"])
    return x @ w[f"{name}.net.last.weight"].T + w[f"{name}.net.last.bias"]


def d_loss(w, real, noise, architecture):
    on_real = discriminator(w, real["image"], real["label"], architecture)
    return -jnp.log(jax.nn.sigmoid(on_real)).mean() - jnp.log(jax.nn.sigmoid(-on_fake(w, noise, architecture))).mean()


def g_loss(w, real, noise, architecture):
    return -jnp.log(jax.nn.sigmoid(on_fake(w, noise, architecture))).mean()


def on_fake(w, noise, architecture):
    fake = generator(w, noise["z"], noise["label"], architecture)
    return discriminator(w, fake, noise["label"], architecture)


# ── Networks and losses


@pytest.mark.parametrize("architecture", [pytest.param("conv", marks=pytest.mark.slow), "mlp"])
def test_losses_and_gradients_equal_float64_for_every_weight(architecture):
    strategy = cgan(architecture=architecture)
    model = Program(strategy, strategy.schedule()[0], 3)
    start = model.tensors()
    w = {n: jnp.asarray(a, jnp.float64) for c in ("D.weights", "G.weights") for n, a in start[c].items()}
    real = {"image": np.tanh(normal(8, 1, SIZE, SIZE, seed=1)), "label": np.int32([0, 1, 2, 0, 1, 2, 2, 2])}
    noise = strategy.draw(np.random.default_rng(2), 8, CLOCK)

    for compiled, loss in zip(model.phases, (d_loss, g_loss), strict=True):
        phase = compiled.phase
        flat, stats = one_lane(compiled, real, noise)
        expected = jax.jit(jax.value_and_grad(loss), static_argnums=3)
        value, gradients = expected(w, double(real), double(noise), architecture)

        assert_close(stats[f"Loss/{phase.name}"], value, 1e-5)
        weights = model.players[phase.player].weights
        trained = {n for n in w if n.startswith(phase.player) and not n.endswith(".value")}
        assert {p.name for p in weights} == trained
        parts = np.split(flat, np.cumsum([p.size for p in weights]))
        for p, part in zip(weights, parts, strict=False):  # behind the gradients there are statistics
            assert_close(part.reshape(p.shape), gradients[p.name], 1e-4, p.name)


def double(arrays):
    return {n: jnp.asarray(a, jnp.float64 if a.dtype == np.float32 else jnp.int32) for n, a in arrays.items()}


# ── Labels


def test_the_labels_of_fakes_are_uniform():
    counts = np.bincount(cgan().draw(rng.stream(0, "test"), 9000, CLOCK)["label"])
    assert len(counts) == CLASSES
    assert np.abs(counts - 3000).max() < 5 * np.sqrt(9000 * (1 / 3) * (2 / 3))


def test_a_seed_has_the_same_latents_whichever_class_is_asked_for():
    strategy = cgan()
    any_class, *each = (strategy.sample_inputs(rng.stream(7, "sample"), CLOCK, label) for label in (None, 0, 1, 2))
    assert [int(inputs["label"][0]) for inputs in each] == [0, 1, 2]
    for inputs in each:
        assert np.array_equal(inputs["z"], any_class["z"])


def test_a_sample_is_what_g_makes_of_the_class_that_is_asked_for():
    strategy = cgan(architecture="mlp")
    model = Program(strategy, strategy.schedule()[0], 3)
    inputs = [strategy.sample_inputs(rng.stream(7, "sample"), CLOCK, label) for label in (2, 0)]
    images = Sampler(model).images(inputs, CLOCK, Fleet(1))
    w = {n: jnp.asarray(a, jnp.float64) for n, a in model.tensors()["G.weights"].items()}
    z = np.concatenate([each["z"] for each in inputs])
    assert_close(images, generator(w, z, np.array([2, 0]), "mlp"), 1e-5)


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_class_that_is_not_there_is_named(label):
    with pytest.raises(ConfigError, match=f"no class {label}: the data have classes 0 to 2"):
        cgan().sample_inputs(rng.stream(0, "sample"), CLOCK, label)


def test_training_without_labels_is_one_error_that_names_what_sets_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    (tmp_path / "config.yaml").write_text(
        "strategy: {name: cgan, resolution: 8}\ndata: {source: folder, path: .}\ntrain: {batch_size: 1, lanes: 1}\n"
    )
    message = one_error(ganfleet("train", "--config", "config.yaml"), 2)
    assert "cgan needs labels" in message and "data.classes" in message and "data.labels" in message
    assert not (tmp_path / "runs").exists()


def test_labels_beyond_the_stated_classes_are_refused():
    with pytest.raises(ConfigError, match=r"strategy\.classes is 2, but the data have labels 0 to 2"):
        cgan(classes=2)
