"""A strategy of two stages, small enough to compile in seconds, for tests."""

import numpy as np
from mindspore import nn as ms_nn

from ganfleet import nn
from ganfleet.strategies.base import Ema, Phase, Player, Stage, Strategy, StrategyOptions


class Growing(Strategy):
    """D scores images of 4x4, and from ``grows_at`` images on of 8x8 with a network of other shapes."""

    class Options(StrategyOptions):
        resolution: int = 8
        grows_at: int = 16

    def schedule(self):
        size = self.batch_size
        return [Stage(4, size, name="small"), Stage(8, size, starts_at=self.options.grows_at, name="large")]

    def players(self, stage):
        side = stage.resolution
        g = ms_nn.SequentialCell(nn.Dense(2, 3), nn.Dense(3, side * side))
        return {
            "D": Player(nn.Dense(side * side, 1), nn.Adam(0.1)),
            "G": Player(g, nn.Adam(0.1), ema=Ema(decay=0.5)),
        }

    def phases(self, stage):
        return [Phase("D", self.d_loss), Phase("G", self.g_loss)]

    def carry_over(self, name, old, shape):
        return np.resize(old, shape)

    def draw(self, rng, n, clock):
        return {"z": rng.standard_normal((n, 2), dtype="float32")}

    def d_loss(self, nets, real, noise):
        image = real["image"]
        scores = nets.D(image.reshape(image.shape[0], -1)) - nets.D(nets.G(noise["z"]))
        return (scores * scores).mean(), {}

    def g_loss(self, nets, real, noise):
        scores = nets.D(nets.G(noise["z"]))
        return (scores * scores).mean(), {}

    def sample_inputs(self, rng, clock, label=None):
        return {"z": rng.standard_normal((1, 2), dtype="float32")}

    def sample(self, nets, inputs):
        images = nets.G(inputs["z"])
        side = {16: 4, 64: 8}[images.shape[1]]
        return images.reshape(-1, 1, side, side)
