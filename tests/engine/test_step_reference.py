"""Two whole steps of DCGAN through the Trainer equal float64 JAX: all that training changes, and all that is logged."""

import dcgan_float64 as float64
import jax
import numpy as np
import pytest
from in_memory import ArraySource, trainer
from nn.reference import assert_close, normal

from ganfleet import rng

STEPS, BATCH, LANES, SEED, LATENT = 2, 8, 2, 5, 12
LR, BETA1, BETA2, EPS, MOMENTUM, EMA_KIMG = 0.01, 0.5, 0.99, 1e-8, 0.1, 0.02
CONFIG = f"""
strategy: {{name: dcgan, resolution: 16, latent: {LATENT}, ngf: 4, ndf: 4,
           lr: {LR}, betas: [{BETA1}, {BETA2}], ema_kimg: {EMA_KIMG}}}
train: {{batch_size: {BATCH}, lanes: {LANES}, seed: {SEED}}}
"""
GRADIENTS = {"D": jax.jit(jax.grad(float64.d_loss, has_aux=True)), "G": jax.jit(jax.grad(float64.g_loss, has_aux=True))}


class Reference:
    """A player in float64: Adam as in algorithm 1 of arXiv:1412.6980, an EMA of the weights, and running statistics.

    ``tensors`` are its weights and running statistics by name, as they are before the first step.
    """

    def __init__(self, tensors, has_ema):
        self.tensors = {name: array.astype(np.float64) for name, array in tensors.items()}
        self.trained = [name for name in tensors if not name.endswith(".moments.value")]
        self.m = {name: np.zeros(tensors[name].shape) for name in self.trained}
        self.v = dict(self.m)
        self.updates = 0
        self.ema = {name: self.tensors[name] for name in self.trained} if has_ema else None

    def update(self, gradients, moments):
        """Gradients are means over the lanes; ``moments`` is all that its layers saw on all lanes, by name."""
        self.updates += 1
        for name in self.trained:
            g = np.asarray(gradients[name])
            self.m[name] = BETA1 * self.m[name] + (1 - BETA1) * g
            self.v[name] = BETA2 * self.v[name] + (1 - BETA2) * g**2
            m_hat = self.m[name] / (1 - BETA1**self.updates)
            v_hat = self.v[name] / (1 - BETA2**self.updates)
            self.tensors[name] = self.tensors[name] - LR * m_hat / (np.sqrt(v_hat) + EPS)
        for name, seen in moments.items():
            self.tensors[name] = (1 - MOMENTUM) * self.tensors[name] + MOMENTUM * np.mean(seen, axis=0)
        if self.ema:
            beta = 0.5 ** (BATCH / (1000 * EMA_KIMG))
            self.ema = {name: beta * old + (1 - beta) * self.tensors[name] for name, old in self.ema.items()}

    def components(self, player):
        slots = {f"m/{name}": m for name, m in self.m.items()} | {f"v/{name}": v for name, v in self.v.items()}
        own = {"weights": {name: self.tensors[name] for name in self.trained}}
        own["buffers"] = {name: tensor for name, tensor in self.tensors.items() if name not in self.trained}
        own["optimizer"] = {"updates": np.array([self.updates])} | slots
        if self.ema:
            own["ema"] = self.ema
        return {f"{player}.{component}": tensors for component, tensors in own.items()}


def reference_step(step, images, players):
    """D's phase on every lane's ``images``, then G's with the new D; the stats of both."""
    logged = {}
    for phase, player in players.items():
        w = players["D"].tensors | players["G"].tensors
        gradients, stats, moments = [], [], {}
        for lane in range(LANES):
            stream = rng.stream(SEED, f"draw/{phase}", step, lane)
            z = stream.standard_normal((BATCH // LANES, LATENT), dtype=np.float32).astype(np.float64)
            gradient, (lane_stats, lane_moments) = GRADIENTS[phase](w, images[lane].astype(np.float64), z)
            gradients.append(gradient)
            stats.append(lane_stats)
            for name, seen in lane_moments.items():
                moments[name] = moments.get(name, []) + seen
        player.update(mean(gradients), moments)
        logged |= mean(stats)
    return logged


def mean(dicts):
    return {name: np.mean([each[name] for each in dicts], axis=0) for name in dicts[0]}


@pytest.mark.slow
def test_two_steps_on_two_lanes_change_and_log_what_float64_does(tmp_path):
    train = trainer(CONFIG, ArraySource("image", np.tanh(normal(32, 3, 16, 16)), channels=3), tmp_path)
    start = train.program.tensors()
    players = {
        "D": Reference(start["D.weights"] | start["D.buffers"], has_ema=False),
        "G": Reference(start["G.weights"] | start["G.buffers"], has_ema=True),
    }

    with train.loader:
        for step in range(STEPS):
            batch = train.loader.next()
            stats = train.stepper.step(batch.lanes, train.clock, np.zeros(2, np.float32)).stats
            train.clock.tick(BATCH)
            expected = reference_step(step, [lane["image"] for lane in batch.lanes], players)
            assert stats.keys() == expected.keys()
            for name, value in expected.items():
                assert_close(stats[name], value, 1e-5, name)

    ended = train.program.tensors()
    expected = players["D"].components("D") | players["G"].components("G")
    assert ended.keys() == expected.keys()
    for component, tensors in expected.items():
        assert ended[component].keys() == tensors.keys()
        for name, value in tensors.items():
            assert_close(ended[component][name], value, 1e-5, f"{component}/{name}")
