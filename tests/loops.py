"""Strategies that sample by loops and in chains, small enough to compute again in numpy."""

from typing import ClassVar

import numpy as np
from mindspore import nn as ms_nn
from mindspore import ops
from pydantic import Field

from ganfleet import nn, rng
from ganfleet.strategies.base import Ema, Phase, Player, Strategy, StrategyOptions
from ganfleet.strategies.options import Options as SampleOptions

STEPS = 5
compilations: list[int] = []


@ops.constexpr
def compiled():
    """Runs in Python each time a graph that calls it is compiled, and never when one is run."""
    compilations.append(1)
    return 1.0


class Looped(Strategy):
    """Draws an image by five steps of a network from noise, with noise anew at each step."""

    class Options(StrategyOptions):
        resolution: int = 4

    class SampleOptions(SampleOptions):
        brightness: float = Field(0.0, description="added to the first noise")

    compiled_after_step: ClassVar[list[int]] = []

    def players(self, stage):
        pixels = self.image.channels * stage.resolution**2
        return {"G": Player(ms_nn.SequentialCell(nn.Dense(pixels, pixels)), nn.Adam(1e-3), ema=Ema(decay=0.5))}

    def phases(self, clock):
        return [Phase("G", self.loss)]

    def draw(self, rng, n, clock):
        return {"z": rng.standard_normal((n, 1), dtype=np.float32)}

    def loss(self, nets, real, noise):
        return nets.G(real["image"].reshape(real["image"].shape[0], -1)).mean(), {}

    def sample_inputs(self, rng, clock, label=None):
        return {"seed": rng.integers(2**63, size=1), "x": rng.standard_normal((1, self._pixels), dtype=np.float32)}

    def with_options(self, inputs, options):
        return inputs | {"x": inputs["x"] + np.float32(options.brightness)}

    def sampler(self, graph):
        step = graph(self.step)

        def draw(inputs):
            x = inputs["x"]
            for t in range(STEPS):
                noise = np.concatenate([noise_of(seed, t, self._pixels) for seed in inputs["seed"]])
                x = step({"x": x, "noise": noise, "weight": np.float32(t / STEPS)})["x"]
                self.compiled_after_step.append(len(compilations))
            return x.reshape(len(x), self.image.channels, self.options.resolution, self.options.resolution)

        return draw

    def step(self, nets, inputs):
        return {"x": compiled() * nn.tanh(nets.G(inputs["x"]) + inputs["weight"] * inputs["noise"])}

    @property
    def _pixels(self):
        return self.image.channels * self.options.resolution**2


def noise_of(seed, t, pixels):
    return rng.stream(int(seed), "loop", t).standard_normal((1, pixels), dtype=np.float32)


class Enlarged(Looped):
    """Makes images twice as large as those of another model, with a grain of its own."""

    class Options(StrategyOptions):
        resolution: int = 8

    SampleOptions = SampleOptions

    def from_images(self, images, rng, clock, label=None):
        grain = rng.standard_normal((1, 1, self.options.resolution, self.options.resolution), dtype=np.float32)
        return {"low": images, "grain": grain}

    def with_options(self, inputs, options):
        return inputs

    def sampler(self, graph):
        return graph(self.sample)

    def sample(self, nets, inputs):
        low = inputs["low"]
        n, c, h, w = low.shape
        high = ops.broadcast_to(low.reshape(n, c, h, 1, w, 1), (n, c, h, 2, w, 2)).reshape(n, c, 2 * h, 2 * w)
        grain = nets.G(inputs["grain"].reshape(n, -1)).reshape(high.shape)
        return nn.tanh(high + 0.1 * grain)
