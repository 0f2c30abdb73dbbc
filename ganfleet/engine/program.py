"""A phase as one compiled graph: from a lane's samples to [gradients, running statistics, host values, stats]."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ganfleet.engine.model import Model
from ganfleet.engine.tensors import named
from ganfleet.errors import ConfigError
from ganfleet.strategies.base import Phase

MALFORMED = "malformed"  # the one stat of a loss that did not return what it should


class PhaseProgram:
    """Runs one phase on one lane after another, and takes the fleet's sum apart again.

    The flat float32 vector of a lane is [gradients of the phase's player (P,), running statistics of its layers,
    host values, loss, stats in the order the loss names them].
    """

    def __init__(self, phase: Phase, model: Model, host_size: int):
        self.phase = phase
        self.player = model.players[phase.player]
        self._model = model
        self._graph: _PhaseGraph | None = None  # made when the first samples tell their names
        self._host_size = host_size
        self._summary = _Summary(self.player.size + self.player.stats_size)
        self._shapes: dict[str, tuple[int, ...]] = {}

    def run(self, real: dict[str, Tensor], noise: dict[str, Tensor], host: np.ndarray):
        """The flat vector of one lane, and the tensors by name that the loss keeps for the lane's later phases.

        ``host`` (H,) are values of the host's that should reach every rank.

        Raises:
            ConfigError: the loss returned something else than a scalar and a dict, or two.
        """
        if self._graph is None:
            self._graph = _PhaseGraph(self.phase, self._model, self.player, tuple(real), tuple(noise))
        graph = self._graph
        arrays = [real[name] for name in graph.real_names] + [noise[name] for name in graph.noise_names]
        flat, loss, stat_names, stats, kept_names, kept = graph(Tensor(host), *arrays)
        if not self._shapes:
            stats = dict(zip(stat_names, stats, strict=True))
            self._check(loss, stats)
            self._shapes = {f"Loss/{self.phase.name}": loss.shape} | {
                f"Loss/{name}": value.shape for name, value in stats.items()
            }
        return flat, dict(zip(kept_names, kept, strict=True))

    def _check(self, loss, stats):
        expected = "a scalar tensor and a dict of stats, and may add a dict of tensors to keep"
        if MALFORMED in stats:
            raise ConfigError(f"the loss of phase {self.phase.name!r} must return {expected}: it returned otherwise")
        if loss.shape != ():
            raise ConfigError(
                f"the loss of phase {self.phase.name!r} has shape {loss.shape}, and must be a scalar: take its mean()"
            )

    def summarize(self, total: Tensor, lanes: int) -> tuple[bool, np.ndarray, dict[str, np.ndarray]]:
        """Whether the fleet's sum is finite, the sum of the host values, and the mean of loss and stats over lanes."""
        summary = self._summary(total).asnumpy()
        finite, host, tail = bool(summary[0]), summary[1 : 1 + self._host_size], summary[1 + self._host_size :] / lanes
        stats, start = {}, 0
        for name, shape in self._shapes.items():
            size = int(np.prod(shape))
            stats[name] = tail[start : start + size].reshape(shape)
            start += size
        return finite, host, stats


class _PhaseGraph(nn.Cell):
    def __init__(self, phase, model, player, real_names, noise_names):
        super().__init__(auto_prefix=False)
        self.nets = model.nets
        self.loss = phase.loss
        self.real_names, self.noise_names = real_names, noise_names
        self.weights = ms.ParameterTuple(player.weights)
        self.mailboxes = ms.ParameterTuple([layer.seen for layer in player.layers])
        # A loop in a graph is parsed anew for each of its turns: for hundreds of weights, seconds.
        self.map = ops.Map()

    def forward(self, real, noise):
        result = self.loss(self.nets, real, noise)
        if not well_formed(result):
            # Raised in here, an error would come with a page of the compiler's. So this comes out, and `run` raises it.
            result = (ops.zeros((), ms.float32), {MALFORMED: ops.zeros((), ms.float32)})
        loss, stats = result[0], result[1]
        # Joined in here: to the graph around value_and_grad, tensors in a dict that comes out of it are constants.
        logged = [loss.reshape(-1)]
        for value in stats.values():
            logged.append(value.reshape(-1))
        return loss, ops.concat(logged), stats, result[2] if len(result) == 3 else {}

    @ms.jit
    def construct(self, host, *arrays):
        real = named(self.real_names, arrays)
        noise = named(self.noise_names, arrays[len(self.real_names) :])
        # Zeroed before, not after: a graph may read a parameter as late as it likes, and would find the zeros.
        for mailbox in self.mailboxes:
            ops.assign(mailbox, ops.zeros_like(mailbox))
        run = ms.value_and_grad(self.forward, None, self.weights, has_aux=True)
        (loss, logged, stats, kept), gradients = run(real, noise)
        flat = self.map(flatten, gradients) + self.map(flatten, self.mailboxes) + (host, logged)
        # Not dicts: a graph that returns one goes through Python at every run.
        return (
            ops.concat(flat),
            loss,
            tuple(stats.keys()),
            tuple(stats.values()),
            tuple(kept.keys()),
            tuple(kept.values()),
        )


def flatten(tensor):
    return tensor.reshape(-1)


def well_formed(result):
    """Whether this is a tensor, a dict of tensors, and perhaps another; decided when a graph is compiled."""
    if not isinstance(result, tuple) or not 2 <= len(result) <= 3 or not isinstance(result[0], Tensor):
        return False
    for named_tensors in result[1:]:
        if not isinstance(named_tensors, dict):
            return False
        for value in named_tensors.values():
            if not isinstance(value, Tensor):
                return False
    return True


class _Summary(nn.Cell):
    def __init__(self, start):
        super().__init__(auto_prefix=False)
        self.start = start

    @ms.jit
    def construct(self, total):
        finite = ops.isfinite(total).all().astype(ms.float32)
        return ops.concat((finite.reshape(1), total[self.start :]))
