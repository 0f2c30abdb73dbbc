"""The original GAN (arXiv:1406.2661) with multilayer perceptrons: D first, then G, both log losses."""

from itertools import pairwise
from typing import Literal

import numpy as np
from mindspore import nn as ms_nn
from pydantic import NonNegativeFloat, PositiveInt

from ganfleet import nn
from ganfleet.size import Resolution, Size
from ganfleet.strategies.base import Betas, Ema, Phase, Player
from ganfleet.strategies.figure import Interpolate
from ganfleet.strategies.image_gan import ImageGAN


class GAN(ImageGAN):
    """GAN (arXiv:1406.2661): a generator G against a discriminator D, both multilayer perceptrons.

    min over G, max over D of E log D(x) + E log(1 − D(G(z))), or G's non-saturating form E −log D(G(z)).

    Both players' networks give and take images (n, channels, height, width) in [-1, 1]; D gives logits.
    """

    class Options(ImageGAN.Options):
        resolution: Resolution = 32
        loss: Literal["non_saturating", "minimax"] = "non_saturating"
        latent: PositiveInt = 64
        hidden: tuple[PositiveInt, ...] = (256, 512)
        lr: NonNegativeFloat = 2e-4
        betas: Betas = (0.5, 0.999)
        ema_kimg: NonNegativeFloat | None = None

    def networks(self) -> tuple[ms_nn.Cell, ms_nn.Cell]:
        """G and D."""
        shape = (self.image.channels, *Size.of(self.options.resolution))
        hidden = self.options.hidden
        return MLPGenerator(self.options.latent, hidden, shape), MLPDiscriminator(shape, hidden[::-1])

    def players(self, stage):
        g, d = self.networks()
        ema = Ema(half_life_kimg=self.options.ema_kimg) if self.options.ema_kimg else None
        return {
            "D": Player(d, nn.Adam(self.options.lr, self.options.betas)),
            "G": Player(g, nn.Adam(self.options.lr, self.options.betas), ema=ema),
        }

    def phases(self, stage):
        g_loss = self.minimax_g_loss if self.options.loss == "minimax" else self.non_saturating_g_loss
        return [Phase("D", self.d_loss), Phase("G", g_loss)]

    def draw(self, rng, n, clock):
        return {"z": rng.standard_normal((n, self.options.latent), dtype=np.float32)}

    def figures(self):
        return {"interpolate": Interpolate()}

    def d_loss(self, nets, real, noise):
        real_logit, fake_logit = self.real_logit(nets, real, noise), self.fake_logit(nets, noise)
        stats = {"scores/real": nn.mean(real_logit), "scores/fake": nn.mean(fake_logit)}
        return nn.discriminator_loss(real_logit, fake_logit), self.adapted(nets, real_logit, stats)

    def non_saturating_g_loss(self, nets, real, noise):
        return nn.nonsaturating_generator_loss(self.fake_logit(nets, noise)), {}

    def minimax_g_loss(self, nets, real, noise):
        return nn.minimax_generator_loss(self.fake_logit(nets, noise)), {}

    def real_logit(self, nets, real, noise):
        return nets.D(self.augmented(nets, real["image"], noise, "D/real"))

    def fake_logit(self, nets, noise):
        return nets.D(self.augmented(nets, nets.G(noise["z"]), noise, "D/fake"))


class MLPGenerator(ms_nn.Cell):
    """Latents (n, latent) → images (n, *shape) in [-1, 1]."""

    def __init__(self, latent: int, hidden: tuple[int, ...], shape: tuple[int, int, int]):
        super().__init__()
        self.shape = shape
        sizes = [latent, *hidden]
        self.layers = ms_nn.CellList([nn.Dense(a, b) for a, b in pairwise(sizes)])
        self.last = nn.Dense(sizes[-1], int(np.prod(shape)))

    def construct(self, z):
        x = z
        for layer in self.layers:
            x = nn.leaky_relu(layer(x))
        return nn.tanh(self.last(x)).reshape(z.shape[0], *self.shape)


class MLPDiscriminator(ms_nn.Cell):
    """Images (n, *shape) → logits (n, 1)."""

    def __init__(self, shape: tuple[int, int, int], hidden: tuple[int, ...]):
        super().__init__()
        sizes = [int(np.prod(shape)), *hidden]
        self.layers = ms_nn.CellList([nn.Dense(a, b) for a, b in pairwise(sizes)])
        self.last = nn.Dense(sizes[-1], 1)

    def construct(self, image):
        x = image.reshape(image.shape[0], -1)
        for layer in self.layers:
            x = nn.leaky_relu(layer(x))
        return self.last(x)

    def path(self):
        return [(layer,) for layer in (*self.layers, self.last)]
