"""The smallest strategy that trains."""

import mindspore as ms
from mindspore import nn as ms_nn
from mindspore import ops

from ganfleet import nn
from ganfleet.strategies.base import Phase, Player, Strategy, StrategyOptions


class OneNumber(Strategy):
    """D learns the brightness of the images: the smallest thing that trains, with draws that matter."""

    class Options(StrategyOptions):
        resolution: int = 4
        lr: float = 0.1

    def players(self, stage):
        return {"D": Player(ms_nn.SequentialCell(nn.Dense(stage.resolution**2, 1)), nn.SGD(self.options.lr))}

    def phases(self, stage):
        return [Phase("D", self.loss)]

    def draw(self, rng, n, clock):
        return {"wanted": rng.standard_normal((n, 1))}

    def loss(self, nets, real, noise):
        image = real["image"]
        error = nets.D(image.reshape(image.shape[0], -1)) - noise["wanted"]
        return (error * error).mean(), {}

    def sample(self, nets, noise):
        return ops.zeros((noise["wanted"].shape[0], 1, 4, 4), ms.float32) + noise["wanted"].reshape(-1, 1, 1, 1)
