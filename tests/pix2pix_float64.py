"""pix2pix (arXiv:1611.07004) and pix2pixHD (arXiv:1711.11585) in float64 JAX, written from the papers, and the networks
of features that tell how alike images look: references for what the engine computes.

``w`` has every weight by the engine's name.
"""

import jax
import jax.numpy as jnp
from cyclegan_float64 import biased, doubling, l1, leaky_relu, mirrored_conv, mse, norm, relu
from nn.reference import batch_norm, channels, conv, conv_transpose


def softplus(x):
    return jnp.logaddexp(x, 0)


def count(w, name):
    """How many of ``name.0``, ``name.1`` … have weights or gains."""
    return len({key.removeprefix(f"{name}.").split(".")[0] for key in w if key.startswith(f"{name}.")})


# ── pix2pix


def unet(w, image, masks=(), by_image=False):
    """Down by 4×4 convolutions of stride 2, up with skips; ``masks`` act behind the norms above the innermost layer."""
    depth = count(w, "G.down")

    def normed(x, name):
        gain, bias = w[f"{name}.gain"], w[f"{name}.bias"]
        return norm(x) * channels(gain) + channels(bias) if by_image else batch_norm(x, gain, bias)

    x, skips = image, []
    for i in range(depth):
        x = conv(leaky_relu(x) if i else x, w[f"G.down.{i}.weight"], 2, 1)
        if 0 < i < depth - 1:
            x = normed(x, f"G.down_norms.{i - 1}")
        skips.append(x)
    for i in reversed(range(1, depth)):
        x = normed(conv_transpose(relu(x), w[f"G.up.{i - 1}.weight"], 2, 1), f"G.up_norms.{i - 1}")
        layer = depth - 2 - i
        if 0 <= layer < len(masks):
            x = x * masks[layer]
        x = jnp.concatenate([skips[i - 1], x], 1)
    return jnp.tanh(conv_transpose(relu(x), w["G.last.weight"], 2, 1) + channels(w["G.last.bias"]))


def patches(w, pair, scale=0, padding=1):
    """What each layer of a discriminator gives; norms are by batch where it has gains, else by image."""
    name, x, given = f"D.scales.{scale}", pair, []
    layers = count(w, f"{name}.convs")
    for i in range(layers):
        x = conv(x, w[f"{name}.convs.{i}.weight"], 2 if i < layers - 1 else 1, padding)
        if f"{name}.convs.{i}.bias" in w:
            x = x + channels(w[f"{name}.convs.{i}.bias"])
        if i and f"{name}.norms.{i - 1}.gain" in w:
            x = batch_norm(x, w[f"{name}.norms.{i - 1}.gain"], w[f"{name}.norms.{i - 1}.bias"])
        elif i:
            x = norm(x)
        x = leaky_relu(x)
        given.append(x)
    return [*given, biased(w, f"{name}.last", conv(x, w[f"{name}.last.weight"], 1, padding))]


def beside(a, b):
    return jnp.concatenate([a, b], 1)


def d_loss(w, a, b, masks):
    real, fake = patches(w, beside(a, b))[-1], patches(w, beside(a, unet(w, a, masks)))[-1]
    return (softplus(-real).mean() + softplus(fake).mean()) / 2


def g_loss(w, a, b, masks):
    fake = unet(w, a, masks)
    return softplus(-patches(w, beside(a, fake))[-1]).mean() + 100 * l1(fake, b)


# ── pix2pixHD


def trunk(w, image):
    x = relu(norm(mirrored_conv(w, "G.first", image, 3)))
    for i in range(count(w, "G.down")):
        x = relu(norm(biased(w, f"G.down.{i}", conv(x, w[f"G.down.{i}.weight"], 2, 1))))
    for i in range(count(w, "G.blocks")):
        x = block(w, f"G.blocks.{i}", x)
    for i in range(count(w, "G.up")):
        x = relu(norm(biased(w, f"G.up.{i}", doubling(x, w[f"G.up.{i}.weight"]))))
    return x


def block(w, name, x):
    return x + norm(mirrored_conv(w, f"{name}.conv2", relu(norm(mirrored_conv(w, f"{name}.conv1", x, 1))), 1))


