"""MindIR to ONNX, operator by operator.

MindSpore's own export to ONNX lacks operators that networks here have (Rsqrt, MirrorPad), and fixes the number of
images. This one walks the graph that MindSpore exports as MindIR. So it does for every model whose operators are in
the table, whatever its layers; and sizes that the graph leaves open stay open.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ganfleet.errors import ConfigError
from ganfleet.store.mindir import Graph, Node

OPSET, IR_VERSION = 17, 8
OUTPUT = "image"
TO_THE_END = 2**63 - 1
INSTEAD = "use --to mindir"


@dataclass(frozen=True)
class Value:
    """A tensor of the ONNX graph, of ``shape``, -1 where that is not known."""

    name: str
    shape: tuple


@dataclass(frozen=True)
class Scalar:
    """A number that inputs decide: the ONNX tensor (1,) called ``name``.

    ``linear`` is (tensor, axis, factor, offset) where it is that size of that tensor times factor plus offset.
    """

    name: str
    linear: tuple[str, int, int, int] | None = None


@dataclass(frozen=True)
class Input:
    """An input of the graph; ``axes`` are sizes, and names of those that are not fixed."""

    name: str
    axes: tuple[int | str, ...]
    dtype: Any


def converted(graph: Graph, inputs: list[Input], about: dict[str, str]) -> ModelProto:
    """``graph`` as an ONNX model that gives ``image``.

    Args:
        inputs: the graph's, in its order.
        about: what the file says of itself.

    Raises:
        ConfigError: the graph has an operator that is not in the table.
    """
    writer = _Writer()
    values: dict[str, Any] = dict(graph.constants)
    for name, each in zip(graph.inputs, inputs, strict=True):
        values[name] = Value(each.name, tuple(axis if isinstance(axis, int) else -1 for axis in each.axes))
    for name, plain in graph.parameters.items():
        writer.initializers[plain] = numpy_helper.from_array(graph.weights[plain], plain)
        values[name] = Value(plain, graph.weights[plain].shape)
    for node in graph.nodes:
        if node.operator not in TABLE:
            raise ConfigError(f"{node.operator}, an operator of these networks, has no form in ONNX here: {INSTEAD}")
        values[node.name] = TABLE[node.operator](writer, node, *(values.get(name) for name in node.inputs))
    image = values[graph.output]
    writer.nodes.append(helper.make_node("Identity", [image.name], [OUTPUT]))
    used = {name for node in writer.nodes for name in node.input}
    shape = [side if side >= 0 else None for side in image.shape]
    made = helper.make_graph(
        writer.nodes,
        "ganfleet",
        [helper.make_tensor_value_info(i.name, helper.np_dtype_to_tensor_dtype(i.dtype), i.axes) for i in inputs],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [inputs[0].axes[0], *shape[1:]])],
        [tensor for name, tensor in writer.initializers.items() if name in used],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="ganfleet")
    helper.set_model_props(model, about)
    return model


@dataclass
class _Writer:
    nodes: list = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)

    def node(self, operator: str, *inputs: str, **attributes) -> str:
        return self.several(operator, 1, *inputs, **attributes)[0]

    def several(self, operator: str, count: int, *inputs: str, **attributes) -> list[str]:
        names = [f"{operator}_{len(self.nodes)}_{i}" for i in range(count)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names

    def constant(self, value: Any, dtype: Any = None) -> str:
        name = f"constant_{len(self.initializers)}"
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def ints(self, values: tuple) -> str:
        """A vector of ints and Scalars."""
        if all(isinstance(each, int) for each in values):
            return self.constant(list(values), np.int64)
        parts = [each.name if isinstance(each, Scalar) else self.constant([each], np.int64) for each in values]
        return self.node("Concat", *parts, axis=0)

    def reshaped(self, name: str, shape: tuple) -> str:
        unknown = [each for each in shape if isinstance(each, Scalar)]
        if len(unknown) == 1 and -1 not in shape:  # so no sum need find it out
            shape = tuple(-1 if each is unknown[0] else each for each in shape)
        return self.node("Reshape", name, self.ints(shape))


def _name(writer: _Writer, value: Any) -> str:
    """The name of ``value``, which may be a constant."""
    if isinstance(value, Value):
        return value.name
    return writer.constant(value, np.float32 if isinstance(value, int | float) else None)


# ── The table

TABLE: dict[str, Callable] = {}
"""By MindSpore's name of an operator, what writes it: ``write(writer, node, *inputs)`` gives its value."""


def _writes(*operators: str) -> Callable:
    def put(function: Callable) -> Callable:
        TABLE.update(dict.fromkeys(operators, function))
        return function

    return put


def _renamed(theirs: str, ours: str, inputs: int) -> None:
    def write(writer, node, *given):
        return Value(writer.node(theirs, *(_name(writer, each) for each in given[:inputs])), node.shape)

    TABLE[ours] = write


for _each in ("Add", "Sub", "Mul", "Div", "Pow"):
    _renamed(_each, _each, 2)
