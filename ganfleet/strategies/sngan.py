"""SNGAN (arXiv:1802.05957): a discriminator of bounded slope by spectral normalisation, and the hinge loss.

Written with nothing but what a strategy of another package has, too.
"""

import math
from itertools import pairwise
from typing import Literal

import numpy as np
from mindspore import nn as ms_nn
from mindspore import ops
from pydantic import NonNegativeFloat, PositiveInt, field_validator

from ganfleet import nn
from ganfleet.size import Resolution, Size
from ganfleet.strategies.base import Betas, Ema, Phase, Player
from ganfleet.strategies.figure import Interpolate
from ganfleet.strategies.image_gan import ImageGAN

INIT = nn.Normal(0.02)
SLOPE = 0.1  # of D's leaky ReLU, in the paper's table 3


class SNGAN(ImageGAN):
    """SNGAN (arXiv:1802.05957): a discriminator of bounded slope, by spectral normalisation, and the hinge loss.

    min over G of −E D(G(z)), and over D of E max(0, 1 − D(x)) + E max(0, 1 + D(G(z))).

    Every layer of D is divided by its largest singular value, so D's slope has a bound. The architectures are the
    paper's for 32x32: "cnn" of its table 3, "resnet" of its table 4. D's u moves once per update of D.
    """

    class Options(ImageGAN.Options):
        """``ngf`` and ``ndf`` are the fewest channels in G and D; None for the paper's."""

        resolution: Resolution = 32
        architecture: Literal["cnn", "resnet"] = "cnn"
        latent: PositiveInt = 128
        ngf: PositiveInt | None = None
        ndf: PositiveInt | None = None
        lr: NonNegativeFloat = 2e-4
        betas: Betas = (0.0, 0.9)
        critic_steps: PositiveInt = 5
        ema_kimg: NonNegativeFloat | None = None

        @field_validator("resolution")
        @classmethod
        def _multiple_of_eight(cls, resolution):
            if any(side < 16 or side % 8 for side in Size.of(resolution)):
                raise ValueError("must be a multiple of 8, 16 or more")
            return resolution

    def players(self, stage):
        options, channels = self.options, self.image.channels
        start = Size(*(side // 8 for side in Size.of(options.resolution)))
        if options.architecture == "cnn":
            g = Generator(options.latent, options.ngf or 64, channels, start)
            d = Discriminator(options.ndf or 64, channels, start)
        else:
            g = ResNetGenerator(options.latent, options.ngf or 256, channels, start)
            d = ResNetDiscriminator(options.ndf or 128, channels)
        ema = Ema(half_life_kimg=options.ema_kimg) if options.ema_kimg else None
        return {
            "D": Player(d, nn.Adam(options.lr, options.betas)),
            "G": Player(g, nn.Adam(options.lr, options.betas), ema=ema),
        }

    def phases(self, stage):
        return [Phase("D", self.d_loss), Phase("G", self.g_loss, every=self.options.critic_steps)]

    def draw(self, rng, n, clock):
        return {"z": rng.standard_normal((n, self.options.latent), dtype=np.float32)}

    def d_loss(self, nets, real, noise):
        real_scores = nets.D(self.augmented(nets, real["image"], noise, "D/real"))
        fake_scores = self.fake_scores(nets, noise)
        stats = {"scores/real": nn.mean(real_scores), "scores/fake": nn.mean(fake_scores)}
        return nn.hinge_discriminator_loss(real_scores, fake_scores), self.adapted(nets, real_scores, stats)

    def g_loss(self, nets, real, noise):
        return nn.hinge_generator_loss(self.fake_scores(nets, noise)), {}

    def fake_scores(self, nets, noise):
        return nets.D(self.augmented(nets, nets.G(noise["z"]), noise, "D/fake"))

    def figures(self):
        return {"interpolate": Interpolate()}


class Generator(ms_nn.Cell):
    """Latents (n, latent) → images (n, channels, 8h, 8w) in [-1, 1].

    The first layer has batch norm and ReLU as in the authors' code; table 3 does not show them.
    """

    def __init__(self, latent: int, ngf: int, channels: int, start: Size):
        super().__init__()
        self.start = tuple(start)
        widths = [8 * ngf, 4 * ngf, 2 * ngf, ngf]
        self.first = nn.Dense(latent, widths[0] * math.prod(start), init=INIT)
        self.convs = ms_nn.CellList(
            [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False, init=INIT) for a, b in pairwise(widths)]
        )
        self.norms = ms_nn.CellList([nn.BatchNorm(width) for width in widths])
        self.last = nn.Conv2d(ngf, channels, 3, 1, 1, init=INIT)

    def construct(self, z):
        x = self.first(z).reshape(z.shape[0], -1, *self.start)
        x = ops.relu(self.norms[0](x))
        for i in range(len(self.convs)):
            x = ops.relu(self.norms[i + 1](self.convs[i](x)))
        return nn.tanh(self.last(x))


class Discriminator(ms_nn.Cell):
    """Images (n, channels, 8h, 8w) → scores (n, 1)."""

    def __init__(self, ndf: int, channels: int, start: Size):
        super().__init__()
        convs, width = [], channels
        for after in (ndf, 2 * ndf, 4 * ndf):
            convs += [nn.SpectralConv2d(width, after, 3, 1, 1, init=INIT)]
            convs += [nn.SpectralConv2d(after, after, 4, 2, 1, init=INIT)]
            width = after
        self.convs = ms_nn.CellList([*convs, nn.SpectralConv2d(width, 8 * ndf, 3, 1, 1, init=INIT)])
        self.last = nn.SpectralDense(8 * ndf * math.prod(start), 1, init=INIT)

    def construct(self, image):
        x = image
        for conv in self.convs:
            x = nn.leaky_relu(conv(x), SLOPE)
        return self.last(x.reshape(image.shape[0], -1))

    def path(self):
        return [(layer,) for layer in (*self.convs, self.last)]


class ResNetGenerator(ms_nn.Cell):
    """Latents (n, latent) → images (n, channels, 8h, 8w) in [-1, 1]; every layer is ``width`` wide."""

    def __init__(self, latent: int, width: int, channels: int, start: Size):
        super().__init__()
        self.start = (width, *start)
        features = width * math.prod(start)
        self.first = nn.Dense(latent, features, init=glorot(latent, features))
        self.blocks = ms_nn.CellList([UpBlock(width) for _ in range(3)])
        self.norm = nn.BatchNorm(width)
        self.last = nn.Conv2d(width, channels, 3, 1, 1, init=glorot(9 * width, 9 * channels))

    def construct(self, z):
        x = self.first(z).reshape(z.shape[0], *self.start)
        for block in self.blocks:
            x = block(x)
        return nn.tanh(self.last(ops.relu(self.norm(x))))


class UpBlock(ms_nn.Cell):
    """(n, width, h, w) → (n, width, 2h, 2w): two convolutions behind batch norm, beside one of 1x1."""

    def __init__(self, width: int):
        super().__init__()
        init = glorot(9 * width, 9 * width, math.sqrt(2))
        self.norm1, self.norm2 = nn.BatchNorm(width), nn.BatchNorm(width)
        self.conv1 = nn.Conv2d(width, width, 3, 1, 1, init=init)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, init=init)
        self.shortcut = nn.Conv2d(width, width, 1, init=glorot(width, width))

    def construct(self, x):
        y = self.conv1(nn.upsample(ops.relu(self.norm1(x))))
        y = self.conv2(ops.relu(self.norm2(y)))
        return y + self.shortcut(nn.upsample(x))


