"""A strategy with an option of its own."""

import numpy as np
from mindspore import nn as ms_nn

from ganfleet import nn
from ganfleet.strategies.base import Phase, Player, Strategy, StrategyOptions


class Shade(Strategy):
    """G alone learns the mean image: of noise it makes what is nearest to all images."""

    class Options(StrategyOptions):
        lr: float = 0.1

    def players(self, stage):
        pixels = self.image.channels * stage.resolution**2
        return {"G": Player(ms_nn.SequentialCell(nn.Dense(1, pixels)), nn.SGD(self.options.lr))}

    def phases(self, stage):
        return [Phase("G", self.loss)]

    def draw(self, rng, n, clock):
        return {"z": rng.standard_normal((n, 1), dtype=np.float32)}

    def loss(self, nets, real, noise):
        made = nets.G(noise["z"])
        return ((made - real["image"].reshape(made.shape)) ** 2).mean(), {}

    def sample(self, nets, inputs):
        side = self.options.resolution
        return nets.G(inputs["z"]).reshape(-1, self.image.channels, side, side)
