"""LSGAN (arXiv:1611.04076): a GAN with squared errors instead of logs."""

import numpy as np
from mindspore import nn as ms_nn

from ganfleet import nn
from ganfleet.strategies.base import Phase, Player, Strategy, StrategyOptions


class LSGAN(Strategy):
    """D says 1 to real images and 0 to fake ones; G wants D to say 1."""

    class Options(StrategyOptions):
        latent: int = 64
        width: int = 32
        lr: float = 1e-3

    def players(self, stage):
        latent, width, channels = self.options.latent, self.options.width, self.image.channels
        side = stage.resolution // 4
        g = [nn.Dense(latent, 2 * width * side**2), ms_nn.Unflatten(1, (2 * width, side, side)), nn.LeakyReLU()]
        g += [nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.LeakyReLU()]
        g += [nn.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh()]
        d = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU()]
        d += [ms_nn.Flatten(), nn.Dense(2 * width * side**2, 1)]
        nets = {"G": ms_nn.SequentialCell(g), "D": ms_nn.SequentialCell(d)}
        return {name: Player(net, nn.Adam(self.options.lr, (0.5, 0.999))) for name, net in nets.items()}

    def phases(self, stage):
        return [Phase("D", self.d_loss), Phase("G", self.g_loss)]

    def draw(self, rng, n, clock):
        return {"z": rng.standard_normal((n, self.options.latent), dtype=np.float32)}

    def d_loss(self, nets, real, noise):
        real_score, fake_score = nets.D(real["image"]), nets.D(nets.G(noise["z"]))
        return ((real_score - 1) ** 2).mean() + (fake_score**2).mean(), {"scores/real": real_score.mean()}

    def g_loss(self, nets, real, noise):
        return ((nets.D(nets.G(noise["z"])) - 1) ** 2).mean(), {}
