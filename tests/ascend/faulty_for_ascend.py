"""A strategy that trains on a CPU, and that no card should be given."""

import mindspore as ms
import numpy as np
from mindspore import ops

from ganfleet.errors import ConfigError
from ganfleet.strategies.base import Phase
from ganfleet.strategies.gan import GAN


class Faulty(GAN):
    """D's loss has an operator without a kernel, G's a collective of its own; a third phase waits for the device twice,
    and sends what is not the engine's.
    """

    def phases(self, stage):
        return [
            Phase("D", self.d_loss),
            Phase("G", self.g_loss),
            Phase("G", self.again, prepare=self.wait, name="again"),
        ]

    def d_loss(self, nets, real, noise):
        loss, stats = super().d_loss(nets, real, noise)
        return loss + 0 * ops.matrix_power(real["image"][:, 0], 3).sum(), stats

    def g_loss(self, nets, real, noise):
        loss, stats = self.non_saturating_g_loss(nets, real, noise)
        return loss + 0 * ops.AllReduce()(ops.stop_gradient(loss).reshape(1)).sum(), stats

    def wait(self, rng, kept, memory):
        ms.runtime.synchronize()
        for _ in range(2):  # of which MindSpore's log names the first alone
            ops.AllReduce()(ms.Tensor(np.ones(2, np.float32)))
        return {"waited_for": ms.Tensor(np.ones(2, np.float32)).asnumpy()}

    def again(self, nets, real, noise):
        return self.non_saturating_g_loss(nets, real, noise)[0] + 0 * noise["waited_for"].sum(), {}


class Tells(GAN):
    """Ends the check with what MindSpore was told of HF32."""

    def phases(self, stage):
        from mindspore._c_expression import AscendOpPrecisionConf

        told = AscendOpPrecisionConf.get_instance()
        raise ConfigError(f"conv {told.conv_allow_hf32()}, matmul {told.matmul_allow_hf32()}")
