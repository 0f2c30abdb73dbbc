"""SNGAN has the paper's networks, float64 JAX's gradients, a u that moves once per update of D, and equal bits."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nn.reference import assert_close, assert_gradients, batch_norm, conv, conv_transpose, normal
from pydantic import ValidationError

from ganfleet.engine.program import Program
from ganfleet.engine.tensors import tensors
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.sngan import SNGAN
from ganfleet.testing import assert_fleet_invisible, simulate

TINY = {"resolution": 16, "latent": 6, "ngf": 3, "ndf": 4}


def sngan(channels=3, **options):
    return SNGAN(SNGAN.Options(**options), ImageSpec(channels), batch_size=4)


def sizes(strategy):
    return {name: player.size for name, player in Program(strategy, strategy.schedule()[0], 0).players.items()}


# ── Networks


def test_the_cnn_has_the_weights_of_table_3():
    g = 128 * 8192 + 8192 + 2 * 512  # dense to 4x4x512, batch norm
    g += 16 * 512 * 256 + 2 * 256 + 16 * 256 * 128 + 2 * 128 + 16 * 128 * 64 + 2 * 64  # three 4x4 deconvolutions
    g += 9 * 64 * 3 + 3
    d = 9 * 3 * 64 + 64 + 16 * 64 * 64 + 64
    d += 9 * 64 * 128 + 128 + 16 * 128 * 128 + 128
    d += 9 * 128 * 256 + 256 + 16 * 256 * 256 + 256
    d += 9 * 256 * 512 + 512 + 4 * 4 * 512 + 1
    assert sizes(sngan()) == {"D": d, "G": g}


def test_the_resnet_has_the_weights_of_table_4():
    up = 2 * 2 * 256 + 2 * (9 * 256 * 256 + 256) + 256 * 256 + 256  # two norms, two convolutions, the shortcut
    g = 128 * 4096 + 4096 + 3 * up + 2 * 256 + 9 * 256 * 3 + 3
    first = 9 * 3 * 128 + 128 + 9 * 128 * 128 + 128 + 3 * 128 + 128
    same = 2 * (9 * 128 * 128 + 128)
    d = first + same + 128 * 128 + 128 + 2 * same + 128 + 1
    assert sizes(sngan(architecture="resnet")) == {"D": d, "G": g}


def test_every_weight_of_d_is_normalised_and_none_of_g():
    for architecture in ("cnn", "resnet"):
        strategy = sngan(architecture=architecture, **TINY)
        components = Program(strategy, strategy.schedule()[0], 0).tensors()
        matrices = {name.removesuffix(".weight") for name, a in components["D.weights"].items() if a.ndim > 1}
        assert {name.removesuffix(".u.value") for name in components["D.buffers"]} == matrices
        assert not any("u.value" in name for name in components["G.buffers"])


@pytest.mark.parametrize("resolution", [8, 20])
def test_a_resolution_that_the_networks_cannot_have_is_refused(resolution):
    with pytest.raises(ValidationError, match="multiple of 8"):
        SNGAN.Options(resolution=resolution)


# ── Gradients


def power_step(w, u):
    """The next u, and v, of a weight (rows, …), by algorithm 1 of arXiv:1802.05957."""
    matrix = jax.lax.stop_gradient(w.reshape(len(w), -1))
    v = matrix.T @ u
    v = v / jnp.linalg.norm(v)
    u = matrix @ v
    return u / jnp.linalg.norm(u), v


def normalised(w, name):
    weight = w[f"{name}.weight"]
    u, v = power_step(weight, w[f"{name}.u.value"])
    return weight / jnp.einsum("i,ij,j", u, weight.reshape(len(weight), -1), v)


def with_bias(w, name, y):
    return y + w[f"{name}.bias"].reshape(1, -1, 1, 1)


def sn_conv(w, name, x, stride=1, padding=1):
    return with_bias(w, name, conv(x, normalised(w, name), stride, padding))


def sn_dense(w, name, x):
    return x @ normalised(w, name).T + w[f"{name}.bias"]


def norm_relu(w, name, x):
    return jax.nn.relu(batch_norm(x, w[f"{name}.gain"], w[f"{name}.bias"]))


def larger(x):
    return x.repeat(2, 2).repeat(2, 3)


def smaller(x):
    return sum(x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4


def first_map(w, z):
    return (z @ w["G.first.weight"].T + w["G.first.bias"]).reshape(len(z), -1, 2, 2)


def image(w, x):
    return jnp.tanh(with_bias(w, "G.last", conv(x, w["G.last.weight"], padding=1)))


def cnn_generator(w, z):
    x = norm_relu(w, "G.norms.0", first_map(w, z))
    for i in range(3):
        x = norm_relu(w, f"G.norms.{i + 1}", conv_transpose(x, w[f"G.convs.{i}.weight"], 2, 1))
    return image(w, x)


def cnn_discriminator(w, x):
    for i in range(7):
        x = sn_conv(w, f"D.convs.{i}", x, stride=1 + i % 2)
        x = jnp.where(x > 0, x, 0.1 * x)
    return sn_dense(w, "D.last", x.reshape(len(x), -1))


def resnet_generator(w, z):
    x = first_map(w, z)
    for i in range(3):
        name = f"G.blocks.{i}"
        y = larger(norm_relu(w, f"{name}.norm1", x))
        y = with_bias(w, f"{name}.conv1", conv(y, w[f"{name}.conv1.weight"], padding=1))
        y = norm_relu(w, f"{name}.norm2", y)
        y = with_bias(w, f"{name}.conv2", conv(y, w[f"{name}.conv2.weight"], padding=1))
        x = y + with_bias(w, f"{name}.shortcut", conv(larger(x), w[f"{name}.shortcut.weight"]))
    return image(w, norm_relu(w, "G.norm", x))


def resnet_discriminator(w, x):
    for i in range(4):
        name = f"D.blocks.{i}"
        y = sn_conv(w, f"{name}.conv1", jax.nn.relu(x) if i else x)
        y = sn_conv(w, f"{name}.conv2", jax.nn.relu(y))
        x = smaller(y) + smaller(sn_conv(w, f"{name}.shortcut", x, padding=0)) if i < 2 else y + x
    return sn_dense(w, "D.last", jax.nn.relu(x).sum((2, 3)))


NETWORKS = {"cnn": (cnn_generator, cnn_discriminator), "resnet": (resnet_generator, resnet_discriminator)}


def hinge(player, architecture, w, real, z):
    g, d = NETWORKS[architecture]
    fake_scores = d(w, g(w, z))
    if player == "G":
        return -fake_scores.mean()
    return jnp.maximum(0, 1 - d(w, real)).mean() + jnp.maximum(0, 1 + fake_scores).mean()


GRADIENTS = jax.jit(jax.grad(hinge, 2), static_argnums=(0, 1))


@pytest.fixture(scope="module", params=["cnn", pytest.param("resnet", marks=pytest.mark.slow)])
def small(request):
    strategy = sngan(architecture=request.param, **TINY)
    program = Program(strategy, strategy.schedule()[0], 3)
    components = program.tensors()
    if request.param == "cnn":  # from N(0, 0.02²) G's images would all be grey
        components["G.weights"] = {name: a * 5 if a.ndim > 1 else a for name, a in components["G.weights"].items()}
        program.load(components)
    phases = {phase.name: phase for phase in program.phases}
    return SimpleNamespace(architecture=request.param, program=program, components=components, phases=phases)


@pytest.mark.slow
@pytest.mark.parametrize("player", ["D", pytest.param("G", marks=pytest.mark.slow)])
def test_gradients_equal_float64_for_every_weight(player, small):
    real, z = np.tanh(normal(4, 3, 16, 16, seed=1)), normal(4, 6, seed=2)
    flat, *_ = small.phases[player].run(tensors({"image": real}), tensors({"z": z}))
    w = {}
    for component in ("D.weights", "D.buffers", "G.weights"):
        w |= {name: jnp.asarray(a, jnp.float64) for name, a in small.components[component].items()}
    gradients = GRADIENTS(player, small.architecture, w, real.astype(np.float64), z.astype(np.float64))
    weights = small.program.players[player].weights
    assert_gradients(flat.asnumpy(), weights, gradients, 2e-5, nothing=1e-6)


# ── Training

TRAINED = {**TINY, "architecture": "cnn", "critic_steps": 2, "lr": 0.1}


@pytest.mark.slow
def test_u_moves_once_per_update_of_d_by_the_weights_before_it():
    """G is not due in the first step. The learning rate makes weights before and after an update differ by far."""
    once = simulate(SNGAN, steps=1, options=TRAINED).snapshot
    program = sngan(channels=1, **TRAINED)
    initial = Program(program, program.schedule()[0], 0).tensors()
    for name, u in initial["D.buffers"].items():
        weight = initial["D.weights"][name.removesuffix(".u.value") + ".weight"]
        expected, _ = power_step(jnp.asarray(weight, jnp.float64), jnp.asarray(u, jnp.float64))
        assert_close(once.tensors["D.buffers"][name], expected, 1e-5, name)


@pytest.mark.slow
def test_the_fleet_is_invisible():
    """It is to the other architecture, too: tests/promises/test_strategies_invisible.py."""
    assert_fleet_invisible(SNGAN, world_sizes=(1, 2, 4), steps=4, options=TRAINED)