for _theirs, _ours in (("Mul", "Muls"), ("Div", "RealDiv"), ("Max", "Maximum"), ("Min", "Minimum")):
    _renamed(_theirs, _ours, 2)
for _each in ("Tanh", "Sigmoid", "Sqrt", "Exp", "Log", "Neg", "Abs", "Softplus"):
    _renamed(_each, _each, 1)
_renamed("Relu", "ReLU", 1)


@_writes("Load", "Depend", "StopGradient")
def _same(writer, node, x, *_):
    return x


@_writes("UpdateState")
def _nothing(writer, node, *_):
    return None


@_writes("MakeTuple")
def _tuple(writer, node, *parts):
    return parts


@_writes("TupleGetItem")
def _item(writer, node, parts, index):
    return parts[index]


@_writes("Shape")
def _shape(writer, node, x):
    sides = []
    for axis, side in enumerate(x.shape):
        if side < 0:
            vector = writer.node("Shape", x.name)
            name = writer.node("Gather", vector, writer.constant([axis], np.int64), axis=0)
            side = Scalar(name, (x.name, axis, 1, 0))
        sides.append(side)
    return tuple(sides)


@_writes("ScalarAdd", "ScalarSub", "ScalarMul", "ScalarFloorDiv", "ScalarDiv")
def _scalar(writer, node, a, b):
    operator = node.operator.removeprefix("Scalar").removeprefix("Floor")
    names = [each.name if isinstance(each, Scalar) else writer.constant([each], np.int64) for each in (a, b)]
    linear = None
    if isinstance(a, Scalar) and a.linear and isinstance(b, int):
        tensor, axis, factor, offset = a.linear
        known = {"Add": (factor, offset + b), "Sub": (factor, offset - b), "Mul": (factor * b, offset * b)}
        if operator in known:
            linear = (tensor, axis, *known[operator])
    return Scalar(writer.node(operator, *names), linear)


@_writes("Square")
def _square(writer, node, x):
    return Value(writer.node("Mul", x.name, x.name), node.shape)


@_writes("Rsqrt")
def _rsqrt(writer, node, x):
    return Value(writer.node("Reciprocal", writer.node("Sqrt", x.name)), node.shape)


@_writes("Conv2D")
def _conv(writer, node, x, weight):
    settings = _geometry(node, weight)
    return Value(writer.node("Conv", x.name, _name(writer, weight), **settings), node.shape)


@_writes("Conv2DTranspose", "Conv2DBackpropInput")
def _conv_transpose(writer, node, y, weight, size):
    settings = _geometry(node, weight)
    settings["output_padding"] = [
        _growth(y, 2 + i, size[2 + i], settings["strides"][i])
        + settings["strides"][i]
        - settings["dilations"][i] * (settings["kernel_shape"][i] - 1)
        - 1
        + settings["pads"][i]
        + settings["pads"][2 + i]
        for i in (0, 1)
    ]
    return Value(writer.node("ConvTranspose", y.name, _name(writer, weight), **settings), node.shape)


def _growth(y: Value, axis: int, size: int | Scalar, stride: int) -> int:
    """``size`` less ``stride`` times the side of ``y``.

    Raises:
        ConfigError: that is another number for other sides.
    """
    if isinstance(size, int):
        return size - stride * y.shape[axis]
    if size.linear and size.linear[:3] == (y.name, axis, stride):
        return size.linear[3]
    raise ConfigError(f"a transposed convolution does not enlarge by {stride} and a number, as ONNX's do: {INSTEAD}")


def _geometry(node: Node, weight: Any) -> dict[str, Any]:
    """
    Raises:
        ConfigError: borders are not given as numbers.
    """
    given = node.attributes
    mode = str(given["pad_mode"]).lower()
    if mode not in ("pad", "valid"):
        raise ConfigError(f"a convolution has pad_mode {mode}, which has no form in ONNX here: {INSTEAD}")
    top, bottom, left, right = given["pad_list"] if mode == "pad" else (0, 0, 0, 0)
    return {
        "kernel_shape": list(weight.shape[2:]),
        "strides": list(given["stride"][2:]),
        "dilations": list(given["dilation"][2:]),
        "pads": [top, left, bottom, right],
        "group": given["group"],
    }


@_writes("BatchNorm")
def _batch_norm(writer, node, x, gain, bias, mean, variance, training, epsilon, *_):
    gain, bias = _name(writer, gain), _name(writer, bias)
    if not training:
        moments = (_name(writer, mean), _name(writer, variance))
        return (Value(writer.node("BatchNormalization", x.name, gain, bias, *moments, epsilon=epsilon), x.shape),)
    rank = len(x.shape)
    axes, along = [0, *range(2, rank)], (1, -1, *(1 for _ in range(rank - 2)))
    centred = writer.node("Sub", x.name, writer.node("ReduceMean", x.name, axes=axes, keepdims=1))
    spread = writer.node("ReduceMean", writer.node("Mul", centred, centred), axes=axes, keepdims=1)
    deviation = writer.node("Sqrt", writer.node("Add", spread, writer.constant(epsilon, np.float32)))
    normed = writer.node("Mul", writer.node("Div", centred, deviation), writer.reshaped(gain, along))
    return (Value(writer.node("Add", normed, writer.reshaped(bias, along)), x.shape),)


