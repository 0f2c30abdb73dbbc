"""A strategy small enough to count by hand, for tests."""

from mindspore import nn as ms_nn
from pydantic import BaseModel, ConfigDict, Field

from ganfleet import nn
from ganfleet.strategies.base import Ema, Phase, Player, Stage, Strategy, StrategyOptions


class Growth(BaseModel):
    model_config = ConfigDict(extra="forbid")

    first: int = 4
    stable_kimg: float = 0.5


class TinyGAN(Strategy):
    class Options(StrategyOptions):
        latent: int = 2
        lr: float = 1e-3
        betas: tuple[float, float] = (0.0, 0.99)
        batch_sizes: dict[int, int] = Field(default_factory=dict)
        growth: Growth = Growth()

    def players(self, stage):
        pixels = self.image.channels * self.options.resolution**2
        g = ms_nn.SequentialCell(ms_nn.Dense(self.options.latent, 3), ms_nn.Dense(3, pixels))
        d = {"D": ms_nn.Dense(pixels, 1), "Norm": nn.BatchNorm(5)}
        return {
            "D": Player(d, nn.Adam(self.options.lr, self.options.betas)),
            "G": Player(g, nn.RMSProp(self.options.lr), ema=Ema(decay=0.5)),
        }

    def phases(self, stage):
        return [Phase("D", None), Phase("G", None), Phase("G", None, every=4, name="path")]

    def schedule(self):
        growth, sizes = self.options.growth, self.options.batch_sizes
        full = Stage(self.options.resolution, self.batch_size, round(growth.stable_kimg * 1000), "full")
        return [Stage(growth.first, sizes.get(growth.first, self.batch_size), 0, "small"), full]


class NoStrategy:
    pass


not_a_class = 3
