"""Players whose optimizer state and average are shared out: every rank keeps one part of each vector.

A vector (P,) is cut into one part for each rank, of equally many values; the last parts are filled up with zeros. There
is no flat copy of the weights: the networks' own are the only ones, and whole on every rank.

An update has three steps. ``Propose``: each rank works out the new weights and slots of its part. One gathering brings
all new weights to all ranks, and with each part whether the sum was finite there. ``Accept``: if it was everywhere,
the networks get the new weights, and each rank keeps its slots; if not, all of it stays as it was.

Every value goes through the operations that it goes through in a whole vector, so the bits are the same.
"""

from contextlib import contextmanager

import mindspore as ms
import numpy as np
from mindspore import Tensor, mint, nn, ops

from ganfleet.engine.compile_cache import Graph
from ganfleet.engine.flat import Average, State, Write, summary, vector
from ganfleet.engine.phase import flatten
from ganfleet.engine.player import FlatPlayer
from ganfleet.engine.tensors import copy, named
from ganfleet.errors import ConfigError
from ganfleet.fleet import Fleet
from ganfleet.nn import forms
from ganfleet.nn.optim import cut, part_of
from ganfleet.strategies.base import Player


class ShardedPlayer(FlatPlayer):
    """A ``FlatPlayer`` on a ``fleet`` of more than one rank; see above.

    All ranks must call ``update``, ``averaged`` and ``tensors`` together. A simulated fleet holds the parts of all its
    ranks, each as a vector of its own.

    Raises:
        ConfigError: the optimizer does not say that it can work on a part of the weights.
    """

    def __init__(self, name: str, player: Player, fleet: Fleet):
        self._fleet = fleet
        super().__init__(name, player)

    def _begin(self, after_update):
        fleet = self._fleet
        whole = hasattr(self.optimizer, "of_whole")
        self._scattered = fleet.scatters and not whole
        self.collectives = 3 if self._scattered else 2
        self._state = state = ShardedState(self, after_update, fleet, self._scattered)
        names = [*self._slots(), *(["ema"] if self.ema is not None else [])]
        self._parts = {name: [part.vectors[i] for part in state.parts] for i, name in enumerate(names)}
        self._vectors = {}
        self._average, self._write, self._accept = Average(state), Write(state), Accept(state)
        self._own = None  # the weights, while the networks hold others

    def sum(self, fleet, lane_value):
        return fleet.reduce_scatter(lane_value, self.size) if self._scattered else fleet.reduce(lane_value)

    def _apply(self, total, names, values):
        if names not in self._updates:
            self._updates[names] = Propose(self._state, names)
        rows, *slots = self._updates[names](total, *values)
        return self._accept(self._fleet.join(rows), total, *slots)

    @contextmanager
    def averaged(self):
        # Kept here, as no rank may gather when the block has failed on it alone.
        before, self._own = self._own, self._get("weights")
        try:
            with super().averaged():
                yield
        finally:
            self._own = before

    def _get(self, name):
        if name == "weights":
            return np.concatenate([copy(p).reshape(-1) for p in self.weights]) if self._own is None else self._own
        own = np.concatenate([copy(part) for part in self._parts[name]])
        return copy(self._fleet.join(Tensor(own)))[: self.size]

    def _put(self, name, values):
        if name == "weights":
            self._write(Tensor(values))
            return
        for part, vector_ in zip(self._state.parts, self._parts[name], strict=True):
            ops.assign(vector_, Tensor(part.of(values)))


