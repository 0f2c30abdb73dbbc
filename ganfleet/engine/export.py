"""A checkpoint's networks as files that other programs read: ONNX, MindIR, safetensors."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import safetensors.numpy
from mindspore import Tensor, nn

import ganfleet.rng
from ganfleet.engine.loaded import Loaded
from ganfleet.engine.running import running
from ganfleet.engine.tensors import named, tensors
from ganfleet.errors import ConfigError
from ganfleet.nn import forms
from ganfleet.nn import precision as precisions
from ganfleet.store import mindir, publish
from ganfleet.strategies.export import Export

SIZES = ("n", "height", "width")  # what an exported graph calls the number of images, and the sides of an image
CHECKED = dict(zip(SIZES, (2, 64, 64), strict=True))  # at which sizes it is run before it is written
# A graph that was exported wrongly makes other images. One that is right differs by rounding: by 0.01 where a network
# has trained so little that its norms divide by almost nothing.
TOLERANCE = 0.05


def export(loaded: Loaded, form: str, out: Path, name: str | None = None, count: int | None = None) -> list[str]:
    """Write the graph called ``name`` of a checkpoint, the only one where that is None; lines on what was written.

    Args:
        form: "onnx", "mindir", or "safetensors", which has the graph's weights alone.
        count: for exactly so many images, of the strategy's resolution. None is for any number of images, and where the
            graph takes images, for any size that is a multiple of what it needs.

    Raises:
        ConfigError: there is no such graph; the package onnx is not installed; ONNX has no form of an operator.
        StrategyFailed: the graph cannot be compiled, or makes other images than ganfleet.
        StorageError: the file cannot be written.
    """
    if form == "onnx":
        _check_onnx()
    graph = _Graph(loaded, *_chosen(loaded, name), count)
    content = graph.mindir(checked=form != "safetensors")
    if form == "mindir":
        publish.file(out, content)
        return [f"{out}: {graph}, in this order"]
    from mindspore.train.mind_ir_pb2 import ModelProto

    read = mindir.read(ModelProto.FromString(content))
    if form == "safetensors":
        publish.file(out, safetensors.numpy.save(read.weights, metadata=graph.about()))
        return [f"{out}: the {len(read.weights)} weights of {graph.name}"]
    from ganfleet.store import to_onnx

    inputs = [to_onnx.Input(each, graph.axes(each), array.dtype) for each, array in graph.inputs.items()]
    publish.file(out, to_onnx.converted(read, inputs, graph.about()).SerializeToString())
    return [f"{out}: {graph}, by name"]


def _check_onnx() -> None:
    """
    Raises:
        ConfigError: the package onnx cannot be imported.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"ONNX needs the package onnx, which cannot be imported ({error}): run `pip install 'ganfleet[export]'`"
        ) from error


def _chosen(loaded: Loaded, name: str | None) -> tuple[str, Export]:
    """The name of a graph, and what the strategy says about it.

    Raises:
        ConfigError: there is none of that name, or several and no name.
    """
    with running(f"{type(loaded.strategy).__name__}.exports()", type(loaded.strategy)):
        offered = loaded.strategy.exports(loaded.clock)
    if name is None and len(offered) == 1:
        [name] = offered
    if name not in offered:
        known = f"it has {', '.join(offered)}" if offered else "it has none, since it draws by a loop on the host"
        asked = f"no graph {name!r}" if name else "several graphs, choose one with --graph" if offered else "no graph"
        raise ConfigError(f"{loaded.path}, a {loaded.config.strategy.name}, has {asked}: {known}")
    return name, offered[name]


