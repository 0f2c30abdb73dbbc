"""Named host arrays into a graph and back out by name.

A graph freezes tensors that arrive inside a tuple or dict, so they go in one by one and are named again inside.
"""

import numpy as np
from mindspore import Tensor


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """A tensor for each array: floats as float32, integers and booleans as int32."""
    return {name: _tensor(np.asarray(array)) for name, array in arrays.items()}


def named(names: tuple[str, ...], values) -> dict[str, Tensor]:
    """``values`` by name, inside a graph. A named tuple would be nicer to read, and get gradients of zero."""
    result = {}
    for i in range(len(names)):
        result[names[i]] = values[i]
    return result


def _tensor(array: np.ndarray) -> Tensor:
    kind = np.float32 if np.issubdtype(array.dtype, np.floating) else np.int32
    return Tensor(np.asarray(array, dtype=kind, order="C"))
