"""One player at work: its networks' weights as one flat vector, with the optimizer and the EMA on that vector.

The flat vector is the truth; the networks' own parameters are written from it after every update. Parameters are
written through ``ops.assign`` only: a graph that is compiled already does not see ``set_data``.
"""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np
from mindspore import Parameter, Tensor, ops

from ganfleet.engine import contract
from ganfleet.engine.flat import Average, Update, WholeState, Write
from ganfleet.engine.tensors import copy, scalar
from ganfleet.fleet import Fleet
from ganfleet.nn import buffers_of
from ganfleet.nn.optim import Weight, bind
from ganfleet.strategies.base import Player

Tensors = dict[str, np.ndarray]
CarryOver = Callable[[str, np.ndarray, tuple[int, ...]], np.ndarray]


class FlatPlayer:
    """A strategy's ``Player``, ready to train.

    ``size`` is the number of trainable weights P; a phase's gradient for this player is flat, float32 (P,), in the
    order of ``weights``. ``buffers`` are its networks' buffers, ``seen_size`` floats of which travel behind the
    gradient. ``idle`` are parameters that this stage does not train; they are only kept. A phase and its update take
    so many ``collectives``.
    """

    collectives = 1

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
        self._updates: dict[tuple[str, ...], Any] = {}  # graphs, by the names of what is scheduled
        self._begin(player.after_update)

    def _begin(self, after_update: Callable | None) -> None:
        """Make the vectors, and the graphs that change them."""
        self._state = state = WholeState(self, after_update)
        self._vectors = {"weights": state.flat}
        self._vectors |= dict(zip(self._slots(), state.slots, strict=True))
        if self.ema is not None:
            self._vectors["ema"] = state.average
        self._average, self._write = Average(state), Write(state)

    def sum(self, fleet: Fleet, lane_value: Callable[[int], Tensor]) -> Tensor:
        """What ``update`` takes: the sum over all lanes of the fleet of ``lane_value(lane)``."""
        return fleet.reduce(lane_value)

    def update(self, total: Tensor, scale: Tensor, hyper: dict[str, float], lr_factor: float = 1.0) -> Tensor:
        """One update by the fleet's sum of [gradients, what buffers saw, …], or none where that is not finite.

        ``scale`` () makes the mean gradient of the sum, and ``lr_factor`` lowers the learning rate. Returns [1 if the
        sum was finite, else 0; what stands behind the buffers in the sum], which nobody need wait for before the next
        phase begins.
        """
        scheduled = {name: value for name, value in hyper.items() if not name.startswith("ema_")}
        if "lr" in scheduled:
            scheduled["lr"] *= self._lr_scale
        hyper = {"lr": self.optimizer.lr} | scheduled
        hyper["lr"] *= lr_factor
        return self._apply(total, tuple(hyper), [scale, *map(scalar, hyper.values())])

    def _apply(self, total: Tensor, names: tuple[str, ...], values: list[Tensor]) -> Tensor:
        """``update`` by ``values``, the scale and then what ``names`` names."""
        if names not in self._updates:
            self._updates[names] = Update(self._state, names)
        return self._updates[names](total, *values)

    def average(self, beta: float) -> None:
        """Move the EMA; ``beta`` is the weight of the old average."""
        self._average(scalar(beta))

    @contextmanager
    def averaged(self):
        """While it lasts, the networks hold the EMA of their weights, if any; buffers may be changed meanwhile."""
        if self.ema is None:
            yield
            return
        values = [copy(buffer.value) for buffer in self.buffers]
        self._write(Tensor(self._get("ema")))
        try:
            yield
        finally:
            self._write(Tensor(self._get("weights")))
            for buffer, own in zip(self.buffers, values, strict=True):
                ops.assign(buffer.value, Tensor(own))

    # ── The vectors, by name: "weights", "optimizer/SLOT", "ema"

    def _slots(self) -> list[str]:
        return [f"optimizer/{slot}" for slot in self.optimizer.slots()]

    def _get(self, name: str) -> np.ndarray:
        """A copy of the whole vector, float32 (P,)."""
        return copy(self._vectors[name])

    def _put(self, name: str, values: np.ndarray) -> None:
        """Set the vector; the networks' own parameters follow the weights."""
        ops.assign(self._vectors[name], Tensor(values))
        if name == "weights":
            self._write(Tensor(values))

    # ── Checkpoints

    def replicated(self) -> dict[str, tuple[Tensor, list[tuple[str, int]]]]:
        """All on the device that every rank must hold alike: the vectors of ``tensors``, and the networks' own
        parameters as ``NAME.networks``. Each with the name and the size of each tensor in it.
        """
        layout = [(p.name, p.size) for p in self.weights]
        vectors = {name: (vector, layout) for name, vector in self._vectors.items()}
        vectors["optimizer/updates"] = (self._state.updates, [("", 1)])
        vectors |= {f"networks/{p.name}": (p, [("", p.size)]) for p in (*self.weights, *self.idle)}
        vectors |= {f"buffers/{each.value.name}": (each.value, [("", each.value.size)]) for each in self.buffers}
        return {f"{self.name}.{name}": vector for name, vector in vectors.items()}

    def tensors(self) -> dict[str, Tensors]:
        """All that training changes, by component: ``NAME.weights``, ``NAME.buffers``, ``NAME.optimizer`` and, where
        there is an average, ``NAME.ema``.
        """
        components = {
            "weights": self._cut(self._get("weights")) | {p.name: copy(p) for p in self.idle},
            "optimizer": {"updates": copy(self._state.updates).astype(np.int64).reshape(1)},
        }
        for slot in self.optimizer.slots():
            arrays = self._cut(self._get(f"optimizer/{slot}"))
            components["optimizer"] |= {f"{slot}/{weight}": array for weight, array in arrays.items()}
        components["buffers"] = self._buffer_values()
        if self.ema is not None:
            components["ema"] = self._cut(self._get("ema"))
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
        for slot in self.optimizer.slots():
            self._put(f"optimizer/{slot}", self._join(optimizer, f"{slot}/"))

    def inherit(self, components: dict[str, Tensors], carry_over: CarryOver) -> None:
        """Take over what networks had under the same names; the rest stays as initialised, and so does the optimizer.

        ``carry_over(name, old, shape)`` says what becomes of an array that has another shape here.
        """
        mine = self._cut(self._get("weights")) | {p.name: copy(p) for p in self.idle}
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
        return {buffer.value.name: copy(buffer.value) for buffer in self.buffers}

    def _set(self, weights: Tensors, ema: Tensors | None, buffers: Tensors) -> None:
        """Set the weights, what is kept beside them, and the EMA.

        Raises:
            KeyError, ValueError: a tensor is missing, or has another shape.
        """
        self._put("weights", self._join(weights))
        for parameter in self.idle:
            ops.assign(parameter, Tensor(_shaped(weights, parameter)))
        for buffer in self.buffers:
            ops.assign(buffer.value, Tensor(_shaped(buffers, buffer.value)))
        if self.ema is not None:
            if ema is None:
                raise KeyError(f"{self.name}.ema")
            self._put("ema", self._join(ema))

    def _cut(self, flat: np.ndarray) -> Tensors:
        parts = np.split(flat, np.cumsum([p.size for p in self.weights])[:-1])
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
