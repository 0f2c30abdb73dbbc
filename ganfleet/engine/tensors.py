"""Named host arrays into a graph and back out by name.

A graph freezes tensors that arrive inside a tuple or dict, so they go in one by one and are named again inside.
"""

import json
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops


def tensors(arrays: dict[str, np.ndarray | Tensor]) -> dict[str, Tensor]:
    """A tensor for each array: floats as float32, integers and booleans as int32. What is a tensor stays one."""
    return {name: each if isinstance(each, Tensor) else Tensor(float_or_int(each)) for name, each in arrays.items()}


@lru_cache(maxsize=1024)  # each is brought to a card once; of learning rates that follow a schedule there are many
def scalar(value: float) -> Tensor:
    """A float32 scalar for graphs, which never write into what they are given."""
    return Tensor(np.float32(value))


@cache
def zeros(size: int) -> Tensor:
    """float32 (size,), for graphs too."""
    return Tensor(np.zeros(size, np.float32))


def copy(values: Tensor | np.ndarray) -> np.ndarray:
    """The values of now: on a CPU, asnumpy gives a graph's own memory, which the next update of a parameter changes."""
    return np.array(values.asnumpy() if isinstance(values, Tensor) else values)


def named(names: tuple[str, ...], values) -> dict[str, Tensor]:
    """``values`` by name, inside a graph. A named tuple would be nicer to read, and get gradients of zero."""
    result = {}
    for i in range(len(names)):
        result[names[i]] = values[i]
    return result


@ops.constexpr
def written(value: Any) -> Tensor:
    """What the compiler knows (names, shapes), as an int32 tensor of the bytes of a JSON text.

    A graph that returns a dict goes through Python at every run, and one that returns a string cannot be stored.
    """
    return Tensor(np.frombuffer(json.dumps(value).encode(), np.uint8).astype(np.int32))


def read(tensor: Tensor) -> Any:
    """What was ``written``."""
    return json.loads(bytes(tensor.asnumpy().astype(np.uint8)))


def values(vectors: Sequence[Tensor]) -> list[np.ndarray]:
    """The values of flat ``vectors``. From a card all come in one copy, as the host waits for each."""
    if len(vectors) < 2 or ms.get_context("device_target") == "CPU":
        return [vector.asnumpy() for vector in vectors]
    ends = np.cumsum([vector.size for vector in vectors])
    return np.split(ops.concat(tuple(vectors)).asnumpy(), ends[:-1])


def float_or_int(array: np.ndarray) -> np.ndarray:
    """``array`` of the type that a tensor of it has."""
    array = np.asarray(array)
    kind = np.float32 if np.issubdtype(array.dtype, np.floating) else np.int32
    return np.asarray(array, dtype=kind, order="C")
