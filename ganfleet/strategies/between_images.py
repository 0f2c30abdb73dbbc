"""What GANs have in common that make images from images: what they read, their schedule, and no seeds."""

from typing import ClassVar

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from ganfleet import nn
from ganfleet.errors import ConfigError
from ganfleet.size import Resolution
from ganfleet.strategies.base import Betas
from ganfleet.strategies.image_gan import ImageGAN


class BetweenImages(ImageGAN):
    """Base of GANs that translate: they learn from ``image_a`` and ``image_b``, and have ``translations``."""

    class Options(ImageGAN.Options):
        """The learning rate is ``lr`` for ``lr_constant_kimg``, then falls linearly to 0 over ``lr_decay_kimg``."""

        resolution: Resolution = 256
        ngf: PositiveInt = 64
        ndf: PositiveInt = 64
        lr: NonNegativeFloat = 2e-4
        betas: Betas = (0.5, 0.999)
        lr_constant_kimg: NonNegativeFloat = 500.0
        lr_decay_kimg: PositiveFloat = 500.0

    reads: ClassVar[tuple[str, ...]] = ("image_a", "image_b")
    samples_data: ClassVar[bool] = True

    def draw(self, rng, n, clock):
        return {}

    def hyper(self, player, clock):
        options = self.options
        progress = (clock.kimg - options.lr_constant_kimg) / options.lr_decay_kimg
        return {"lr": options.lr * min(1.0, max(0.0, 1.0 - progress))}

    def sample_inputs(self, rng, clock, label=None):
        raise ConfigError(f"{type(self).__name__} makes images from images, not from seeds: use `ganfleet translate`")

    def paths(self):
        return {}


def least_squares(scores, target):
    """E (D − target)², the LSGAN's loss (arXiv:1611.04076)."""
    return nn.mean((scores - target) * (scores - target))
