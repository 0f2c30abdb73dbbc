"""The gradients the engine gives DCGAN equal those of float64 JAX, and its networks have the published size."""

from types import SimpleNamespace

import dcgan_float64 as float64
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nn.reference import assert_gradients, normal

from ganfleet.engine.program import Program
from ganfleet.engine.tensors import tensors
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.dcgan import DCGAN

REFERENCE = {
    loss.__name__[0].upper(): jax.jit(jax.grad(loss, has_aux=True)) for loss in (float64.d_loss, float64.g_loss)
}


def dcgan(**options):
    return DCGAN(DCGAN.Options(**options), ImageSpec(channels=3), batch_size=8)


@pytest.fixture(scope="module")
def small():
    """A DCGAN of 16x24: its model, the tensors it starts with, and its phases' programs by name."""
    strategy = dcgan(resolution=[16, 24], latent=20, ngf=8, ndf=8)
    model = Program(strategy, strategy.schedule()[0], 3)
    programs = {compiled.name: compiled for compiled in model.phases}
    return SimpleNamespace(model=model, start=model.tensors(), programs=programs)


@pytest.mark.parametrize(
    "scale",
    [
        pytest.param(1, id="initial weights"),
        pytest.param(20, id="weights so large that tanh saturates", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("player", ["D", "G"])
def test_gradients_equal_float64_for_every_weight(player, scale, small):
    components = dict(small.start)
    for component in ("D.weights", "G.weights"):
        convolutions = {name: a * scale for name, a in small.start[component].items() if name.endswith(".weight")}
        components[component] = small.start[component] | convolutions
    small.model.load(components)
    real, z = np.tanh(normal(8, 3, 16, 24, seed=1)), normal(8, 20, seed=2)

    flat, _ = small.programs[player].run(tensors({"image": real}), tensors({"z": z}))
    w = {n: jnp.asarray(a, jnp.float64) for n, a in (components["D.weights"] | components["G.weights"]).items()}
    gradients, _ = REFERENCE[player](w, real.astype(np.float64), z.astype(np.float64))

    weights = small.model.players[player].weights
    assert {p.name for p in weights} == {n for n in w if n.startswith(player)}
    assert_gradients(flat.asnumpy(), weights, gradients, 1e-5)


def test_the_default_networks_have_the_published_number_of_weights():
    """That of PyTorch's DCGAN example: the same networks for 64x64 and 3 channels, with 100 latents."""
    strategy = dcgan()
    players = Program(strategy, strategy.schedule()[0], 0).players
    assert players["G"].size == 3_576_704
    assert players["D"].size == 2_765_568
