"""One player at work: its networks' weights as one flat vector, with the optimizer and the EMA on that vector.

The flat vector is the truth; the networks' own parameters are written from it after every update. Parameters are
written through ``ops.assign`` only: a graph that is compiled already does not see ``set_data``.
"""

from collections.abc import Callable
from contextlib import contextmanager

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, mint, nn, ops

from ganfleet.engine import contract
from ganfleet.engine.compile_cache import Graph
from ganfleet.engine.tensors import named
from ganfleet.nn import buffers_of, forms
from ganfleet.nn.optim import Weight, bind
from ganfleet.strategies.base import Player

Tensors = dict[str, np.ndarray]
CarryOver = Callable[[str, np.ndarray, tuple[int, ...]], np.ndarray]


class FlatPlayer:
    """A strategy's ``Player``, ready to train.

    ``size`` is the number of trainable weights P; a phase's gradient for this player is flat, float32 (P,), in the
    order of ``weights``. ``buffers`` are its networks' buffers, ``seen_size`` floats of which travel behind the
    gradient. ``idle`` are parameters that this stage does not train; they are only kept.
    """

    def __init__(self, name: str, player: Player):
        self.name = name
        self.ema, self._lr_scale = player.ema, player.lr_scale
        self.nets = contract.networks(name, player)
        self.weights = [p for net in self.nets.values() for p in net.trainable_params()]
        self.buffers = [buffer for net in self.nets.values() for buffer in buffers_of(net)]
        of_buffers = {p.name for buffer in self.buffers for p in (buffer.value, buffer.seen)}
        self.idle = [p for net in self.nets.values() for p in net.untrainable_params() if p.name not in of_buffers]
        layout = [Weight(p.name, tuple(p.shape)) for p in self.weights]
        self.optimizer = bind(player.optimizer, layout)
        self.size = sum(p.size for p in self.weights)
        self.seen_size = sum(buffer.seen.size for buffer in self.buffers)
        self._state = _FlatState(self, player.after_update)
        self._updates: dict[tuple[str, ...], _Update] = {}  # by the names of what is scheduled
        self._average, self._write = _Average(self._state), _Write(self._state)

    def update(self, total: Tensor, scale: float, hyper: dict[str, float], lr_factor: float = 1.0) -> Tensor:
        """One update by the fleet's sum of [gradients, what buffers saw, …], or none where that is not finite.

        ``scale`` makes the mean gradient of the sum, and ``lr_factor`` lowers the learning rate. Returns [1 if the sum
        was finite, else 0; what stands behind the buffers in the sum], which nobody need wait for before the next phase
        begins.
        """
        scheduled = {name: value for name, value in hyper.items() if not name.startswith("ema_")}
        if "lr" in scheduled:
            scheduled["lr"] *= self._lr_scale
        hyper = {"lr": self.optimizer.lr} | scheduled
        hyper["lr"] *= lr_factor
        names = tuple(hyper)
        if names not in self._updates:
            self._updates[names] = _Update(self._state, names)
        values = (scale, *hyper.values())
        return self._updates[names](total, *(Tensor(np.float32(x)) for x in values))

    def average(self, beta: float) -> None:
        """Move the EMA; ``beta`` is the weight of the old average."""
        self._average(Tensor(np.float32(beta)))

    @contextmanager
    def averaged(self):
        """While it lasts, the networks hold the EMA of their weights, if any; buffers may be changed meanwhile."""
        if self.ema is None:
            yield
            return
        values = [_copy(buffer.value) for buffer in self.buffers]
        self._write(Tensor(_copy(self._state.average)))
        try:
            yield
        finally:
            self._write(Tensor(_copy(self._state.flat)))
            for buffer, own in zip(self.buffers, values, strict=True):
                ops.assign(buffer.value, Tensor(own))

    # ── Checkpoints

    def replicated(self) -> dict[str, tuple[Tensor, list[tuple[str, int]]]]:
        """All on the device that every rank must hold alike: the vectors of ``tensors``, and the networks' own
        parameters as ``NAME.networks``. Each with the name and the size of each tensor in it.
        """
        state, layout = self._state, [(p.name, p.size) for p in self.weights]
        vectors = {"weights": (state.flat, layout), "optimizer/updates": (state.updates, [("", 1)])}
        for slot, flat in zip(self.optimizer.slots(), state.slots, strict=True):
            vectors[f"optimizer/{slot}"] = (flat, layout)
        if self.ema is not None:
            vectors["ema"] = (state.average, layout)
        vectors |= {f"networks/{p.name}": (p, [("", p.size)]) for p in (*self.weights, *self.idle)}
        vectors |= {f"buffers/{each.value.name}": (each.value, [("", each.value.size)]) for each in self.buffers}
        return {f"{self.name}.{name}": vector for name, vector in vectors.items()}

    def tensors(self) -> dict[str, Tensors]:
        """All that training changes, by component: ``NAME.weights``, ``NAME.buffers``, ``NAME.optimizer`` and, where
        there is an average, ``NAME.ema``.
        """
        state = self._state
        components = {
            "weights": self._cut(state.flat) | {p.name: _copy(p) for p in self.idle},
            "optimizer": {"updates": _copy(state.updates).astype(np.int64).reshape(1)},
        }
        for slot, flat in zip(self.optimizer.slots(), state.slots, strict=True):
            components["optimizer"] |= {f"{slot}/{weight}": array for weight, array in self._cut(flat).items()}
        components["buffers"] = self._buffer_values()
        if self.ema is not None:
            components["ema"] = self._cut(state.average)
        return {f"{self.name}.{component}": arrays for component, arrays in components.items()}

    def load(self, components: dict[str, Tensors]) -> None:
        """Take back what ``tensors`` gave.

        Raises:
            KeyError: a tensor is missing.
            ValueError: one has another shape.
        """
        name = self.name
        self._set(components[f"{name}.weights"], components.get(f"{name}.ema"), components[f"{name}.buffers"])
        optimizer = components[f"{name}.optimizer"]
        ops.assign(self._state.updates, Tensor(np.float32(optimizer["updates"][0])))
        for slot, flat in zip(self.optimizer.slots(), self._state.slots, strict=True):
            ops.assign(flat, Tensor(self._join(optimizer, f"{slot}/")))

    def inherit(self, components: dict[str, Tensors], carry_over: CarryOver) -> None:
        """Take over what networks had under the same names; the rest stays as initialised, and so does the optimizer.

        ``carry_over(name, old, shape)`` says what becomes of an array that has another shape here.
        """
        mine = self._cut(self._state.flat) | {p.name: _copy(p) for p in self.idle}
        weights = self._taken_over(mine, components.get(f"{self.name}.weights", {}), carry_over)
        buffers = self._taken_over(self._buffer_values(), components.get(f"{self.name}.buffers", {}), carry_over)
        # The average of a weight that was not trained before is the weight.
        ema = self._taken_over(weights, components.get(f"{self.name}.ema", {}), carry_over)
        self._set(weights, ema, buffers)

    @staticmethod
    def _taken_over(mine: Tensors, theirs: Tensors, carry_over: CarryOver) -> Tensors:
        taken = dict(mine)
        for name in [name for name in mine if name in theirs]:
            same = theirs[name].shape == mine[name].shape
            taken[name] = theirs[name] if same else carry_over(name, theirs[name], mine[name].shape)
        return taken

    def _buffer_values(self) -> Tensors:
        return {buffer.value.name: _copy(buffer.value) for buffer in self.buffers}

    def _set(self, weights: Tensors, ema: Tensors | None, buffers: Tensors) -> None:
        """Set the weights, what is kept beside them, and the EMA.

        Raises:
            KeyError, ValueError: a tensor is missing, or has another shape.
        """
        state = self._state
        ops.assign(state.flat, Tensor(self._join(weights)))
        self._write(Tensor(_copy(state.flat)))
        for parameter in self.idle:
            ops.assign(parameter, Tensor(_shaped(weights, parameter)))
        for buffer in self.buffers:
            ops.assign(buffer.value, Tensor(_shaped(buffers, buffer.value)))
        if self.ema is not None:
            if ema is None:
                raise KeyError(f"{self.name}.ema")
            ops.assign(state.average, Tensor(self._join(ema)))

    def _cut(self, flat: Parameter) -> Tensors:
        parts = np.split(_copy(flat), np.cumsum([p.size for p in self.weights])[:-1])
        return {p.name: part.reshape(p.shape) for p, part in zip(self.weights, parts, strict=True)}

    def _join(self, arrays: Tensors, prefix: str = "") -> np.ndarray:
        return np.concatenate([_shaped(arrays, p, prefix).reshape(-1) for p in self.weights])


