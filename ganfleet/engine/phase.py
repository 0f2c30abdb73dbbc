"""A phase as one compiled graph: from a lane's samples to [gradients, what buffers saw, host values, loss, stats]."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ganfleet.engine.compile_cache import Graph
from ganfleet.engine.player import FlatPlayer
from ganfleet.engine.running import IN_A_GRAPH, running
from ganfleet.engine.tensors import named, read, scalar, written, zeros
from ganfleet.errors import ConfigError
from ganfleet.strategies.base import Phase

OF_THE_LOG = ("Loss/", "Progress/", "Timing/", "Metrics/", "Memory/", "Schedule/")
MALFORMED = "malformed"  # the one stat of a loss that did not return what it should


class CompiledPhase:
    """Runs one phase on one lane after another, and takes the fleet's sum apart again.

    The flat float32 vector of a lane is [gradients of the phase's player (P,), what its buffers saw, host values, loss,
    stats in the order the loss names them].
    """

    def __init__(self, phase: Phase, player: FlatPlayer, nets, scaled: bool = False):
        self.phase = phase
        self.name = phase.name
        self.player = player
        self._nets, self._scaled = nets, scaled
        self._graph: _PhaseGraph | None = None  # made when the first samples tell their names
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._kept: tuple[str, ...] = ()

    def run(
        self,
        real: dict[str, Tensor],
        noise: dict[str, Tensor],
        host: Tensor | None = None,
        loss_scale: Tensor | None = None,
    ):
        """The flat vector of one lane, and the tensors by name that the loss keeps for the lane's later phases.

        ``host`` (H,) are values of the host's that should reach every rank. Where the phase is ``scaled``, its
        gradients, and nothing else, are multiplied by ``loss_scale`` (), by default 1.

        Raises:
            ConfigError: the loss returned something else than a scalar and a dict, or two.
        """
        if self._graph is None:
            self._graph = _PhaseGraph(self, self._nets, self._scaled, tuple(real), tuple(noise))
        graph = self._graph
        arrays = [real[name] for name in graph.real_names] + [noise[name] for name in graph.noise_names]
        host = zeros(0) if host is None else host
        scale = scalar(1.0) if loss_scale is None else loss_scale
        if self._shapes:
            flat, _, *kept = graph(host, scale, *arrays)
        else:  # compiled now, which is when a mistake in a loss comes out
            with running(f"the loss of phase {self.name!r}", self.phase.loss, IN_A_GRAPH):
                flat, described, *kept = graph(host, scale, *arrays)
            self._take(*read(described))
        return flat, dict(zip(self._kept, kept, strict=True))

    def _take(self, loss: list[int], names: list[str], shapes: list[list[int]], kept: list[str]) -> None:
        """Take over what the compiler found out about the loss's results: their shapes and names."""
        expected = "a scalar tensor and a dict of stats, and may add a dict of tensors to keep"
        if MALFORMED in names:
            raise ConfigError(f"the loss of phase {self.name!r} must return {expected}: it returned otherwise")
        if loss:
            raise ConfigError(
                f"the loss of phase {self.name!r} has shape {tuple(loss)}, and must be a scalar: take its mean()"
            )
        taken = [name for name in names if name.startswith(OF_THE_LOG)]
        if taken:
            raise ConfigError(
                f"phase {self.name!r} has a stat named {taken[0]!r}, which the log uses itself: give it another name"
            )
        stats = {name: tuple(shape) for name, shape in zip(names, shapes, strict=True)}
        self._shapes, self._kept = {f"Loss/{self.name}": ()} | stats, tuple(kept)

    def summarize(self, summary: np.ndarray, lanes: int, host_size: int):
        """Whether the update is no fault of the run, the sum of the host values, and the means of loss and stats over
        lanes, out of what the player's update gave.
        """
        fine, host, tail = bool(summary[0]), summary[1 : 1 + host_size], summary[1 + host_size :] / np.float32(lanes)
        stats, start = {}, 0
        for name, shape in self._shapes.items():
            size = int(np.prod(shape))
            stats[name] = tail[start : start + size].reshape(shape)
            start += size
        return fine, host, stats


class _PhaseGraph(Graph):
    trains = True

    def __init__(self, compiled, nets, scaled, real_names, noise_names):
        super().__init__()
        player = compiled.player
        self.nets, self.scaled = nets, scaled
        self.loss = compiled.phase.loss
        self.real_names, self.noise_names = real_names, noise_names
        self.weights = ms.ParameterTuple(player.weights)
        self.seen = ms.ParameterTuple([buffer.seen for buffer in player.buffers])
        # A loop in a graph is parsed anew for each of its turns: for hundreds of weights, seconds.
        self.map = ops.Map()

    def code(self):
        return self.loss

    def forward(self, real, noise, scale):
        result = self.loss(self.nets, real, noise)
        if not well_formed(result):
            # Raised in here, an error would come with a page of the compiler's. So this comes out, and `run` raises it.
            result = (ops.zeros((), ms.float32), {MALFORMED: ops.zeros((), ms.float32)})
        loss, stats = result[0], result[1]
        # Joined in here: to the graph around value_and_grad, tensors in a dict that comes out of it are constants.
        logged = [loss.reshape(-1)]
        for value in stats.values():
            logged.append(value.reshape(-1))
        to_derive = loss * scale if self.scaled else loss
        return to_derive, loss, ops.concat(logged), stats, result[2] if len(result) == 3 else {}

    @ms.jit
    def construct(self, host, scale, *arrays):
        real = named(self.real_names, arrays)
        noise = named(self.noise_names, arrays[len(self.real_names) :])
        # Zeroed before, not after: a graph may read a parameter as late as it likes, and would find the zeros.
        for seen in self.seen:
            ops.assign(seen, ops.zeros_like(seen))
        run = ms.value_and_grad(self.forward, None, self.weights, has_aux=True)
        (_, loss, logged, stats, kept), gradients = run(real, noise, scale)
        flat = self.map(flatten, gradients) + self.map(flatten, self.seen) + (host, logged)
        shapes = ()
        for value in stats.values():
            shapes = (*shapes, value.shape)
        described = written((loss.shape, tuple(stats.keys()), shapes, tuple(kept.keys())))
        return (ops.concat(flat), described, *kept.values())


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
