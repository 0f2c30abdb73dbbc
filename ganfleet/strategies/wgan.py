"""Wasserstein GANs: a critic instead of a discriminator, kept Lipschitz by clipping or by a gradient penalty."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from mindspore import nn as ms_nn
from mindspore import ops
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from ganfleet import nn
from ganfleet.size import Resolution, Size
from ganfleet.strategies.architecture import ArchitectureOptions, generator
from ganfleet.strategies.base import Betas, Phase, Player
from ganfleet.strategies.dcgan import CONV_INIT, layer_widths
from ganfleet.strategies.doubling import doublings
from ganfleet.strategies.figure import Interpolate
from ganfleet.strategies.gan import MLPDiscriminator
from ganfleet.strategies.image_gan import ImageGAN

WARMUP_ROUNDS, LONG_EVERY = 25, 500  # of WassersteinGAN/main.py


class Wasserstein(ImageGAN):
    """min over G, max over D of E D(x) − E D(G(z)) over critics D of bounded slope: no sigmoid, no log.

    That difference, ``wasserstein`` in the log, estimates K·W(p_data, p_g), K being the bound of the slopes.
    The critic has no batch norm: the bound is one on a function of one image, and so must the critic be.
    """

    scores_have_signs = False

    class Options(ArchitectureOptions, ImageGAN.Options):
        resolution: Resolution = 64
        critic: Literal["conv", "mlp"] | None = None  # None: as the generator's architecture
        critic_steps: PositiveInt = 5

        def without_effect(self):
            return self._unread(self.architecture, self.critic or self.architecture)

    def critic(self) -> ms_nn.Cell:
        """Images (n, channels, height, width) → scores (n, 1)."""
        options, channels = self.options, self.image.channels
        if (options.critic or options.architecture) == "mlp":
            return MLPDiscriminator((channels, *Size.of(options.resolution)), options.hidden[::-1])
        return ConvCritic(options.ndf, channels, options.resolution)

    def generator(self) -> ms_nn.Cell:
        return generator(self.options, self.options.latent, self.image.channels)

    def phases(self, stage):
        return [Phase("D", self.d_loss), Phase("G", self.g_loss, every=self.options.critic_steps)]

    def draw(self, rng, n, clock):
        return {"z": rng.standard_normal((n, self.options.latent), dtype=np.float32)}

    def figures(self):
        return {"interpolate": Interpolate()}

    def d_loss(self, nets, real, noise):
        image, fake = self.shown(nets, real, noise)
        return critic_loss(nets.D(image), nets.D(fake))

    def g_loss(self, nets, real, noise):
        return -nn.mean(nets.D(self.augmented(nets, nets.G(noise["z"]), noise, "D/fake"))), {}

    def shown(self, nets, real, noise):
        """Real images and fakes as the critic is to see them."""
        fake = self.augmented(nets, nets.G(noise["z"]), noise, "D/fake")
        return self.augmented(nets, real["image"], noise, "D/real"), fake


def critic_loss(real_scores, fake_scores):
    """−(E D(x) − E D(G(z))), and the stats of a critic."""
    real, fake = nn.mean(real_scores), nn.mean(fake_scores)
    return fake - real, {"wasserstein": real - fake, "scores/real": real, "scores/fake": fake}


class WGAN(Wasserstein):
    """WGAN (arXiv:1701.07875): the critic's weights are clipped to ±clip, at first and after every update.

    Neither optimizer has momentum. G waits for ``critic_steps`` steps of the critic; in its first 25 rounds, and then
    in every 500th, for ``long_critic_steps``.
    """

    class Options(Wasserstein.Options):
        optimizer: Literal["rmsprop", "sgd"] = "rmsprop"
        lr: NonNegativeFloat = 5e-5
        clip: PositiveFloat = 0.01
        long_critic_steps: PositiveInt = 100

    def players(self, stage):
        critic = self.critic()
        for parameter in critic.get_parameters():
            parameter.initial = Clipped(parameter.initial, self.options.clip)
        optimizer = {"rmsprop": nn.RMSProp, "sgd": nn.SGD}[self.options.optimizer](self.options.lr)
        return {"D": Player(critic, optimizer, after_update=self.clipped), "G": Player(self.generator(), optimizer)}

    def clipped(self, weights):
        return ops.clamp(weights, -self.options.clip, self.options.clip)

    def phases(self, stage):
        return [Phase("D", self.d_loss), Phase("G", self.g_loss, due=self.generator_due)]

    def generator_due(self, clock) -> bool:
        return generator_due(clock.step, self.options.critic_steps, self.options.long_critic_steps)


class WGANGP(Wasserstein):
    """WGAN-GP (arXiv:1704.00028): the critic's slope is drawn to 1 at points between real and fake images, as it sees
    them: where they are augmented, between augmented ones.
    """

    class Options(Wasserstein.Options):
        lr: NonNegativeFloat = 1e-4
        betas: Betas = (0.0, 0.9)
        penalty: NonNegativeFloat = 10.0

    def players(self, stage):
        optimizer = nn.Adam(self.options.lr, self.options.betas)
        return {"D": Player(self.critic(), optimizer), "G": Player(self.generator(), optimizer)}

    def draw(self, rng, n, clock):
        return super().draw(rng, n, clock) | {"u": rng.random((n, 1, 1, 1), dtype=np.float32)}

    def d_loss(self, nets, real, noise):
        image, fake = self.shown(nets, real, noise)
        loss, stats = critic_loss(nets.D(image), nets.D(fake))
        penalty = nn.gradient_penalty(nets.D, image, fake, noise["u"])
        stats["gradient_penalty"] = penalty
        return loss + self.options.penalty * penalty, stats


def generator_due(step: int, critic_steps: int = 5, long_critic_steps: int = 100) -> bool:
    """Whether ``step``, counted from 0, is the critic's last before an update of G.

    A round is some critic steps and one of G: ``long_critic_steps`` in the first 25 rounds and in rounds 500, 1000, …,
    ``critic_steps`` in all others (martinarjovsky/WassersteinGAN, main.py, with data that never end).
    """
    done, extra = step + 1, long_critic_steps - critic_steps
    if done <= WARMUP_ROUNDS * long_critic_steps:
        return done % long_critic_steps == 0
    done -= (WARMUP_ROUNDS - 1) * extra  # as if of these only round 0 had been long, as of each later 500
    in_cycle = (done - 1) % (LONG_EVERY * critic_steps + extra) + 1
    return in_cycle >= long_critic_steps and (in_cycle - long_critic_steps) % critic_steps == 0


@dataclass(frozen=True)
class Clipped:
    """What ``init`` gives, clipped to ±``bound``."""

    init: Callable
    bound: float

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.clip(self.init(rng, shape), -self.bound, self.bound, dtype=np.float32)


class ConvCritic(ms_nn.Cell):
    """Images (n, channels, height, width) → scores (n, 1): DCGAN's D with biases instead of batch norm."""

    def __init__(self, ndf: int, channels: int, resolution: int | Size):
        super().__init__()
        start = Size.of(doublings(resolution)[0])
        widths = [channels, *layer_widths(ndf, resolution)]
        self.convs = ms_nn.CellList([nn.Conv2d(a, b, 4, 2, 1, init=CONV_INIT) for a, b in pairwise(widths)])
        self.last = nn.Conv2d(widths[-1], 1, start, 1, 0, bias=False, init=CONV_INIT)

    def construct(self, image):
        x = image
        for conv in self.convs:
            x = nn.leaky_relu(conv(x))
        return self.last(x).reshape(image.shape[0], 1)

    def path(self):
        return [(layer,) for layer in (*self.convs, self.last)]
