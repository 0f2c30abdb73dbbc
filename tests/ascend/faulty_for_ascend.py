"""A strategy that trains well on a CPU, and that no card should be given."""

import numpy as np
from mindspore import ops

from ganfleet.strategies.base import Phase
from ganfleet.strategies.gan import GAN


class Faulty(GAN):
    def phases(self, stage):
        first, *others = super().phases(stage)
        return [first, *others, Phase("G", self.second_g_loss, prepare=self.waits, name="again")]

    def waits(self, rng, kept, memory):
        return {"kept": np.float32(float(self._probe().sum()))}

    def _probe(self):
        return ops.ones((2,), dtype=None)

    def d_loss(self, nets, real, noise):
        loss, stats = super().d_loss(nets, real, noise)
        without_kernel = ops.matrix_power(ops.eye(3, 3).reshape(1, 3, 3), 2).sum()
        return loss + 0 * without_kernel, stats

    def g_loss(self, nets, real, noise):
        loss, stats = super().g_loss(nets, real, noise)
        return ops.AllReduce()(loss.reshape(1)).sum(), stats

    def second_g_loss(self, nets, real, noise):
        loss, stats = super().g_loss(nets, real, noise)
        return loss + 0 * noise["kept"], stats
