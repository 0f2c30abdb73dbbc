"""One player at work: its networks' weights as one flat vector, with the optimizer and the EMA on that vector.

The flat vector is the truth; the networks' own parameters are written from it after every update. Parameters are
written through ``ops.assign`` only: a graph that is compiled already does not see ``set_data``.
"""

from contextlib import contextmanager

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, mint, nn, ops

from ganfleet.engine import contract
from ganfleet.nn import RunningStats
from ganfleet.strategies.base import Player


class FlatPlayer:
    """A strategy's ``Player``, ready to train.

    ``size`` is the number of trainable weights P; a phase's gradient for this player is flat, float32 (P,), in the
    order of ``weights``. ``layers`` are its layers with running statistics, ``stats_size`` floats of which travel
    behind the gradient. ``idle`` are parameters that this stage does not train; they are only kept.
    """

    def __init__(self, name: str, player: Player):
        self.name = name
        self.optimizer = player.optimizer
        self.ema = player.ema
        self.nets = contract.networks(name, player)
        self.weights = [p for net in self.nets.values() for p in net.trainable_params()]
        self.layers = [
            cell for net in self.nets.values() for _, cell in net.cells_and_names() if isinstance(cell, RunningStats)
        ]
        statistics = {p.name for layer in self.layers for p in (layer.running, layer.seen)}
        self.idle = [p for net in self.nets.values() for p in net.untrainable_params() if p.name not in statistics]
        self.size = sum(p.size for p in self.weights)
        self.stats_size = sum(layer.seen.size for layer in self.layers)
        self.updates = 0
        self._state = _FlatState(self, player.after_update)
        self._update, self._write = _Update(self._state), _Write(self._state)

    def apply(self, flat: Tensor, lanes: int, lr: float, beta: float) -> None:
        """One update with the fleet's sum of [gradients, running statistics, …] over ``lanes`` lanes.

        ``beta`` is the weight of the old average in the EMA.
        """
        self.updates += 1
        self._update(flat, *(Tensor(np.float32(x)) for x in (1 / lanes, self.updates, lr, beta)))

    @contextmanager
    def averaged(self):
        """While it lasts, the networks hold the EMA of their weights, if any; running statistics may change."""
        if self.ema is None:
            yield
            return
        running = [_copy(layer.running) for layer in self.layers]
        self._write(self._state.average)
        try:
            yield
        finally:
            self._write(self._state.flat)
            for layer, own in zip(self.layers, running, strict=True):
                ops.assign(layer.running, Tensor(own))

    def tensors(self) -> dict[str, dict[str, np.ndarray]]:
        """All that training changes, by component: ``NAME.weights``, ``NAME.optimizer``, with an EMA ``NAME.ema``."""
        state = self._state
        components = {
            "weights": self._cut(state.flat) | {p.name: _copy(p) for p in self._kept()},
            "optimizer": {"updates": np.int64(self.updates).reshape(1)},
        }
        for slot, flat in zip(self.optimizer.slots(), state.slots, strict=True):
            named = self._cut(flat)
            components["optimizer"] |= {f"{slot}/{weight}": array for weight, array in named.items()}
        if self.ema is not None:
            components["ema"] = self._cut(state.average)
        return {f"{self.name}.{component}": arrays for component, arrays in components.items()}

    def load(self, components: dict[str, dict[str, np.ndarray]]) -> None:
        """Take back what ``tensors`` gave.

        Raises:
            KeyError: a tensor is missing.
        """
        self._set(components[f"{self.name}.weights"], components.get(f"{self.name}.ema"))
        optimizer = components[f"{self.name}.optimizer"]
        self.updates = int(optimizer["updates"][0])
        for slot, flat in zip(self.optimizer.slots(), self._state.slots, strict=True):
            ops.assign(flat, Tensor(self._join(optimizer, f"{slot}/")))

    def inherit(self, components: dict[str, dict[str, np.ndarray]]) -> None:
        """Take over what networks of another stage had under the same names; the rest stays as initialised."""
        weights = self._cut(self._state.flat) | {p.name: _copy(p) for p in self._kept()}
        weights |= components[f"{self.name}.weights"]
        # The average of a weight that was not trained before is the weight.
        self._set(weights, weights | components.get(f"{self.name}.ema", {}))

    def _set(self, weights: dict[str, np.ndarray], ema: dict[str, np.ndarray] | None) -> None:
        """Set the weights, what is kept beside them, and the EMA.

        Raises:
            KeyError, ValueError: a tensor is missing, or has another shape.
        """
        state = self._state
        ops.assign(state.flat, Tensor(self._join(weights)))
        self._write(state.flat)
        for parameter in self._kept():
            ops.assign(parameter, Tensor(_shaped(weights, parameter)))
        if self.ema is not None:
            ops.assign(state.average, Tensor(self._join(ema)))

    def _kept(self) -> list[Parameter]:
        """What belongs to the weights, and no gradient reaches."""
        return [layer.running for layer in self.layers] + self.idle

    def _cut(self, flat: Parameter) -> dict[str, np.ndarray]:
        parts = np.split(_copy(flat), np.cumsum([p.size for p in self.weights])[:-1])
        return {p.name: part.reshape(p.shape) for p, part in zip(self.weights, parts, strict=True)}

    def _join(self, named: dict[str, np.ndarray], prefix: str = "") -> np.ndarray:
        return np.concatenate([_shaped(named, p, prefix).reshape(-1) for p in self.weights])


