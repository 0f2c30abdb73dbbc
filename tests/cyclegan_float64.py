"""CycleGAN (arXiv:1703.10593) in float64 JAX, written from the paper, as a reference for what the engine computes.

``w`` has every weight by the engine's name. Losses are those of section 5.1: least squares, cycles weighted 10,
identity weighted half of that, and half of D's sum.
"""

import jax
import jax.numpy as jnp
from nn.reference import channels, conv

CYCLE, IDENTITY = 10, 0.5


def generator(w, name, image):
    """``image`` by the generator ``name``: 7×7, two strided 3×3, residual blocks, two transposed 3×3, 7×7, tanh."""
    x = relu(norm(mirrored_conv(w, f"{name}.first", image, 3)))
    for i in range(2):
        x = relu(norm(biased(w, f"{name}.down.{i}", conv(x, w[f"{name}.down.{i}.weight"], 2, 1))))
    block = 0
    while f"{name}.blocks.{block}.conv1.weight" in w:
        y = relu(norm(mirrored_conv(w, f"{name}.blocks.{block}.conv1", x, 1)))
        x = x + norm(mirrored_conv(w, f"{name}.blocks.{block}.conv2", y, 1))
        block += 1
    for i in range(2):
        x = relu(norm(biased(w, f"{name}.up.{i}", doubling(x, w[f"{name}.up.{i}.weight"]))))
    return jnp.tanh(mirrored_conv(w, f"{name}.last", x, 3))


def discriminator(w, name, image):
    """Scores of patches (n, 1, h', w')."""
    x = image
    for i in range(4):
        x = biased(w, f"{name}.convs.{i}", conv(x, w[f"{name}.convs.{i}.weight"], 2 if i < 3 else 1, 1))
        x = leaky_relu(norm(x) if i else x)
    return biased(w, f"{name}.last", conv(x, w[f"{name}.last.weight"], 1, 1))


def g_loss(w, a, b):
    fake_b, fake_a = generator(w, "G_AB", a), generator(w, "G_BA", b)
    adversarial = mse(discriminator(w, "D_B", fake_b), 1) + mse(discriminator(w, "D_A", fake_a), 1)
    cycles = l1(generator(w, "G_BA", fake_b), a) + l1(generator(w, "G_AB", fake_a), b)
    identities = l1(generator(w, "G_BA", a), a) + l1(generator(w, "G_AB", b), b)
    return adversarial + CYCLE * (cycles + IDENTITY * identities)


def d_loss(w, a, b, fake_a, fake_b):
    on_a = mse(discriminator(w, "D_A", a), 1) + mse(discriminator(w, "D_A", fake_a), 0)
    on_b = mse(discriminator(w, "D_B", b), 1) + mse(discriminator(w, "D_B", fake_b), 0)
    return (on_a + on_b) / 2


def mirrored_conv(w, name, x, border):
    x = jnp.pad(x, [(0, 0), (0, 0), (border, border), (border, border)], "reflect")
    return biased(w, name, conv(x, w[f"{name}.weight"]))


def doubling(x, weight):
    """PyTorch's ConvTranspose2d(kernel 3, stride 2, padding 1, output_padding 1)."""
    flipped = jnp.flip(weight, (2, 3)).transpose(1, 0, 2, 3)
    return jax.lax.conv_general_dilated(x, flipped, (1, 1), [(1, 2), (1, 2)], lhs_dilation=(2, 2))


def biased(w, name, x):
    return x + channels(w[f"{name}.bias"])


def norm(x):
    return (x - x.mean((2, 3), keepdims=True)) / jnp.sqrt(x.var((2, 3), keepdims=True) + 1e-5)


def relu(x):
    return jnp.maximum(x, 0)


def leaky_relu(x):
    return jnp.where(x > 0, x, 0.2 * x)


def mse(x, target):
    return ((x - target) ** 2).mean()


def l1(x, target):
    return jnp.abs(x - target).mean()
