"""The state of a run at one step, as plain arrays and JSON. How it lies on disk is the business of ``checkpoint``."""

import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DTYPES += ("float16", "float32", "float64", "complex64")


@dataclass
class Snapshot:
    """The state of a run at one step.

    Attributes:
        tensors: component name → tensor name → array, with components such as ``G.weights`` or ``D.optimizer``.
        facts: component name → JSON value, with components such as ``clock`` or ``data``.
        config: the resolved config, as JSON. It is saved, but it is no part of the digest.

    Raises:
        TypeError: an array has a dtype that cannot be read back (bfloat16, strings), or a fact is not JSON.
        ValueError: a component name is used twice, is no file name, or is the reserved word ``total``.
    """

    tensors: dict[str, dict[str, np.ndarray]]
    facts: dict[str, Any]
    config: dict[str, Any]

    def __post_init__(self) -> None:
        names = [*self.tensors, *self.facts]
        for name in names:
            if names.count(name) > 1 or name == "total" or not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(f"checkpoint component {name!r} must be unique, a plain file name, and not 'total'")
        self.tensors = {
            component: {name: storable(array, f"{component}/{name}") for name, array in tensors.items()}
            for component, tensors in self.tensors.items()
        }
        self.facts = json.loads(json.dumps(self.facts))  # so that what is saved is what will be loaded
        self.config = json.loads(json.dumps(self.config))


def storable(array: np.ndarray, name: str) -> np.ndarray:
    """A C-ordered array in native byte order: safetensors would silently store a strided one wrongly.

    Raises:
        TypeError: its dtype cannot be read back.
    """
    array = np.asarray(array, order="C")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.name not in DTYPES:
        raise TypeError(
            f"{name} has dtype {array.dtype}, which a checkpoint cannot hold: use one of {', '.join(DTYPES)}"
        )
    return array


def nonfinite(snapshot: Snapshot) -> list[str]:
    """The tensors of ``snapshot`` that hold a NaN or an infinity, each as ``component/name``, sorted."""
    return sorted(
        f"{component}/{name}"
        for component, tensors in snapshot.tensors.items()
        for name, array in tensors.items()
        if not np.isfinite(array).all()
    )