def halved(x):
    """Means over windows of 3×3, stride 2, of those pixels that there are."""

    def sums(y):
        return jax.lax.reduce_window(y, 0.0, jax.lax.add, (1, 1, 3, 3), (1, 1, 2, 2), ((0, 0), (0, 0), (1, 1), (1, 1)))

    return sums(x) / sums(jnp.ones_like(x))


def enhanced(w, image):
    x = relu(norm(mirrored_conv(w, "G.local_first", image, 3)))
    x = relu(norm(biased(w, "G.local_down", conv(x, w["G.local_down.weight"], 2, 1)))) + trunk(w, halved(image))
    for i in range(count(w, "G.local_blocks")):
        x = block(w, f"G.local_blocks.{i}", x)
    x = relu(norm(biased(w, "G.local_up", doubling(x, w["G.local_up.weight"]))))
    return jnp.tanh(mirrored_conv(w, "G.local_last", x, 3))


def scales(w, pair):
    found = []
    for scale in range(count(w, "D.scales")):
        pair = halved(pair) if scale else pair
        found.append(patches(w, pair, scale, padding=2))
    return found


def hd_d_loss(w, a, b, fake):
    real, fake = scales(w, beside(a, b)), scales(w, beside(a, fake))
    return sum(mse(r[-1], 1) + mse(f[-1], 0) for r, f in zip(real, fake, strict=True)) / 2


def hd_g_loss(w, a, b, features):
    """``features`` maps an image to five maps."""
    image = enhanced(w, a)
    real, fake = scales(w, beside(a, b)), scales(w, beside(a, image))
    loss = sum(mse(f[-1], 1) for f in fake)
    for r, f in zip(real, fake, strict=True):
        loss = loss + 10 * sum(l1(x, y) for x, y in zip(r[:-1], f[:-1], strict=True)) * 4 / (len(r) - 1) / len(real)
    return loss + 10 * perceptual(features(image), features(b))


# ── Features


def perceptual(maps, others):
    weights = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1)
    return sum(weight * l1(a, b) for weight, a, b in zip(weights, maps, others, strict=True))


def vgg(tensors, convs, image):
    """The first map of each block; ``convs`` are the convolutions of each, numbered with their ReLUs and the pools."""
    mean, deviation = jnp.array([0.485, 0.456, 0.406]), jnp.array([0.229, 0.224, 0.225])
    x, number, found = ((image + 1) / 2 - channels(mean)) / channels(deviation), 0, []
    for i, times in enumerate(convs):
        if i:
            x, number = pooled(x), number + 1
        for j in range(times if i < 4 else 1):
            x = relu(conv(x, tensors[f"features.{number}.weight"], 1, 1) + channels(tensors[f"features.{number}.bias"]))
            number += 2
            if j == 0:
                found.append(x)
    return found


def pooled(x):
    """Maxima of 2×2 pixels."""
    n, c, h, w = x.shape
    return x[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))


def lite0(tensors, image):
    """EfficientNet-Lite0's maps: what its last block at each size gives."""

    def same(x, weight, stride=1, groups=1):
        return jax.lax.conv_general_dilated(x, weight, (stride, stride), "SAME", feature_group_count=groups)

    def normed(x, name):
        scale, shift, mean, variance = (
            channels(tensors[f"{name}.{part}"]) for part in ("weight", "bias", "running_mean", "running_var")
        )
        return scale * (x - mean) / jnp.sqrt(variance + 1e-3) + shift

    def relu6(x):
        return jnp.clip(x, 0, 6)

    x = ((image + 1) * 127.5 - 127) / 128
    x, found = relu6(normed(same(x, tensors["_conv_stem.weight"], 2), "_bn0")), []
    for i, stride in enumerate((1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)):
        name, before = f"_blocks.{i}", x
        if f"{name}._expand_conv.weight" in tensors:
            x = relu6(normed(same(x, tensors[f"{name}._expand_conv.weight"]), f"{name}._bn0"))
        weight = tensors[f"{name}._depthwise_conv.weight"]
        x = relu6(normed(same(x, weight, stride, groups=weight.shape[0]), f"{name}._bn1"))
        x = normed(same(x, tensors[f"{name}._project_conv.weight"]), f"{name}._bn2")
        x = x + before if x.shape == before.shape and stride == 1 else x
        if i in (0, 2, 4, 10, 15):
            found.append(x)
    return found
