"""A training loop of one's own around ganfleet.DataParallel. As a script, it writes a hash of what it has trained."""

import sys
from pathlib import Path

import numpy as np
from mindspore import nn as ms_nn

import ganfleet
from ganfleet import nn
from ganfleet.store import weights


def players():
    g = ms_nn.SequentialCell(nn.Dense(3, 8), nn.BatchNorm(8), nn.Dense(8, 4))
    d = ms_nn.SequentialCell(nn.Dense(4, 8), ms_nn.ReLU(), nn.Dense(8, 1))
    return {
        "D": ganfleet.Player(d, nn.AdamW(1e-2, (0.0, 0.9))),
        "G": ganfleet.Player(g, nn.RMSProp(1e-3), ema=ganfleet.Ema(decay=0.9)),
    }


def d_loss(nets, real, noise):
    real_score, fake_score = nets.D(real["x"]), nets.D(nets.G(noise["z"]))
    return nn.softplus(-real_score).mean() + nn.softplus(fake_score).mean(), {"scores/real": real_score.mean()}


def g_loss(nets, real, noise):
    return nn.softplus(-nets.D(nets.G(noise["z"]))).mean(), {}


def draw(rng, n, clock):
    return {"z": rng.standard_normal((n, 3), dtype=np.float32)}


def train(steps: int, fleet=None):
    """The DataParallel after so many steps, and the stats of each."""
    phases = [ganfleet.Phase("D", d_loss), ganfleet.Phase("G", g_loss, every=2)]
    parallel = ganfleet.DataParallel(players(), phases, draw, batch_size=8, lanes=4, seed=1, fleet=fleet)
    data = np.random.default_rng(0).standard_normal((64, 4), dtype=np.float32)
    stats = [parallel.step({"x": data[8 * (i % 8) : 8 * (i % 8) + 8]}) for i in range(steps)]
    return parallel, stats


def digest(parallel) -> str:
    return weights.sha256({f"{c}/{name}": a for c, group in parallel.state().items() for name, a in group.items()})


if __name__ == "__main__":
    trained, _ = train(10, ganfleet.connect(lanes=4))
    if trained.fleet.rank == 0:
        Path(sys.argv[1]).write_text(f"{trained.fleet.world_size} {digest(trained)}")
    trained.close()