def _shaped(named: dict[str, np.ndarray], parameter: Parameter, prefix: str = "") -> np.ndarray:
    """The array for ``parameter``.

    Raises:
        KeyError: there is none.
        ValueError: it has another shape.
    """
    array = named[prefix + parameter.name]
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
        self.has_ema = player.ema is not None
        self.average = vector("ema", start if self.has_ema else start[:1])
        self.running = ms.ParameterTuple([layer.running for layer in player.layers])
        self.momenta = tuple(layer.momentum for layer in player.layers)
        self.weights = ms.ParameterTuple(player.weights)
        self.sizes = tuple(int(p.size) for p in player.weights)
        # Not a loop: a graph parses each turn of one anew, which takes seconds for hundreds of weights.
        self.map = ops.Map()
        self.size = player.size
        self.optimizer = player.optimizer
        self.after_update = after_update

    def apply(self, total, scale, t, lr, beta):
        gradient = total[: self.size] * scale
        weights, slots = self.optimizer.update(gradient, self.flat, self.slots, t, lr)
        if self.after_update is not None:
            weights = self.after_update(weights)
        for i in range(len(slots)):
            ops.assign(self.slots[i], slots[i])
        ops.assign(self.flat, weights)
        if self.has_ema:
            ops.assign(self.average, weights + (self.average - weights) * beta)
        self.update_running(total)
        self.spread(weights)
        return t

    def spread(self, flat):
        self.map(_assign, self.weights, mint.split(flat, self.sizes))

    def update_running(self, total):
        """Move each layer's running statistics towards the mean of what its calls on all lanes saw."""
        start = self.size
        for i in range(len(self.momenta)):
            running = self.running[i]
            size = 2 * running.shape[1]
            sums, calls = total[start : start + size], total[start + size]
            ops.assign(running, running + (sums.reshape(running.shape) / calls - running) * self.momenta[i])
            start = start + size + 1


def _assign(weight, part):
    return ops.assign(weight, part.reshape(weight.shape))


class _Update(nn.Cell):
    """One update as a graph. Only a Cell's ``construct`` in graph mode runs without a waiting thread that spins."""

    def __init__(self, state):
        super().__init__(auto_prefix=False)
        self.state = state

    @ms.jit
    def construct(self, total, scale, t, lr, beta):
        return self.state.apply(total, scale, t, lr, beta)


class _Write(nn.Cell):
    """A flat vector into the networks' own parameters, as a graph."""

    def __init__(self, state):
        super().__init__(auto_prefix=False)
        self.state = state

    @ms.jit
    def construct(self, flat):
        self.state.spread(flat)
        return flat[:1]
