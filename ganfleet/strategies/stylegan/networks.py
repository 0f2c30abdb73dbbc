"""The networks of StyleGAN (arXiv:1812.04948) and ProGAN (arXiv:1710.10196) for one resolution of their growth.

Everything that belongs to a resolution stands in a list that starts at 4x4, and for images of 32x48 at 4x6. So a
parameter has the same name in every network that has it, and a grown network finds its old weights by name. Images are
(n, channels, height, width) and ``label`` is (n,), integers below ``classes``.

With ``fade`` the newest resolution is blended in with the one below, with weight ``alpha``, a tensor () in [0, 1]: at 0
the network is exactly the old one (its image enlarged, its image to be judged reduced), at 1 exactly the new one.
Converters to and from RGB that a stage does not use are there, but not trainable.
"""

import math
import re
from itertools import pairwise

from mindspore import nn as ms_nn
from mindspore import ops

from ganfleet import nn
from ganfleet.nn import forms
from ganfleet.size import SMALLEST, Size
from ganfleet.strategies.doubling import doublings


def all_feature_maps(resolution, base, maximum):
    """Channels of the layers at each resolution up to this one, as if growth had started at 4x4."""
    return [feature_maps(SMALLEST << times, base, maximum) for times in range(len(doublings(resolution)))]