class ResNetDiscriminator(ms_nn.Cell):
    """Images (n, channels, h, w), h and w multiples of 4 → scores (n, 1)."""

    def __init__(self, width: int, channels: int):
        super().__init__()
        self.blocks = ms_nn.CellList(
            [
                DownBlock(channels, width, down=True, first=True),
                DownBlock(width, width, down=True),
                DownBlock(width, width, down=False),
                DownBlock(width, width, down=False),
            ]
        )
        self.last = nn.SpectralDense(width, 1, init=glorot(width, 1))

    def construct(self, image):
        x = image
        for block in self.blocks:
            x = block(x)
        return self.last(ops.relu(x).sum((2, 3)))

    def path(self):
        """Its blocks, and the last layer."""
        return [(layer,) for layer in (*self.blocks, self.last)]


class DownBlock(ms_nn.Cell):
    """(n, width, h, w) → (n, after, h/2, w/2), or (n, after, h, w): two convolutions, beside the input or one of 1x1.

    The ``first`` has an image for input: no ReLU before its convolutions, and its shortcut is reduced first, which is
    the same and cheaper.
    """

    def __init__(self, width: int, after: int, down: bool, first: bool = False):
        super().__init__()
        self.down, self.first = down, first
        self.conv1 = nn.SpectralConv2d(width, after, 3, 1, 1, init=glorot(9 * width, 9 * after, math.sqrt(2)))
        self.conv2 = nn.SpectralConv2d(after, after, 3, 1, 1, init=glorot(9 * after, 9 * after, math.sqrt(2)))
        self.shortcut = nn.SpectralConv2d(width, after, 1, init=glorot(width, after)) if down else None

    def construct(self, x):
        y = self.conv1(x if self.first else ops.relu(x))
        y = self.conv2(ops.relu(y))
        if not self.down:
            return y + x
        return nn.downsample(y) + self.shortcut(nn.downsample(x))


def glorot(fan_in: int, fan_out: int, gain: float = 1.0) -> nn.Uniform:
    """U(±gain·√(6 / (fan_in + fan_out))), Glorot's uniform init."""
    return nn.Uniform(gain * math.sqrt(6 / (fan_in + fan_out)))