def _shaped(arrays: Tensors, parameter: Parameter, prefix: str = "") -> np.ndarray:
    """The array for ``parameter``.

    Raises:
        KeyError: there is none.
        ValueError: it has another shape.
    """
    array = arrays[prefix + parameter.name]
    if array.shape != tuple(parameter.shape):
        raise ValueError(f"{parameter.name} has shape {tuple(parameter.shape)}, not {array.shape}")
    return array


def _copy(parameter: Parameter) -> np.ndarray:
    """The values of now: on a CPU, asnumpy gives the memory that the next update writes into."""
    return parameter.asnumpy().copy()


class _FlatState(nn.Cell):
    """The flat vectors of a player, and what changes them inside a graph."""

    def __init__(self, player: FlatPlayer, after_update):
        super().__init__(auto_prefix=False)
        start = np.concatenate([p.asnumpy().reshape(-1) for p in player.weights])

        def vector(name, data):
            return Parameter(Tensor(data), name=f"flat.{player.name}.{name}", requires_grad=False)

        self.flat = vector("weights", start)
        self.slots = ms.ParameterTuple([vector(slot, np.zeros_like(start)) for slot in player.optimizer.slots()])
        self.updates = vector("updates", np.float32(0))  # exact up to 2^24; a float, because the optimizers need one
        self.average = vector("ema", start if player.ema is not None else start[:1])
        self.moving = tuple(player.buffers)
        self.weights = ms.ParameterTuple(player.weights)
        self.sizes = tuple(int(p.size) for p in player.weights)
        # Not a loop: a graph parses each turn of one anew, which takes seconds for hundreds of weights.
        self.map = ops.Map()
        self.size, self.seen_size = player.size, player.seen_size
        self.optimizer = player.optimizer
        self.after_update = after_update

    def update(self, total, scale, hyper):
        finite = forms.all_finite(total)
        # Where it can be, a branch: to choose between two values of every vector would double the cost on a CPU.
        if not forms.branches():
            self.apply(total, scale, hyper, finite)
        elif finite:
            self.apply(total, scale, hyper, None)
        tail = forms.span(total, self.size + self.seen_size, total.size)
        return ops.concat((finite.astype(ms.float32).reshape(1), tail))

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
        self.move_buffers(total, finite)
        self.spread(weights)

    def spread(self, flat):
        self.map(_assign, self.weights, mint.split(flat, self.sizes))

    def move_buffers(self, total, finite):
        """Move each buffer by what its records on all lanes add up to."""
        start = self.size
        for buffer in self.moving:
            stop = start + buffer.seen.size
            moved = buffer.moved(forms.span(total, start, stop))
            ops.assign(buffer.value, forms.new_or_old(finite, moved, buffer.value))
            start = stop


def _assign(weight, part):
    return ops.assign(weight, part.reshape(weight.shape))


class _Update(Graph):
    """One update as a graph. Only a Cell's ``construct`` in graph mode runs without a waiting thread that spins."""

    def __init__(self, state, names):
        super().__init__()
        self.state, self.names = state, names

    @ms.jit
    def construct(self, total, scale, *hyper):
        return self.state.update(total, scale, named(self.names, hyper))


class _Average(Graph):
    """The EMA of the weights as they are now, as a graph."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    @ms.jit
    def construct(self, beta):
        state = self.state
        ops.assign(state.average, state.flat + (state.average - state.flat) * beta)
        return beta


class _Write(Graph):
    """A flat vector into the networks' own parameters, as a graph."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    @ms.jit
    def construct(self, flat):
        self.state.spread(flat)
        return flat[:1]