class Part(nn.Cell):
    """What one rank keeps: ``slots`` and ``average``, values ``start`` to ``stop`` of the player's vectors.

    It is part ``number`` of this process. Names have that and not the rank, so that graphs can be equal on all ranks.
    """

    def __init__(self, player, rank: int, number: int, width: int):
        super().__init__(auto_prefix=False)
        self.start, self.stop = rank * width, (rank + 1) * width
        self.optimizer = part_of(player.optimizer, self.start, self.stop)
        if self.optimizer is None:
            raise ConfigError(
                f"fleet.shard_optimizer is set, and the optimizer of player {player.name!r}, "
                f"{type(player.optimizer).__name__}, does not say that it can work on a part of the weights: write its "
                "part(start, stop), if it treats each weight by itself, or set fleet.shard_optimizer to false"
            )
        slots = [vector(player, f"{slot}.{number}", np.zeros(width, np.float32)) for slot in player.optimizer.slots()]
        self.slots = ms.ParameterTuple(slots)
        self.vectors = slots
        if player.ema is not None:
            start = np.concatenate([p.asnumpy().reshape(-1) for p in player.weights])
            self.average = vector(player, f"ema.{number}", self.of(start))
            self.vectors = [*slots, self.average]

    def of(self, values: np.ndarray) -> np.ndarray:
        """This part of a whole vector."""
        return cut(values, self.start, self.stop)


class ShardedState(State):
    """The parts that this process keeps, and what changes them inside a graph."""

    def __init__(self, player, after_update, fleet, scattered):
        super().__init__(player, after_update)
        self.ranks = fleet.world_size
        self.width = -(-player.size // fleet.world_size)
        self.scattered = scattered
        self.start = self.width if scattered else self.size  # of what stands behind the gradient in a sum
        self.whole = hasattr(player.optimizer, "of_whole")
        parts = [Part(player, rank, number, self.width) for number, rank in enumerate(fleet.ranks)]
        self.parts = nn.CellList(parts, auto_prefix=False)
        self.slots = ms.ParameterTuple([slot for part in self.parts for slot in part.slots])
        padding = self.width * self.ranks - self.size
        self.padding = (Tensor(np.zeros(padding, np.float32)),) if padding else ()

    def flat(self):
        """The networks' weights as one vector with zeros behind them, so that all parts are as long."""
        return ops.concat(self.map(flatten, self.weights) + self.padding)

    def propose(self, total, scale, hyper):
        updates, flat, finite = self.updates + 1, self.flat(), forms.all_finite(total)
        gradient = forms.span(total, 0, self.start) * scale
        if self.whole:
            gradient = self.optimizer.of_whole(gradient, hyper)
        if not self.scattered:
            gradient = ops.concat((gradient, *self.padding))
        rows, slots = (), ()
        for part in self.parts:
            own = gradient if self.scattered else forms.span(gradient, part.start, part.stop)
            weights = forms.span(flat, part.start, part.stop)
            weights, moved = part.optimizer.update(own, weights, part.slots, updates, hyper)
            rows = (*rows, weights, finite.astype(ms.float32).reshape(1))
            slots = slots + tuple(moved)
        return (ops.concat(rows), *slots)

    def accept(self, rows, total, slots):
        parts, signs = mint.split(rows.reshape(self.ranks, -1), (self.width, 1), 1)
        finite = signs.min() > 0
        weights = forms.span(parts.reshape(-1), 0, self.size)
        if self.after_update is not None:
            weights = self.after_update(weights)
        if not forms.branches():
            self.take(weights, total, slots, finite)
        elif finite:
            self.take(weights, total, slots, None)
        return summary(finite, total, self.start + self.seen_size)

    def take(self, weights, total, slots, finite):
        for i in range(len(slots)):
            ops.assign(self.slots[i], forms.new_or_old(finite, slots[i], self.slots[i]))
        if finite is not None:
            weights = ops.where(finite, weights, ops.concat(self.map(flatten, self.weights)))
        ops.assign(self.updates, forms.new_or_old(finite, self.updates + 1, self.updates))
        self.move_buffers(total, self.start, finite)
        self.spread(weights)

    def move_average(self, beta):
        flat = self.flat()
        for part in self.parts:
            own = forms.span(flat, part.start, part.stop)
            forms.average(part.average, own, beta)


class Propose(Graph):
    """What this process's parts become as a graph: [the part's weights, 1 if the sum is finite] for each, and slots."""

    def __init__(self, state, names):
        super().__init__()
        self.state, self.names = state, names

    @ms.jit
    def construct(self, total, scale, *hyper):
        return self.state.propose(total, scale, named(self.names, hyper))


class Accept(Graph):
    """What all ranks propose, taken over if it is finite, as a graph."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    @ms.jit
    def construct(self, rows, total, *slots):
        return self.state.accept(rows, total, slots)
