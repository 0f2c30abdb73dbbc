"""Diffusion models that enlarge images of another model: the small image, spoilt a little, stands beside the noise."""

from typing import Annotated

import numpy as np
from mindspore import ops
from pydantic import Field, PositiveInt, model_validator

from ganfleet import nn
from ganfleet import rng as streams
from ganfleet.errors import ConfigError
from ganfleet.size import Size
from ganfleet.strategies.base import StrategyOptions
from ganfleet.strategies.diffusion.strategy import Denoising


class EnlargingOptions(StrategyOptions):
    """``factor`` times larger than the images that it is given, a power of two."""

    factor: Annotated[PositiveInt, Field(gt=1)] = 2

    @model_validator(mode="after")
    def _doubles(self):
        if self.factor & (self.factor - 1):
            raise ValueError(f"factor is {self.factor}, and must be a power of two")
        if any(side % self.factor for side in Size.of(self.resolution)):
            raise ValueError(f"resolution is {self.resolution}, and must be one that factor, {self.factor}, divides")
        return self


class Enlarging(Denoising):
    """What such models share.

    In training the small images are the data's, reduced. They are spoilt as the model before it does: a subclass says
    how in ``spoilt``, and in ``spoiling`` with what. Grids of a run show images of the data that were reduced and
    enlarged again.
    """

    samples_data = True
    any_size = False  # whether images of other sizes than in training can be enlarged

    def __init__(self, options, image, batch_size):
        super().__init__(options, image, batch_size)
        self.doublings = options.factor.bit_length() - 1

    @property
    def small_shape(self) -> tuple[int, int, int]:
        """Of the images that are enlarged."""
        channels, height, width = self.shape
        return channels, height // self.options.factor, width // self.options.factor

    def spoilt(self, inputs):
        """``inputs["small"]`` as the network is shown it, in a graph."""
        raise NotImplementedError

    def spoiling(self, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """What ``spoilt`` needs beside, to draw with small images of ``shape`` (n, channels, h, w)."""
        raise NotImplementedError

    def beside(self, x_t, inputs):
        """``x_t`` and the small image, enlarged, in a graph: (n, 2·channels, h, w)."""
        small = self.spoilt(inputs)
        for _ in range(self.doublings):
            small = nn.upsample(small)
        return ops.concat((x_t, small), 1)

    def reduced(self, image):
        """Images of the data as small as those that are enlarged, in a graph."""
        for _ in range(self.doublings):
            image = nn.downsample(image)
        return image

    # ── Drawing

    def sample_inputs(self, rng, clock, label=None):
        raise ConfigError(
            "this model enlarges images of another one: name the checkpoint of that in --checkpoint, and this one in "
            "--then"
        )

    def from_images(self, images, rng, clock, label=None):
        height, width = (side * self.options.factor for side in images.shape[2:])
        if images.shape[1:] != self.small_shape and not self.any_size:
            raise ConfigError(
                f"this model enlarges images of {Size(*self.small_shape[1:])} pixels, and was given some of "
                f"{Size(*images.shape[2:])}: chain models that go together"
            )
        inputs = super().sample_inputs(rng, clock, label)
        noise = rng.standard_normal((1, images.shape[1], height, width), dtype=np.float32)
        return inputs | self.spoiling(rng, images.shape) | {"small": images.astype(np.float32), "noise": noise}

    def sampler(self, graph):
        draw = super().sampler(graph)
        return lambda inputs: draw(inputs if "small" in inputs else self.from_data(inputs))

    def from_data(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What images of the data are enlarged from again, all with the same random numbers."""
        images, rng = inputs["image"], streams.stream(0, "enlarge")
        n, (channels, height, width) = len(images), self.small_shape
        small = images.reshape(n, channels, height, self.options.factor, width, self.options.factor).mean((3, 5))
        noise = rng.standard_normal((1, *self.shape), dtype=np.float32)
        spoiling = self.spoiling(rng, (1, *self.small_shape))
        return {
            **inputs,
            **{name: np.repeat(each, n, 0) for name, each in spoiling.items()},
            **self.how.as_inputs(),
            "small": small.astype(np.float32),
            "noise": np.repeat(noise, n, 0),
            "seed": np.repeat(rng.integers(2**63, size=1), n),
        }
