"""Arrays of the host on their way to the device."""

from collections.abc import Sequence
from functools import cache

import mindspore as ms
import numpy as np
from mindspore import Tensor, mint

from ganfleet.engine.compile_cache import Graph
from ganfleet.engine.tensors import float_or_int, tensors

Shapes = tuple[tuple[int, ...], ...]


def upload(arrays: Sequence[dict[str, np.ndarray]]) -> list[dict[str, Tensor]]:
    """The ``tensors`` of each of ``arrays``. To a card all of one type go in one copy, and are cut apart there."""
    if ms.get_context("device_target") == "CPU":
        return [tensors(each) for each in arrays]
    return in_one_copy(arrays)


def in_one_copy(arrays: Sequence[dict[str, np.ndarray]]) -> list[dict[str, Tensor]]:
    """As ``upload`` does for a card."""
    sent = [{name: float_or_int(array) for name, array in each.items()} for each in arrays]
    result: list[dict[str, Tensor]] = [{} for _ in arrays]
    for kind in (np.float32, np.int32):
        of_kind = [
            (i, name, array) for i, each in enumerate(sent) for name, array in each.items() if array.dtype == kind
        ]
        if of_kind:
            parts = _cut(tuple(array.shape for *_, array in of_kind))
            flat = Tensor(np.concatenate([array.reshape(-1) for *_, array in of_kind]))
            for (i, name, _), part in zip(of_kind, parts(flat), strict=True):
                result[i][name] = part
    return result


class _Cut(Graph):
    """Cuts a flat vector into tensors of ``shapes``. A graph, as what a graph is given must not be a view."""

    def __init__(self, shapes: Shapes):
        super().__init__()
        self.shapes = shapes
        self.sizes = tuple(int(np.prod(shape)) for shape in shapes)

    @ms.jit
    def construct(self, flat):
        flats = mint.split(flat, self.sizes)
        parts = ()
        for i in range(len(self.shapes)):
            parts = (*parts, flats[i].reshape(self.shapes[i]))
        return parts


_cut = cache(_Cut)  # one for each tuple of shapes
