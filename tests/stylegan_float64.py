"""StyleGAN (arXiv:1812.04948) and ProGAN (arXiv:1710.10196) in float64 JAX, written from the papers, as a reference.

``w`` has every weight of one network by the network's own name for it, and ``fade`` says whether it is growing;
otherwise arguments are those of ganfleet's networks. Labels are (n, classes), one-hot.
"""

import jax
import jax.numpy as jnp
from nn.reference import channels, conv

SQRT2 = 2**0.5


def mapping(w, z, label=None):
    if label is not None:
        z = jnp.concatenate([z, label @ w["mapping.embedding.weight"]], 1)
    x = pixel_norm(z)
    for i in range(count(w, "mapping.dense")):
        x = leaky_relu(dense(w, f"mapping.dense.{i}", x, rate=0.01))
    return x


def synthesis(w, styles, noise, alpha, fade):
    def finish(i, x):
        at = f"synthesis.layers.{i}.epilogue"
        x = x + noise[f"noise{i}"] * channels(w[f"{at}.strength"]) + channels(w[f"{at}.bias"])
        x = leaky_relu(x)
        x = (x - x.mean((2, 3), keepdims=True)) / jnp.sqrt(x.var((2, 3), keepdims=True) + 1e-8)
        scale, shift = jnp.split(dense(w, f"{at}.style", styles[:, i], gain=1), 2, 1)
        return x * (scale[:, :, None, None] + 1) + shift[:, :, None, None]

    x, outputs = w["synthesis.layers.0.constant"], []
    for i in range(count(w, "synthesis.layers")):
        if i % 2 == 0 and i > 0:
            x = blur(equalized(w, f"synthesis.layers.{i}.conv", enlarge(x)))
        elif i > 0:
            x = equalized(w, f"synthesis.layers.{i}.conv", x)
        x = finish(i, x)
        outputs.append(x)
    return to_image(w, "synthesis.to_rgb.convs", outputs[1::2], alpha, fade)


def pro_generator(w, z, alpha, fade, label=None, start=(4, 4)):
    """``start``: height and width of the first layer."""
    if label is not None:
        z = jnp.concatenate([z, label], 1)
    x = dense(w, "dense", pixel_norm(z), gain=SQRT2 / 4)
    x = pixel_norm(leaky_relu(x.reshape(len(z), -1, *start) + channels(w["bias"])))
    outputs = []
    for i in range(count(w, "convs")):
        x = equalized(w, f"convs.{i}.conv", enlarge(x) if i % 2 == 1 else x)
        x = pixel_norm(leaky_relu(x))
        outputs.append(x)
    return to_image(w, "to_rgb.convs", outputs[0::2], alpha, fade)


def discriminator(w, image, alpha, fade, label=None, blurred=True, group=4):
    def from_rgb(i, image):
        return leaky_relu(equalized(w, f"from_rgb.{i}", image))

    last = count(w, "blocks") - 1
    x = from_rgb(last, image)
    for i in range(last, 0, -1):
        x = leaky_relu(equalized(w, f"blocks.{i}.conv", x))
        x = leaky_relu(reduce(equalized(w, f"blocks.{i}.down", blur(x) if blurred else x)))
        if fade and i == last:
            x = alpha * x + (1 - alpha) * from_rgb(last - 1, reduce(image))
    x = leaky_relu(equalized(w, "blocks.0.conv", minibatch_stddev(x, group)))
    x = leaky_relu(dense(w, "blocks.0.dense", x.reshape(len(x), -1)))
    scores = dense(w, "blocks.0.last", x, gain=1)
    return scores[:, 0] if label is None else (scores * label).sum(1)


def scores_and_penalties(critic, x):
    """critic(x), R1, and WGAN-GP's penalty, at x itself."""
    slopes, scores = jax.grad(lambda x: (critic(x).sum(), critic(x)), has_aux=True)(x)
    squared = (slopes**2).sum((1, 2, 3))
    return scores, squared.mean(), ((jnp.sqrt(squared) - 1) ** 2).mean()


def to_image(w, name, outputs, alpha, fade):
    image = equalized(w, f"{name}.{len(outputs) - 1}", outputs[-1], gain=1)
    if not fade:
        return image
    old = equalized(w, f"{name}.{len(outputs) - 2}", outputs[-2], gain=1)
    return alpha * image + (1 - alpha) * enlarge(old)


def dense(w, name, x, gain=SQRT2, rate=1):
    weight = w[f"{name}.weight"]
    y = x @ (weight * rate * gain / weight.shape[1] ** 0.5).T
    return y + w[f"{name}.bias"] * rate if f"{name}.bias" in w else y


def equalized(w, name, x, gain=SQRT2):
    weight = w[f"{name}.weight"]
    fan_in = weight[0].size
    y = conv(x, weight * gain / fan_in**0.5, padding=weight.shape[-1] // 2)
    return y + channels(w[f"{name}.bias"]) if f"{name}.bias" in w else y


def minibatch_stddev(x, group):
    """Sample i is in the group of samples i, i + n/group, i + 2n/group …"""
    n, groups = len(x), max(len(x) // group, 1)
    means = [jnp.sqrt(x[i::groups].var(0) + 1e-8).mean() for i in range(groups)]
    extra = jnp.stack([means[i % groups] for i in range(n)])
    return jnp.concatenate([x, jnp.broadcast_to(extra[:, None, None, None], (n, 1, *x.shape[2:]))], 1)


def blur(x):
    h, w = x.shape[2:]
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    x = (x[:, :, :h] + 2 * x[:, :, 1 : h + 1] + x[:, :, 2:]) / 4
    return (x[..., :w] + 2 * x[..., 1 : w + 1] + x[..., 2:]) / 4


def enlarge(x):
    return x.repeat(2, 2).repeat(2, 3)


def reduce(x):
    return sum(x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4


def pixel_norm(x):
    return x / jnp.sqrt((x**2).mean(1, keepdims=True) + 1e-8)


def leaky_relu(x):
    return jnp.where(x > 0, x, 0.2 * x)


def count(w, prefix):
    return 1 + max(int(name[len(prefix) + 1 :].split(".")[0]) for name in w if name.startswith(f"{prefix}."))
