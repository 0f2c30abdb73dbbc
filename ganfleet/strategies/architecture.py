"""MLP or convolutions: the choice that strategies offer whose idea is the same for both."""

from typing import Literal

from mindspore import nn as ms_nn
from pydantic import Field, PositiveInt, field_validator

from ganfleet.size import Resolution, Size
from ganfleet.strategies.base import StrategyOptions
from ganfleet.strategies.dcgan import DCGenerator
from ganfleet.strategies.doubling import needed
from ganfleet.strategies.gan import MLPGenerator


class ArchitectureOptions(StrategyOptions):
    """``hidden`` are the layers of an MLP, from the latents up; ``ngf`` and ``ndf`` the channels of convolutions."""

    resolution: Resolution = 32
    architecture: Literal["conv", "mlp"] = Field("conv", validate_default=True)
    latent: PositiveInt = 100
    hidden: tuple[PositiveInt, ...] = (256, 512)
    ngf: PositiveInt = 64
    ndf: PositiveInt = 64

    @field_validator("architecture")
    @classmethod
    def _fits_the_resolution(cls, architecture, info):
        resolution = info.data.get("resolution", 8)  # missing where it is wrong in itself
        wanted = needed(resolution, times=1) if architecture == "conv" else None
        if wanted:
            raise ValueError(f"conv needs a resolution that is {wanted}, not {resolution}")
        return architecture

    def without_effect(self):
        return self._unread(self.architecture, self.architecture)

    @staticmethod
    def _unread(generator: str, discriminator: str) -> set[str]:
        """What networks of these kinds do not read."""
        kinds = {
            "ngf": generator == "conv",
            "ndf": discriminator == "conv",
            "hidden": "mlp" in (generator, discriminator),
        }
        return {option for option, is_read in kinds.items() if not is_read}


def generator(options: ArchitectureOptions, inputs: int, channels: int) -> ms_nn.Cell:
    """(n, inputs) → images (n, channels, height, width) in [-1, 1]."""
    if options.architecture == "mlp":
        return MLPGenerator(inputs, options.hidden, (channels, *Size.of(options.resolution)))
    return DCGenerator(inputs, options.ngf, channels, options.resolution)
