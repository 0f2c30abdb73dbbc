"""DCGAN (arXiv:1511.06434) in float64 JAX, written from the paper, as a reference for what the engine computes.

``w`` has every weight of both networks by the engine's name. Networks also give the batch moments that each of their
batch norms saw, a list with one (2, channels) of mean and unbiased variance per call, by the name of the layer's
running statistics.
"""

import jax
import jax.numpy as jnp
from nn.reference import batch_norm, conv, conv_transpose


def generator(w, z):
    """Latents (n, latent) → images (n, channels, height, width)."""
    x, moments = z[:, :, None, None], {}
    for i in range(layers(w, "G.convs")):
        stride, padding = (1, 0) if i == 0 else (2, 1)
        x = conv_transpose(x, w[f"G.convs.{i}.weight"], stride, padding)
        x = jnp.maximum(normalised(w, f"G.norms.{i}", x, moments), 0)
    return jnp.tanh(conv_transpose(x, w["G.last.weight"], 2, 1)), moments


def discriminator(w, image):
    """Images → logits (n,)."""
    x, moments = leaky_relu(conv(image, w["D.first.weight"], 2, 1)), {}
    for i in range(layers(w, "D.convs")):
        x = leaky_relu(normalised(w, f"D.norms.{i}", conv(x, w[f"D.convs.{i}.weight"], 2, 1), moments))
    return conv(x, w["D.last.weight"]).reshape(-1), moments


def d_loss(w, real, z):
    """−E log D(x) − E log(1 − D(G(z))), then (stats, moments of D's two calls)."""
    on_real, real_moments = discriminator(w, real)
    on_fake, fake_moments = discriminator(w, generator(w, z)[0])
    loss = -jnp.log(jax.nn.sigmoid(on_real)).mean() - jnp.log(jax.nn.sigmoid(-on_fake)).mean()
    stats = {"Loss/D": loss, "scores/real": on_real.mean(), "scores/fake": on_fake.mean()}
    return loss, (stats, {name: real_moments[name] + fake_moments[name] for name in real_moments})


def g_loss(w, real, z):
    """−E log D(G(z)), then (stats, moments of G's one call)."""
    fake, moments = generator(w, z)
    loss = -jnp.log(jax.nn.sigmoid(discriminator(w, fake)[0])).mean()
    return loss, ({"Loss/G": loss}, moments)


def leaky_relu(x):
    return jnp.where(x > 0, x, 0.2 * x)


def normalised(w, name, x, moments):
    axes = (0, 2, 3)
    moments[f"{name}.moments.value"] = [jnp.stack([x.mean(axes), x.var(axes, ddof=1)])]
    return batch_norm(x, w[f"{name}.gain"], w[f"{name}.bias"])


def layers(w, prefix):
    return sum(name.startswith(f"{prefix}.") for name in w)
