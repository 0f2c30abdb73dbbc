"""Images from what a strategy says they are made of, for grids and ``ganfleet sample``. The fleet shares the work."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.engine import compile_cache, drawing
from ganfleet.engine.program import Program
from ganfleet.engine.running import running
from ganfleet.engine.tensors import copy, named, read, tensors, written
from ganfleet.fleet import Fleet, heartbeat
from ganfleet.nn import BatchNorm, forms
from ganfleet.strategies.base import Strategy

CHUNK = 16  # images per run of a sampler: one shape, so one compiled graph
CALIBRATION_RUNS = 8  # of a sampler, that batch-norm moments of averaged weights are measured on

Inputs = dict[str, np.ndarray]


def seeded(strategy: Strategy, clock: Clock, seed: int, label: int | None = None) -> Inputs:
    """What the image of ``seed`` is made of: the same latents for the same seed, whatever the run."""
    return drawing.sample_inputs(strategy, rng.stream(seed, "sample"), clock, label)


class Sampler:
    """Draws images with the networks of one stage, as the strategy's own ``sampler`` does it."""

    def __init__(self, program: Program):
        self._strategy = program.strategy
        self._program = program
        self._draws: dict[bool, Callable] = {}  # by training mode, which a graph freezes

    def images(self, inputs: Sequence[Inputs], clock: Clock, fleet: Fleet, ema: bool = True) -> np.ndarray:
        """Images (len(inputs), channels, height, width) in [-1, 1], on every rank; each rank generates its share.

        ``inputs`` are such as ``Strategy.sample_inputs`` gives, one for each image and equal on every rank.
        """
        with self.averaged(clock) if ema else ExitStack():
            return shared(fleet, len(inputs), lambda mine: self.draw([inputs[i] for i in mine]))

    def draw(self, inputs: list[Inputs]) -> np.ndarray:
        """Images (len(inputs), channels, height, width) in [-1, 1] for one to CHUNK ``inputs``, by this process alone.

        Missing ones are filled up, so that every run has one shape and an image the same bits in any company.
        """
        padded = [*inputs, *inputs[:1] * (CHUNK - len(inputs))]
        return self.run(joined(padded))[: len(inputs)]

    @contextmanager
    def averaged(self, clock: Clock):
        """While it lasts, networks with an EMA hold that, with the batch-norm moments it has."""
        with self._program.averaged():
            measure_moments(self._program, clock, lambda inputs: self.run(joined(inputs), training=True))
            yield

    def run(self, inputs: Inputs, training: bool = False) -> np.ndarray:
        """Images of the joined ``inputs`` of CHUNK images."""
        heartbeat.beat()
        with running(f"{type(self._strategy).__name__}.sampler()", type(self._strategy)):
            if training not in self._draws:
                self._draws[training] = self._strategy.sampler(graphs(self._program, training))
            images = self._draws[training](inputs)
        return images if training else drawing.images(self._strategy, images, CHUNK)


def measure_moments(program: Program, clock: Clock, run: Callable[[list[Inputs]], Any]) -> None:
    """Give averaged weights the batch-norm moments they have; ``run`` draws CHUNK images in training mode.

    Those of the weights they are averages of are larger: averaging takes away part of the weights' variance, and
    images normalised by foreign moments come out pale.
    """
    moments = [layer.moments for player in program.players.values() if player.ema for layer in batch_norms(player.nets)]
    if not moments:
        return
    for buffer in moments:
        ops.assign(buffer.seen, Tensor(np.zeros(buffer.seen.shape, np.float32)))
    for i in range(CALIBRATION_RUNS):
        streams = [rng.stream(i * CHUNK + j, "calibrate") for j in range(CHUNK)]
        run([program.strategy.sample_inputs(stream, clock) for stream in streams])
    for buffer in moments:
        seen = buffer.seen.asnumpy()
        if seen[-1]:  # 0 where sampling does not use the layer
            ops.assign(buffer.value, Tensor((seen[:-1] / seen[-1]).reshape(buffer.value.shape)))


