"""GAN theory where it can be computed: data N(0, 1), a fixed generator x = mean + std·z, and a discriminator to train.

Arithmetic of densities is float64 NumPy and SciPy, and independent of the package. docs/theory.py plots the same run.
"""

from pathlib import Path

import mindspore as ms
import numpy as np
from in_memory import ArraySource, trainer
from mindspore import nn as ms_nn
from scipy.integrate import quad
from scipy.stats import norm

from ganfleet import nn
from ganfleet.engine.callbacks import Callback
from ganfleet.engine.trainer import Trainer
from ganfleet.strategies.base import Phase, Player, Strategy, StrategyOptions

CONFIG = """
strategy: {name: "one_dimension:FixedGenerator", mean: %s, std: %s}
train: {steps: %d, batch_size: 512, lanes: 1, seed: 1}
"""
P_DATA = norm(0, 1)
GRID = np.linspace(-10, 10, 4001)  # outside, both densities are below 1e-21


class FixedGenerator(Strategy):
    """Only D is trained, with a learning rate that falls to zero so that D comes to rest."""

    reads = ("x",)

    class Options(StrategyOptions):
        mean: float = 0.0
        std: float = 1.0

    def players(self, stage):
        d = ms_nn.SequentialCell(nn.Dense(1, 32), nn.Tanh(), nn.Dense(32, 32), nn.Tanh(), nn.Dense(32, 1))
        return {"D": Player(d, nn.Adam(0.02))}

    def phases(self, stage):
        return [Phase("D", self.d_loss)]

    def draw(self, rng, n, clock):
        return {"z": rng.standard_normal((n, 1), dtype=np.float32)}

    def d_loss(self, nets, real, noise):
        fake = self.options.mean + self.options.std * noise["z"]
        return nn.discriminator_loss(nets.D(real["x"]), nets.D(fake)), {}

    def hyper(self, player, clock):
        return {"lr": 0.02 * (1 - clock.step / clock.total_steps)}


class Values(Callback):
    """V(G, D) after every ``every`` steps, as (step, V)."""

    def __init__(self, p_g, every):
        self.p_g, self.every, self.values = p_g, every, []

    def after_step(self, trainer, stats):
        if trainer.clock.step % self.every == 0:
            self.values.append((trainer.clock.step, value(logits(trainer), self.p_g)))


def train(p_g, steps: int, directory: Path, *callbacks: Callback) -> Trainer:
    """D trained against samples of the normal distribution ``p_g``."""
    count = 2**16
    samples = P_DATA.ppf((np.arange(count) + 0.5) / count).astype(np.float32)[:, None]
    trained = trainer(CONFIG % (p_g.mean(), p_g.std(), steps), ArraySource("x", samples), directory, *callbacks)
    trained.run()
    return trained


def logits(trained: Trainer) -> np.ndarray:
    """What D says on GRID."""
    x = ms.Tensor(GRID.astype(np.float32)[:, None])
    return trained.program.nets.D(x).asnumpy()[:, 0].astype(np.float64)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def value(logits, p_g) -> float:
    """V = E log D(x) + E log(1 − D(G(z))), by the trapezoidal rule on GRID, for D given by its ``logits`` there."""
    real, fake = P_DATA.pdf(GRID), p_g.pdf(GRID)
    return np.trapz(-real * np.logaddexp(0, -logits) - fake * np.logaddexp(0, logits), GRID)


def optimal_d(p_g, x):
    """D* = p_data / (p_data + p_g) (proposition 1 of arXiv:1406.2661)."""
    return P_DATA.pdf(x) / (P_DATA.pdf(x) + p_g.pdf(x))


def jsd(p_g) -> float:
    """The Jensen–Shannon divergence of p_data and ``p_g`` in nats: the mean of both divergences from their mixture."""

    def from_mixture(p, q):
        return quad(lambda x: p.pdf(x) * (p.logpdf(x) - np.log((p.pdf(x) + q.pdf(x)) / 2)), -10, 10, limit=200)[0]

    return (from_mixture(P_DATA, p_g) + from_mixture(p_g, P_DATA)) / 2