@dataclass
class _Graph:
    """One graph of a checkpoint."""

    loaded: Loaded
    name: str
    export: Export
    count: int | None

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        """An example of each, for one image."""
        return {
            name: array.astype(np.int32 if array.dtype.kind in "iub" else np.float32)
            for name, array in self.export.inputs.items()
            if array.ndim
        }

    def axes(self, name: str) -> tuple[int | str, ...]:
        """The sizes of an input, and the names of those that are left open."""
        shape = self.inputs[name].shape
        if self.count is not None:
            return (self.count, *shape[1:])
        if self.export.multiple is not None and len(shape) == 4:
            return (SIZES[0], shape[1], *SIZES[1:])
        return (SIZES[0], *shape[1:])

    def mindir(self, checked: bool) -> bytes:
        """The graph as a file of MindIR, in float32 and of MindSpore's own operators.

        Raises:
            StrategyFailed: it cannot be compiled, or where it is ``checked``, makes other images than ganfleet.
        """
        nets = self.loaded.networks
        for net in nets.values():
            precisions.set_compute_type(net, "float32")
        constants = tensors({name: array for name, array in self.export.inputs.items() if not array.ndim})
        cell = _Cell(self.export.function, nets, tuple(self.inputs), constants)
        arguments = [
            Tensor(shape=[each if isinstance(each, int) else None for each in self.axes(name)], dtype=tensor.dtype)
            if self.count is None
            else Tensor(np.repeat(tensor.asnumpy(), self.count, 0))
            for name, tensor in tensors(self.inputs).items()
        ]
        what = f"the graph {self.name} for {self.count or 'any number of'} images"
        if self.count is None:
            what += " (if this fails, try --count 1)"
        with tempfile.TemporaryDirectory() as folder, forms.using(forms.STOCK):
            with running(what, type(self.loaded.strategy)):
                ms.export(cell, *arguments, file_name=f"{folder}/graph", file_format="MINDIR")
            if checked:
                with running(f"{what}, read again,", type(self.loaded.strategy)):
                    self._check(nn.GraphCell(ms.load(f"{folder}/graph.mindir")))
            return Path(folder, "graph.mindir").read_bytes()

    def _check(self, graph: nn.GraphCell) -> None:
        """MindSpore 2.10 exports some graphs of open sizes wrongly, and says nothing.

        Raises:
            ValueError: ``graph`` makes other images than ganfleet.
        """
        rng, inputs = ganfleet.rng.stream(0, "export/check"), {}
        for name, array in self.inputs.items():
            shape = [CHECKED.get(axis, axis) for axis in self.axes(name)]
            multiple = self.export.multiple or 1
            shape[2:] = [-(-side // multiple) * multiple for side in shape[2:]]
            drawn = rng.standard_normal(shape, np.float32)
            inputs[name] = drawn if array.dtype == np.float32 else np.repeat(array, shape[0], 0)
        made = graph(*tensors(inputs).values()).asnumpy()
        scalars = {name: array for name, array in self.export.inputs.items() if not array.ndim}
        expected = self.loaded.run(self.export.function, inputs | scalars)
        off = np.abs(made - expected).max() if made.shape == expected.shape else np.inf
        if not off < TOLERANCE:
            raise ValueError(f"its images are off by {off:.3g}")

    def about(self) -> dict[str, str]:
        """What a file says of itself."""
        loaded = self.loaded
        return {
            "producer": f"ganfleet {ganfleet.__version__}",
            "strategy": loaded.config.strategy.name,
            "graph": str(self),
            "checkpoint": str(loaded.checkpoint),
            "weights": "averaged" if loaded.ema else "trained",
        }

    def __str__(self) -> str:
        taken = ", ".join(f"{each} ({', '.join(map(str, self.axes(each)))})" for each in self.inputs)
        multiple = self.export.multiple if self.count is None else None
        sides = f"; height and width are multiples of {multiple}" if multiple else ""
        return f"{self.name} makes images in [-1, 1] of {taken}{sides}"


class _Cell(nn.Cell):
    """A strategy's function with its networks, which are attributes so that MindSpore finds their parameters."""

    def __init__(self, function, nets, names, constants):
        super().__init__(auto_prefix=False)
        for name, net in nets.items():
            setattr(self, f"network_{name}", net)
        self.nets = SimpleNamespace(**nets)
        self.function, self.names, self.constants = function, names, constants
        self.set_train(False)

    def construct(self, *arrays):
        inputs = named(self.names, arrays)
        for name, constant in self.constants.items():
            inputs[name] = constant
        return self.function(self.nets, inputs)