def batch_norms(nets: dict[str, nn.Cell]) -> list[BatchNorm]:
    return [cell for net in nets.values() for _, cell in net.cells_and_names() if isinstance(cell, BatchNorm)]


def joined(inputs: list[Inputs]) -> Inputs:
    """The inputs of several images as one: arrays are joined, scalars are those of the first."""
    first = inputs[0]
    return {
        name: np.concatenate([each[name] for each in inputs]) if np.ndim(first[name]) else first[name] for name in first
    }


# ── Over the fleet


def shares(fleet: Fleet, count: int) -> Iterator[list[int]]:
    """Which of ``count`` images this rank draws, up to CHUNK at a time."""
    rank, ranks = (0, 1) if fleet.backend == "simulated" else (fleet.rank, fleet.world_size)
    mine = range(rank, count, ranks)
    for start in range(0, len(mine), CHUNK):
        yield list(mine[start : start + CHUNK])


def shared(
    fleet: Fleet, count: int, draw: Callable[[list[int]], np.ndarray], progress: Callable[[int], None] | None = None
) -> np.ndarray:
    """``count`` images on every rank, of which each rank draws its share; ``draw`` is told which.

    ``progress`` is told how many are done, as far as this rank can say.

    Raises:
        GanfleetError: ``draw`` raised it on some rank.
    """
    own = []
    with fleet.agreeing():
        for mine in shares(fleet, count):
            own.append((mine, draw(mine)))
            if progress:
                progress(mine[-1] + 1)
    chunks = [chunk for share in fleet.gather(own) for chunk in share]
    images = np.empty((count, *chunks[0][1].shape[1:]), np.float32)
    for indices, drawn in chunks:
        images[indices] = drawn
    return images


# ── Graphs that the host runs


def graphs(program: Program, training: bool = False) -> Callable[[Callable], "Graph"]:
    """What ``Strategy.sampler`` gets: ``graph(function)``, one graph for one function, over the program's networks."""
    made: dict[Callable, Graph] = {}

    def graph(function: Callable) -> Graph:
        if function not in made:
            made[function] = Graph(function, program.nets, program.form, training)
        return made[function]

    return graph


class Graph:
    """``function(nets, inputs)`` of a strategy as a host function: a dict of arrays in, an array or a dict of them out.

    It is compiled at the first call, and again for every new shape. The networks are in evaluation mode while it runs,
    or with ``training`` in training mode. ``form`` is that of its operators.
    """

    def __init__(self, function: Callable, nets, form: str, training: bool = False):
        self._function, self._nets, self._form, self._training = function, nets, form, training
        self._compiled: dict[tuple[str, ...], _CompiledGraph] = {}

    def __call__(self, inputs: Inputs) -> np.ndarray | dict[str, np.ndarray]:
        names = tuple(inputs)
        if names not in self._compiled:
            self._compiled[names] = _CompiledGraph(self._function, self._nets, names)
        with _mode(self._nets, self._training), forms.using(self._form):
            arrays = tensors(inputs)
            keys, *values = self._compiled[names](*(arrays[name] for name in names))
        images = [copy(value) for value in values]
        keys = read(keys)
        return dict(zip(keys, images, strict=True)) if keys else images[0]


class _CompiledGraph(compile_cache.Graph):
    def __init__(self, function, nets, names):
        super().__init__()
        self.function = function
        self.nets = nets
        self.names = names

    def code(self):
        return self.function

    @ms.jit
    def construct(self, *arrays):
        result = self.function(self.nets, named(self.names, arrays))
        if isinstance(result, dict):
            return (written(tuple(result.keys())), *result.values())
        return written(()), result


@contextmanager
def _mode(nets, training: bool):
    # A frozen network has no mode but evaluation.
    changed = [
        net for net in vars(nets).values() if net.training != training and (net.trainable_params() or not training)
    ]
    for net in changed:
        net.set_train(training)
    try:
        yield
    finally:
        for net in changed:
            net.set_train(not training)
