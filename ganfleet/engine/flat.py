"""A player's vectors in graphs: what every update moves, and the update and the average of whole vectors."""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, mint, nn, ops

from ganfleet.engine.compile_cache import Graph
from ganfleet.engine.tensors import named
from ganfleet.nn import forms
from ganfleet.nn.optim import works_in_place


class State(nn.Cell):
    """What a graph needs of ``player``, an ``engine.player.FlatPlayer``, whose ``after_update`` this is."""

    def __init__(self, player, after_update):
        super().__init__(auto_prefix=False)
        self.updates = vector(player, "updates", np.float32(0))  # exact up to 2^24; optimizers need a float
        self.moving = tuple(player.buffers)
        self.weights = ms.ParameterTuple(player.weights)
        self.sizes = tuple(int(p.size) for p in player.weights)
        # Not a loop: a graph parses each turn of one anew, which takes seconds for hundreds of weights.
        self.map = ops.Map()
        self.size, self.seen_size = player.size, player.seen_size
        self.optimizer = player.optimizer
        self.after_update = after_update

    def spread(self, flat):
        """Write the flat weights (P,) into the networks' own."""
        if forms.in_place():
            forms.spread_in_place(flat, self.weights)
        else:
            self.map(_assign, self.weights, mint.split(flat, self.sizes))

    def move_buffers(self, total, start, finite):
        """Move each buffer by what its records on all lanes add up to; they begin at ``start`` of ``total``.

        Some move by the networks' own weights, as they were before the update: call this before these are written.
        """
        for buffer in self.moving:
            stop = start + buffer.seen.size
            moved = buffer.moved(forms.span(total, start, stop))
            ops.assign(buffer.value, forms.new_or_old(finite, moved, buffer.value))
            start = stop


class WholeState(State):
    """The vectors of a player as one process holds them, and what changes them inside a graph."""

    def __init__(self, player, after_update):
        super().__init__(player, after_update)
        start = np.concatenate([p.asnumpy().reshape(-1) for p in player.weights])
        self.flat = vector(player, "weights", start)
        slots = [vector(player, slot, np.zeros_like(start)) for slot in player.optimizer.slots()]
        self.slots = ms.ParameterTuple(slots)
        self.average = vector(player, "ema", start if player.ema is not None else start[:1])
        # Fewer passes over memory, which are what an update costs on a CPU.
        self.in_place = after_update is None and works_in_place(player.optimizer)

    def update(self, total, scale, hyper):
        finite = forms.all_finite(total)
        # Where it can be, a branch: to choose between two values of every vector would double the cost on a CPU.
        if not forms.branches():
            self.apply(total, scale, hyper, finite)
        elif finite:
            if self.in_place and forms.in_place():
                self.apply_in_place(total, scale, hyper)
            else:
                self.apply(total, scale, hyper, None)
        return summary(finite, total, self.size + self.seen_size)

    def apply(self, total, scale, hyper, finite):
        gradient = forms.span(total, 0, self.size) * scale
        updates = self.updates + 1
        weights, slots = self.optimizer.update(gradient, self.flat, self.slots, updates, hyper)
        if self.after_update is not None:
            weights = self.after_update(weights)
        for i in range(len(slots)):
            ops.assign(self.slots[i], forms.new_or_old(finite, slots[i], self.slots[i]))
        weights = forms.new_or_old(finite, weights, self.flat)
        ops.assign(self.flat, weights)
        ops.assign(self.updates, forms.new_or_old(finite, updates, self.updates))
        self.move_buffers(total, self.size, finite)
        self.spread(weights)

    def apply_in_place(self, total, scale, hyper):
        updates = self.updates + 1
        self.move_buffers(total, self.size, None)
        self.optimizer.update_in_place(total, scale, self.flat, self.slots, self.weights, updates, hyper)
        ops.assign(self.updates, updates)

    def move_average(self, beta):
        forms.average(self.average, self.flat, beta)


def vector(player, name: str, data: np.ndarray) -> Parameter:
    """A vector of ``player``'s that is no network's."""
    return Parameter(Tensor(data), name=f"flat.{player.name}.{name}", requires_grad=False)


def _assign(weight, part):
    return ops.assign(weight, part.reshape(weight.shape))


def summary(finite, total, start):
    """[1 if the sum was finite, else 0; what stands in ``total`` from ``start`` on], in a graph."""
    return ops.concat((finite.astype(ms.float32).reshape(1), forms.span(total, start, total.size)))


class Update(Graph):
    """One update as a graph. Only a Cell's ``construct`` in graph mode runs without a waiting thread that spins."""

    def __init__(self, state, names):
        super().__init__()
        self.state, self.names = state, names

    @ms.jit
    def construct(self, total, scale, *hyper):
        return self.state.update(total, scale, named(self.names, hyper))


class Average(Graph):
    """The EMA of the weights as they are now, as a graph."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    @ms.jit
    def construct(self, beta):
        self.state.move_average(beta)
        return beta


class Write(Graph):
    """A flat vector into the networks' own parameters, as a graph."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    @ms.jit
    def construct(self, flat):
        self.state.spread(flat)
        return flat[:1]
