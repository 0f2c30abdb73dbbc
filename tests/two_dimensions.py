"""A diffusion whose images are points in the plane, to learn a density that is known."""

import numpy as np
from mindspore import nn as ms_nn
from mindspore import ops

from ganfleet import nn
from ganfleet.strategies.diffusion.strategy import Denoising, DenoisingOptions

CENTRES = np.array([[-1.0, -0.5], [1.0, -0.5], [0.0, 1.0]])
WEIGHTS, STD = np.array([0.2, 0.3, 0.5]), 0.2


class Plane(Denoising):
    """Images (2, 1, 1), which are points of a mixture of three normal distributions, are not bounded."""

    class Options(DenoisingOptions):
        resolution: int = 1
        hidden: int = 96

    def networks(self):
        return {"unet": MLP(self.options.hidden)}

    def predicted(self, nets, x_t, time, inputs):
        return nets.unet(x_t, time)

    def bounded(self, x0, percentile):
        return x0


class MLP(ms_nn.Cell):
    def __init__(self, hidden):
        super().__init__()
        self.time = nn.TimeEmbedding(32, hidden)
        self.first, self.second = nn.Dense(2, hidden), nn.Dense(hidden, hidden)
        self.third, self.last = nn.Dense(hidden, hidden), nn.Dense(hidden, 2)

    def construct(self, x, t):
        time = self.time(t)
        y = self.first(x.reshape(-1, 2))
        y = y + self.second(ops.silu(y + time))
        y = y + self.third(ops.silu(y + time))
        return self.last(ops.silu(y)).reshape(x.shape)


def points(count: int, seed: int = 0) -> np.ndarray:
    """Points (count, 2, 1, 1) of the mixture."""
    draw = np.random.Generator(np.random.Philox(seed))
    which = draw.choice(3, size=count, p=WEIGHTS)
    return (CENTRES[which] + STD * draw.standard_normal((count, 2))).astype(np.float32).reshape(-1, 2, 1, 1)
