"""MindIR, MindSpore's format of graphs, as plain Python values."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ganfleet.errors import ConfigError

DTYPES = {1: "<f4", 2: "<u1", 3: "<i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8", 17: "<f8"}
"""Of TensorProto, the numbers of the types that numpy has."""


@dataclass(frozen=True)
class Node:
    """``name`` = ``operator``(``inputs``), of ``shape``, -1 where that is not known; of several results, one each."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    attributes: dict[str, Any]
    shape: tuple


@dataclass(frozen=True)
class Graph:
    """``inputs`` and ``output`` are names of values, by which ``constants`` are too. ``weights`` have the names they
    have in networks, and ``parameters`` has that name by the value's.
    """

    inputs: list[str]
    output: str
    weights: dict[str, np.ndarray]
    parameters: dict[str, str]
    constants: dict[str, Any]
    nodes: list[Node]


def read(model) -> Graph:
    """The graph of ``model``, a ModelProto.

    Raises:
        ConfigError: it calls another graph.
    """
    primitives = {each.name: each for each in model.primitives}
    parameters = {each.name: each.name.partition(":")[2] or each.name for each in model.graph.parameter}
    weights = {parameters[each.name]: _array(each) for each in model.graph.parameter}
    constants, nodes = {}, []
    for each in model.graph.node:
        attributes = {attribute.name: attribute for attribute in each.attribute}
        if each.op_type == "Constant":
            constants[each.output[0]] = _value(attributes["value"])
            continue
        operator = primitives.get(each.op_type.removeprefix("REF::"))
        if operator is None:
            raise ConfigError(
                f"the graph of these networks calls {each.op_type}, which cannot be written as ONNX: use --to mindir"
            )
        shape = _shape(attributes["shape"]) if "shape" in attributes else ()
        given = {attribute.name: _value(attribute) for attribute in operator.attribute}
        nodes.append(Node(each.output[0], operator.op_type, tuple(each.input), given, shape))
    inputs = [each.name for each in model.graph.input]
    return Graph(inputs, model.graph.output[0].name, weights, parameters, constants, nodes)


def _value(attribute) -> Any:
    """What an attribute holds; None for what is no number, text, array or tuple of such."""
    kind = type(attribute).AttributeType.Name(attribute.type)
    if kind in ("TUPLE", "LIST"):
        return tuple(_value(each) for each in attribute.values)
    if kind == "STRING":
        return (attribute.strings[0] if attribute.strings else attribute.s).decode()
    if kind in ("TENSOR", "TENSORS"):
        return _array(attribute.tensors[0] if attribute.tensors else attribute.t)
    if kind == "BOOL":
        return bool(attribute.ints[0] if attribute.ints else attribute.i)
    if kind == "FLOAT":
        return attribute.floats[0] if attribute.floats else attribute.f
    if kind == "DOUBLE":
        return attribute.doubles[0] if attribute.doubles else attribute.d
    if "INT" in kind:
        return attribute.ints[0] if attribute.ints else attribute.i
    return None


def _array(tensor) -> np.ndarray | None:
    """None where it is a type without values."""
    if not tensor.raw_data:
        return None
    return np.frombuffer(tensor.raw_data, DTYPES[tensor.data_type]).reshape(tensor.dims)


def _shape(attribute) -> tuple:
    if attribute.values:
        return tuple(_shape(each) for each in attribute.values)
    return tuple(attribute.tensors[0].dims) if attribute.tensors else ()
