"""Two lines apart (example 1 of arXiv:1701.07875): data (0, U), a fixed generator of (θ, U), U uniform on [0, 1].

Their supports do not meet unless θ = 0, so JSD = log 2 whatever θ, while W = θ. D, an MLP, is trained by the engine
in GAN's game or in WGAN-GP's. docs/wasserstein.py plots the same.
"""

from pathlib import Path

import mindspore as ms
import numpy as np
from in_memory import ArraySource, one_lane, trainer
from mindspore import nn as ms_nn
from mindspore import ops

from ganfleet import nn
from ganfleet.engine.phase import CompiledPhase
from ganfleet.strategies.base import Phase
from ganfleet.strategies.gan import GAN
from ganfleet.strategies.wgan import WGANGP

CONFIG = """
strategy: {name: "parallel_lines:%s", theta: %s}
train: {steps: %d, batch_size: 256, lanes: 1, seed: 1}
"""
COUNT = 2**12


class Line(ms_nn.Cell):
    """U (n, 1) → (θ, U)."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.parameter("theta", (1,), nn.Constant(theta))

    def construct(self, u):
        return ops.concat((ops.ones_like(u) * self.theta, u), 1)


class OnlyD:
    """Only D is trained, with a learning rate that falls to zero so that it comes to rest."""

    def networks(self):
        d = ms_nn.SequentialCell(nn.Dense(2, 32), nn.Tanh(), nn.Dense(32, 32), nn.Tanh(), nn.Dense(32, 1))
        return Line(self.options.theta), d

    def phases(self, stage):
        return [Phase("D", self.d_loss)]

    def hyper(self, player, clock):
        return {"lr": self.options.lr * (1 - clock.step / clock.total_steps)}


class JSGame(OnlyD, GAN):
    class Options(GAN.Options):
        theta: float
        lr: float = 0.01
        betas: tuple[float, float] = (0.9, 0.999)

    def draw(self, rng, n, clock):
        return {"z": rng.random((n, 1), dtype=np.float32)}


class WGame(OnlyD, WGANGP):
    class Options(WGANGP.Options):
        theta: float
        lr: float = 0.01
        betas: tuple[float, float] = (0.5, 0.9)

    def generator(self):
        return self.networks()[0]

    def critic(self):
        return self.networks()[1]

    def draw(self, rng, n, clock):
        return {"z": rng.random((n, 1), dtype=np.float32), "u": rng.random((n, 1), dtype=np.float32)}


def train(game: str, theta: float, steps: int, directory: Path):
    """D trained in ``game``; the Trainer."""
    trained = trainer(CONFIG % (game, theta, steps), ArraySource("image", line(0, COUNT)), directory)
    trained.run()
    return trained


def line(theta: float, count: int) -> np.ndarray:
    """``count`` points of (θ, U), evenly spaced."""
    return np.stack([np.full(count, theta), (np.arange(count) + 0.5) / count], 1).astype(np.float32)


def scores(trained, theta: float) -> np.ndarray:
    """What D says along the line at θ, in float64."""
    return trained.program.nets.D(ms.Tensor(line(theta, 200))).asnumpy()[:, 0].astype(np.float64)


def divergence(trained) -> float:
    """The JSD that D knows of: (V + log 4) / 2, from below."""
    real, fake = scores(trained, 0), scores(trained, trained.strategy.options.theta)
    value = -np.logaddexp(0, -real).mean() - np.logaddexp(0, fake).mean()
    return (value + np.log(4)) / 2


def distance(trained) -> float:
    """E D(x) − E D(G(z))."""
    return scores(trained, 0).mean() - scores(trained, trained.strategy.options.theta).mean()


def slope(trained, loss) -> float:
    """∂/∂θ of G's ``loss``, as the engine differentiates it."""
    program = trained.program
    compiled = CompiledPhase(Phase("G", loss), program.players["G"], program.nets)
    return float(one_lane(compiled, {"image": line(0, 200)}, {"z": line(0, 200)[:, 1:]})[0][0])


def best_slope(theta: float, penalty: float) -> float:
    """Where −θ·s + λ·(s − 1)², the loss of a critic that falls by s per unit of length, is least."""
    return 1 + theta / (2 * penalty)