def feature_maps(resolution, base=8192, maximum=512):
    """Channels of the layers at ``resolution``: base / 2^(log2(resolution) − 1), 1 at least and ``maximum`` at most."""
    return max(1, min(2 * base // resolution, maximum))


class Generator(ms_nn.Cell):
    """StyleGAN's: ``mapping`` from latents to w, and ``synthesis`` from a w for each of ``layers`` layers to images.

    ``w_avg`` (latent,) is the mean w, the centre of truncation; the weight of its old value is ``w_avg_beta``.
    """

    def __init__(
        self,
        resolution,
        channels,
        fade,
        *,
        base=8192,
        maximum=512,
        latent=512,
        mapping_layers=8,
        mapping_lr=0.01,
        w_avg_beta=0.995,
        classes=0,
    ):
        super().__init__()
        self.mapping = Mapping(latent, mapping_layers, mapping_lr, classes)
        self.synthesis = Synthesis(resolution, channels, fade, base, maximum, latent)
        self.layers = len(self.synthesis.layers)
        self.w_avg = nn.Buffer((latent,), move=TowardsOld(w_avg_beta))


class TowardsOld(ms_nn.Cell):
    """The mean of now, moved towards the old value by ``beta`` of the way, as the original computes it."""

    def __init__(self, beta):
        super().__init__()
        self.beta = beta

    def construct(self, old, mean):
        return mean + (old - mean) * self.beta


class Mapping(ms_nn.Cell):
    """Latents (n, latent), and labels where there are classes → w (n, latent). ``lr`` is relative to other layers'."""

    def __init__(self, latent, layers, lr, classes):
        super().__init__()
        self.embedding = nn.Embedding(classes, latent) if classes else None
        widths = [2 * latent if classes else latent] + layers * [latent]
        self.dense = ms_nn.CellList([nn.EqualizedDense(a, b, lr_multiplier=lr) for a, b in pairwise(widths)])

    def construct(self, z, label=None):
        if self.embedding is not None:
            z = ops.concat((z, self.embedding(label)), 1)
        x = nn.pixel_norm(z)
        for dense in self.dense:
            x = nn.leaky_relu(dense(x))
        return x


class Synthesis(ms_nn.Cell):
    """styles (n, layers, latent) and noise → images.

    ``noise`` has "noise0", "noise1" … for every layer: (n, 1, h, w) at the layer's resolution, 4x4, 4x4, 8x8 …
    """

    def __init__(self, resolution, channels, fade, base, maximum, latent):
        super().__init__()
        maps = all_feature_maps(resolution, base, maximum)
        layers = [ConstantLayer(maps[0], latent, start_of(resolution)), StyledConv(maps[0], maps[0], latent)]
        for below, here in pairwise(maps):
            layers += [StyledConv(below, here, latent, resample="up"), StyledConv(here, here, latent)]
        self.layers = ms_nn.CellList(layers)
        self.noise_names = tuple(f"noise{i}" for i in range(len(layers)))
        self.to_rgb = RGBHeads(maps, channels, fade)

    def construct(self, styles, noise, alpha):
        x, below = None, None
        for i in range(len(self.layers)):
            if i % 2 == 0:
                below = x
            x = self.layers[i](x, styles[:, i], noise[self.noise_names[i]])
        return self.to_rgb(x, below, alpha)


class StyledConv(ms_nn.Cell):
    """Convolution, noise, bias, leaky ReLU, instance norm, style; blurred after enlarging."""

    def __init__(self, in_channels, out_channels, latent, resample=None):
        super().__init__()
        self.conv = nn.EqualizedConv2d(in_channels, out_channels, 3, resample=resample, bias=False)
        self.blurred = resample == "up"
        self.epilogue = Epilogue(out_channels, latent)

    def construct(self, x, w, noise):
        x = self.conv(x)
        if self.blurred:
            x = nn.blur(x)
        return self.epilogue(x, w, noise)


class ConstantLayer(ms_nn.Cell):
    """A learned constant of the size ``start``, at first ones, in place of a convolution."""

    def __init__(self, channels, latent, start):
        super().__init__()
        self.constant = nn.parameter("constant", (1, channels, *start), nn.Constant(1.0))
        self.epilogue = Epilogue(channels, latent)

    def construct(self, x, w, noise):
        constant = ops.broadcast_to(self.constant, (w.shape[0], *self.constant.shape[1:]))
        return self.epilogue(constant, w, noise)


class Epilogue(ms_nn.Cell):
    """Noise with a learned strength per channel, at first 0, then bias, leaky ReLU, instance norm and style (AdaIN)."""

    def __init__(self, channels, latent):
        super().__init__()
        self.strength = nn.parameter("strength", (channels,), nn.Constant(0.0))
        self.bias = nn.parameter("bias", (channels,), nn.Constant(0.0))
        self.style = nn.EqualizedDense(latent, 2 * channels, gain=1)
        self.norm = nn.InstanceNorm(1e-8)

    def construct(self, x, w, noise):
        # Noise and bias come as one 1x1 convolution, of (noise, 1): a CPU sums its gradient faster than a product's.
        # Not ops.stack of two parameters: the time to compile that is 4 to the power of the number of layers.
        strength_and_bias = ops.concat((self.strength.reshape(-1, 1, 1, 1), self.bias.reshape(-1, 1, 1, 1)), 1)
        x = x + forms.conv2d(ops.concat((noise, ops.ones_like(noise)), 1), strength_and_bias)
        gain, bias = ops.split(self.style(w), x.shape[1], 1)
        return self.norm(nn.leaky_relu(x), gain + 1, bias)


class RGBHeads(ms_nn.Cell):
    """A 1x1 convolution to an image for every resolution; of these the last is used, in a fade the last two."""

    def __init__(self, maps, channels, fade):
        super().__init__()
        self.convs = ms_nn.CellList([nn.EqualizedConv2d(here, channels, 1, gain=1) for here in maps])
        self.fade = fade
        freeze(list(self.convs)[: -2 if fade else -1])

    def construct(self, x, below, alpha):
        image = self.convs[-1](x)
        if self.fade:
            image = blend(nn.upsample(self.convs[-2](below)), image, alpha)
        return image


class Discriminator(ms_nn.Cell):
    """Images → scores (n,), with classes the score of the label's class. ``blur`` is StyleGAN's, ProGAN has none.

    ``group`` is that of the minibatch standard deviation.
    """

    def __init__(self, resolution, channels, fade, *, base=8192, maximum=512, group=4, classes=0, blur=True):
        super().__init__()
        maps = all_feature_maps(resolution, base, maximum)
        self.from_rgb = ms_nn.CellList([nn.EqualizedConv2d(channels, here, 1) for here in maps])
        judge = Judge(maps[0], feature_maps(2, base, maximum), group, classes, start_of(resolution))
        reductions = [Reduction(here, below, blur) for below, here in pairwise(maps)]
        self.blocks = ms_nn.CellList([judge, *reductions])
        self.fade = fade
        freeze(list(self.from_rgb)[: -2 if fade else -1])

    def construct(self, image, alpha, label=None):
        last = len(self.blocks) - 1
        x = nn.leaky_relu(self.from_rgb[last](image))
        for i in range(last, 0, -1):
            x = self.blocks[i](x)
            if self.fade and i == last:
                old = nn.leaky_relu(self.from_rgb[last - 1](nn.downsample(image)))
                x = blend(old, x, alpha)
        return self.blocks[0](x, label)

    def path(self):
        judge, *reductions = self.blocks
        blocks = [(each.conv, each.down) for each in reversed(reductions)] + [(judge.conv, judge.dense, judge.last)]
        return [(self.from_rgb[-1],), *((layer,) for block in blocks for layer in block)]


class Reduction(ms_nn.Cell):
    """(n, in, h, w) → (n, out, h/2, w/2): a convolution, then a blur and a convolution that halves."""

    def __init__(self, in_channels, out_channels, blur):
        super().__init__()
        self.conv = nn.EqualizedConv2d(in_channels, in_channels, 3)
        self.down = nn.EqualizedConv2d(in_channels, out_channels, 3, resample="down")
        self.blur = blur

    def construct(self, x):
        x = nn.leaky_relu(self.conv(x))
        if self.blur:
            x = nn.blur(x)
        return nn.leaky_relu(self.down(x))


class Judge(ms_nn.Cell):
    """(n, in, h, w) → scores (n,); h and w are those of ``start``."""

    def __init__(self, in_channels, features, group, classes, start):
        super().__init__()
        self.group, self.classes = group, classes
        self.conv = nn.EqualizedConv2d(in_channels + 1, in_channels, 3)
        self.dense = nn.EqualizedDense(math.prod(start) * in_channels, features)
        self.last = nn.EqualizedDense(features, max(classes, 1), gain=1)

    def construct(self, x, label):
        x = nn.leaky_relu(self.conv(nn.minibatch_stddev(x, self.group)))
        x = nn.leaky_relu(self.dense(x.reshape(x.shape[0], -1)))
        scores = self.last(x)
        if self.classes:
            scores = scores * nn.one_hot(label, self.classes)
        return scores.sum(1)


class ProGenerator(ms_nn.Cell):
    """ProGAN's: latents (n, latent), and labels where there are classes → images."""

    def __init__(self, resolution, channels, fade, *, base=8192, maximum=512, latent=512, classes=0):
        super().__init__()
        maps = all_feature_maps(resolution, base, maximum)
        self.classes, self.start = classes, tuple(start_of(resolution))
        features = math.prod(self.start) * maps[0]
        self.dense = nn.EqualizedDense(latent + classes, features, gain=math.sqrt(2) / 4, bias=False)
        self.bias = nn.parameter("bias", (maps[0],), nn.Constant(0.0))
        convs = [NormedConv(maps[0], maps[0])]
        for below, here in pairwise(maps):
            convs += [NormedConv(below, here, resample="up"), NormedConv(here, here)]
        self.convs = ms_nn.CellList(convs)
        self.to_rgb = RGBHeads(maps, channels, fade)

    def construct(self, z, alpha, label=None):
        if self.classes:
            z = ops.concat((z, nn.one_hot(label, self.classes)), 1)
        x = self.dense(nn.pixel_norm(z)).reshape(z.shape[0], -1, *self.start)
        x, below = nn.pixel_norm(nn.leaky_relu(forms.bias_add(x, self.bias))), None
        for i in range(len(self.convs)):
            if i % 2 == 1:
                below = x
            x = self.convs[i](x)
        return self.to_rgb(x, below, alpha)


class NormedConv(ms_nn.Cell):
    """Convolution, leaky ReLU, pixel norm."""

    def __init__(self, in_channels, out_channels, resample=None):
        super().__init__()
        self.conv = nn.EqualizedConv2d(in_channels, out_channels, 3, resample=resample)

    def construct(self, x):
        return nn.pixel_norm(nn.leaky_relu(self.conv(x)))


def height_of(name, resolution):
    """The height of the layer of G, or of its converter to RGB, that has the weight ``name``; None for others."""
    heights = [Size.of(each).height for each in doublings(resolution)]
    layer = re.match(r"G\.(synthesis\.layers|convs|dense|bias|(?:synthesis\.)?to_rgb\.convs)\b\.?(\d*)", name)
    if layer is None:
        return None
    kind, number = layer[1], int(layer[2] or 0)
    if kind == "synthesis.layers":
        return heights[number // 2]
    if kind == "convs":  # ProGAN's first stands behind a dense layer
        return heights[(number + 1) // 2]
    return heights[number]


def start_of(resolution):
    """The size at which the networks begin: 4x4, and of 32x48 4x6."""
    return Size.of(doublings(resolution)[0])


def freeze(cells):
    for cell in cells:
        for parameter in cell.get_parameters():
            parameter.requires_grad = False


def blend(old, new, alpha):
    """Exactly ``old`` at alpha 0 and ``new`` at 1."""
    return (1 - alpha) * old + alpha * new
