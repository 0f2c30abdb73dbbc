"""CycleGAN's networks and gradients equal those of float64 JAX with the same weights, and have the published size."""

from types import SimpleNamespace

import cyclegan_float64 as float64
import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn as ms_nn
from nn.reference import assert_close, assert_gradients, normal

from ganfleet.engine.program import Program
from ganfleet.engine.tensors import tensors
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.cyclegan import CycleGAN

A, B, FAKE_A, FAKE_B = (np.tanh(normal(2, 3, 24, 28, seed=seed)) for seed in range(4))


def model_of(**options):
    strategy = CycleGAN(CycleGAN.Options(**options), ImageSpec(channels=3), batch_size=2)
    return strategy, Program(strategy, strategy.schedule()[0], 3)


@pytest.fixture(scope="module")
def small():
    """A CycleGAN of few channels with weights so large that every layer matters; its phases' programs by name."""
    _, model = model_of(resolution=24, ngf=4, ndf=4, blocks=1)
    components = model.tensors()
    for component in ("G.weights", "D.weights"):
        for seed, (name, array) in enumerate(components[component].items()):
            components[component][name] = (
                array * 5 if name.endswith("weight") else 0.1 * normal(*array.shape, seed=seed)
            )
    model.load(components)
    w = components["G.weights"] | components["D.weights"]
    programs = {compiled.name: compiled for compiled in model.phases}
    return SimpleNamespace(
        model=model, programs=programs, w={name: jnp.asarray(array, jnp.float64) for name, array in w.items()}
    )


class Jitted(ms_nn.Cell):
    def __init__(self, net):
        super().__init__(auto_prefix=False)
        self.net = net

    @ms.jit
    def construct(self, x):
        return self.net(x)


def double(*arrays):
    return [array.astype(np.float64) for array in arrays]


@pytest.mark.parametrize("name", ["G_AB", "D_B"])
def test_forward_equals_float64(name, small):
    reference = float64.generator if name.startswith("G") else float64.discriminator
    output = Jitted(getattr(small.model.nets, name))(ms.Tensor(A)).asnumpy()
    assert_close(output, reference(small.w, name, *double(A)), 1e-5)


@pytest.mark.parametrize("player", [pytest.param("G", marks=pytest.mark.slow), "D"])
def test_gradients_equal_float64_for_every_weight(player, small):
    real = {"image_a": A, "image_b": B}
    fakes = {"fake_a": FAKE_A, "fake_b": FAKE_B} if player == "D" else {}
    flat, kept = small.programs[player].run(tensors(real), tensors(fakes))
    loss = float64.g_loss if player == "G" else float64.d_loss
    value, gradients = jax.jit(jax.value_and_grad(loss))(small.w, *double(A, B, *fakes.values()))

    weights = small.model.players[player].weights
    assert {p.name for p in weights} == {name for name in small.w if name.startswith(player)}
    rest = assert_gradients(flat.asnumpy(), weights, gradients, 1e-4, nothing=1e-6)
    assert_close(rest[0], value, 1e-5, "loss")
    if player == "G":
        assert_close(kept["fake_b"].asnumpy(), float64.generator(small.w, "G_AB", *double(A)), 1e-5, "fake_b")
        assert_close(kept["fake_a"].asnumpy(), float64.generator(small.w, "G_BA", *double(B)), 1e-5, "fake_a")


def test_the_default_networks_have_the_published_number_of_weights():
    _, model = model_of()
    sizes = {name: sum(p.size for p in getattr(model.nets, name).trainable_params()) for name in vars(model.nets)}
    assert sizes == {"G_AB": 11_378_179, "G_BA": 11_378_179, "D_A": 2_764_737, "D_B": 2_764_737}


def test_images_of_128_pixels_and_less_get_six_blocks():
    _, model = model_of(resolution=128)
    assert sum(p.size for p in model.nets.G_AB.trainable_params()) == 7_837_699
