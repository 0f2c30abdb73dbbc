"""Images from what a strategy says they are made of, for grids and ``ganfleet sample``. The fleet shares the work."""

from contextlib import ExitStack

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.engine.program import Program
from ganfleet.engine.tensors import named, tensors
from ganfleet.fleet import Fleet
from ganfleet.nn import BatchNorm
from ganfleet.strategies.base import Strategy

CHUNK = 16  # images per graph run: one shape, so one compiled graph
CALIBRATION_RUNS = 8  # graph runs that batch-norm moments of averaged weights are measured on


Inputs = dict[str, np.ndarray]


def seeded(strategy: Strategy, clock: Clock, seed: int, label: int | None = None) -> Inputs:
    """What the image of ``seed`` is made of: the same latents for the same seed, whatever the run."""
    return strategy.sample_inputs(rng.stream(seed, "sample"), clock, label)


class Sampler:
    """Draws images with the networks of one stage."""

    def __init__(self, program: Program):
        self._strategy = program.strategy
        self._program = program
        self._graphs: dict[bool, _SampleGraph] = {}  # by training mode, which a graph freezes

    def images(self, inputs: list[Inputs], clock: Clock, fleet: Fleet, ema: bool = True) -> np.ndarray:
        """Images (len(inputs), channels, height, width) in [-1, 1], on every rank; each rank generates its share.

        ``inputs`` are such as ``Strategy.sample_inputs`` gives, one for each image and equal on every rank.
        """
        with ExitStack() as weights:
            if ema:
                weights.enter_context(self._program.averaged())
                self._measure_moments(clock)
            weights.enter_context(self._program.evaluating())
            world_size = 1 if fleet.backend == "simulated" else fleet.world_size
            mine = inputs[fleet.rank :: world_size] or inputs[:1]
            shares = fleet.gather(self._generate(mine))
        images = np.empty((len(inputs), *shares[0].shape[1:]), np.float32)
        for rank, share in enumerate(shares):
            images[rank :: len(shares)] = share[: len(range(rank, len(inputs), len(shares)))]
        return images

    def _generate(self, inputs):
        chunks = [inputs[i : i + CHUNK] for i in range(0, len(inputs), CHUNK)]
        return np.concatenate([self._run(self._padded(chunk), training=False)[: len(chunk)] for chunk in chunks])

    def _padded(self, chunk):
        return [*chunk, *chunk[:1] * (CHUNK - len(chunk))]

    def _measure_moments(self, clock):
        """Give averaged weights the batch-norm moments they have.

        Those of the weights they are averages of are larger: averaging takes away part of the weights' variance, and
        images normalised by foreign moments come out pale.
        """
        layers = [
            cell
            for player in self._program.players.values()
            if player.ema
            for net in player.nets.values()
            for _, cell in net.cells_and_names()
            if isinstance(cell, BatchNorm)
        ]
        if not layers:
            return
        for layer in layers:
            ops.assign(layer.moments.seen, Tensor(np.zeros(layer.moments.seen.shape, np.float32)))
        for i in range(CALIBRATION_RUNS):
            streams = [rng.stream(i * CHUNK + j, "calibrate") for j in range(CHUNK)]
            self._run([self._strategy.sample_inputs(stream, clock) for stream in streams], training=True)
        for layer in layers:
            seen = layer.moments.seen.asnumpy()
            if seen[-1]:  # 0 where sampling does not use the layer
                ops.assign(layer.moments.value, Tensor((seen[:-1] / seen[-1]).reshape(layer.moments.value.shape)))

    def _run(self, inputs, training):
        """Images of CHUNK ``inputs``: arrays are joined, scalars are those of the first."""
        first = inputs[0]
        noise = {
            name: np.concatenate([each[name] for each in inputs]) if np.ndim(first[name]) else first[name]
            for name in first
        }
        if training not in self._graphs:
            self._graphs[training] = _SampleGraph(self._strategy, self._program.nets, tuple(noise))
        graph, arrays = self._graphs[training], tensors(noise)
        return graph(*(arrays[name] for name in graph.names)).asnumpy()


class _SampleGraph(nn.Cell):
    def __init__(self, strategy, nets, names):
        super().__init__(auto_prefix=False)
        self.sample = strategy.sample
        self.nets = nets
        self.names = names

    @ms.jit
    def construct(self, *arrays):
        return self.sample(self.nets, named(self.names, arrays))