@_writes("BiasAdd")
def _bias_add(writer, node, x, bias, *_):
    along = (1, -1, *(1 for _ in x.shape[2:]))
    return Value(writer.node("Add", x.name, writer.reshaped(_name(writer, bias), along)), node.shape)


@_writes("MatMul", "MatMulExt", "BatchMatMul")
def _matmul(writer, node, a, b, *transposed):
    names = []
    for each, turned in zip((a, b), (*transposed, False, False), strict=False):
        name, rank = _name(writer, each), len(each.shape)
        if turned:
            name = writer.node("Transpose", name, perm=[*range(rank - 2), rank - 1, rank - 2])
        names.append(name)
    return Value(writer.node("MatMul", *names), node.shape)


@_writes("ReduceMean", "ReduceSum")
def _reduce(writer, node, x, axis, keep, *_):
    rank = len(x.shape)
    axes = sorted(each % rank for each in axis) or list(range(rank))
    if node.operator == "ReduceSum":  # the one whose axes are an input
        name = writer.node("ReduceSum", x.name, writer.ints(tuple(axes)), keepdims=int(keep))
    else:
        name = writer.node("ReduceMean", x.name, axes=axes, keepdims=int(keep))
    return Value(name, node.shape)


@_writes("Reshape")
def _reshape(writer, node, x, shape):
    return Value(writer.reshaped(_name(writer, x), shape), node.shape)


@_writes("Transpose")
def _transpose(writer, node, x, order):
    return Value(writer.node("Transpose", _name(writer, x), perm=list(order)), node.shape)


@_writes("BroadcastTo")
def _broadcast(writer, node, x, shape):
    shape = tuple(1 if each == -1 else each for each in shape)  # which is "as it is" in either language
    return Value(writer.node("Expand", _name(writer, x), writer.ints(shape)), node.shape)


@_writes("Tile")
def _tile(writer, node, x, times):
    return Value(writer.node("Tile", _name(writer, x), writer.ints(times)), node.shape)


@_writes("Ones", "OnesLike", "Zeros", "ZerosLike")
def _filled(writer, node, like, *_):
    shape = writer.node("Shape", like.name) if isinstance(like, Value) else writer.ints(like)
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [float(node.operator.startswith("Ones"))])
    return Value(writer.node("ConstantOfShape", shape, value=value), node.shape)


@_writes("Concat")
def _concat(writer, node, parts, axis):
    return Value(writer.node("Concat", *(_name(writer, each) for each in parts), axis=axis), node.shape)


@_writes("Split")
def _split(writer, node, x, axis, count):
    lengths = writer.ints(tuple(shape[axis] for shape in node.shape))
    names = writer.several("Split", count, x.name, lengths, axis=axis)
    return tuple(Value(name, shape) for name, shape in zip(names, node.shape, strict=True))


@_writes("StridedSlice")
def _strided_slice(writer, node, x, begin, end, strides, *masks):
    """A bit of a mask is set for an axis that begins or ends as the tensor does, or of which one element is taken."""
    from_start, to_end, ellipsis, new_axis, one = masks
    if ellipsis or new_axis or any(stride < 1 for stride in strides):
        raise ConfigError(f"a slice with ..., None or a negative step has no form in ONNX here: {INSTEAD}")
    first = tuple(0 if from_start >> i & 1 else begin[i] for i in range(len(begin)))
    last = tuple(TO_THE_END if to_end >> i & 1 else end[i] for i in range(len(begin)))
    axes = tuple(range(len(begin)))
    name = writer.node("Slice", _name(writer, x), *(writer.ints(each) for each in (first, last, axes, strides)))
    taken = tuple(i for i in axes if one >> i & 1)
    return Value(writer.node("Squeeze", name, writer.ints(taken)) if taken else name, node.shape)


@_writes("OneHot")
def _one_hot(writer, node, index, depth, on, off, axis):
    values = writer.constant(np.array([off, on], np.float32))
    index = writer.node("Cast", index.name, to=TensorProto.INT64)  # onnxruntime has no form for int32 and this depth
    return Value(writer.node("OneHot", index, writer.constant(depth, np.int64), values, axis=axis), node.shape)


@_writes("MirrorPad")
def _mirror_pad(writer, node, x, paddings):
    if node.attributes["mode"] != "REFLECT":
        raise ConfigError(f"borders that repeat the outermost pixel have no form in ONNX here: {INSTEAD}")
    pads = writer.constant(np.asarray(paddings).T.reshape(-1), np.int64)
    return Value(writer.node("Pad", x.name, pads, mode="reflect"), node.shape)
