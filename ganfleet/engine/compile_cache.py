"""Compiled graphs on disk, so that the next process need not compile them again: seconds become tenths of a second.

MindSpore can load a compiled graph, but tells graphs apart by nothing but the order in which a process compiles them:
in another order, or with another number in an attribute, it runs the wrong graph, with parameters that are no
network's. So a graph is stored here under a name of our own (see ``fingerprint``), and while one is compiled MindSpore
finds no other. Storing is left to us as well: after the first graph that it does not find, MindSpore loads none.

What cannot be named, or does not return tensors only, is compiled each time. Graphs are kept in
~/.cache/ganfleet/graphs, or in the folder that GANFLEET_COMPILE_CACHE names; GANFLEET_COMPILE_CACHE=0 keeps none.
"""

import contextlib
import hashlib
import importlib.util
import os
import platform
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

import ganfleet
from ganfleet.document import expanded, is_homeless, user_cache
from ganfleet.engine import operators
from ganfleet.engine.fingerprint import Unnameable, fingerprint
from ganfleet.engine.scratch import scratch
from ganfleet.fleet import heartbeat
from ganfleet.nn import forms

VARIABLE = "GANFLEET_COMPILE_CACHE"
FORMAT = 1
TRIED_WITH = "2.10."  # MindSpore's way to load a graph is not documented; of other versions we know nothing
LIMIT = 512 << 20  # bytes of all graphs together; those not used for longest go first
# Environment that may change how graphs are compiled. OMP_NUM_THREADS, which msrun sets, changes how they run.
KERNELS = ("MS_", "ONEDNN_", "DNNL_")
CHECKSUM = 32  # bytes of SHA-256, at the end of a file

_in_use = True
around = contextlib.nullcontext  # makes what every compilation runs in: a run says it, and leaves out its time
counts: Counter[str] = Counter()  # of graphs in this process: loaded, compiled, stored
refusals: list[str] = []  # why graphs were compiled that could not be stored


class Graph(nn.Cell):
    """A Cell whose ``construct`` is compiled once for all processes. It takes and returns tensors."""

    trains = False  # whether what it gives becomes a part of a model

    def __init__(self):
        super().__init__(auto_prefix=False)
        self.compiled_for = set()

    def code(self) -> Callable:
        """What the user has written of it."""
        return type(self)

    def compile(self, *arguments, **keywords):
        """What ``Cell.compile`` does, from the disk where it can.

        Raises:
            ConfigError: it draws random numbers (see ``operators``).
        """
        signature = tuple(_kind(each) for each in arguments)
        if signature in self.compiled_for:
            super().compile(*arguments, **keywords)
        else:
            with heartbeat.compiling(), around():
                compiled = _compile(self, super().compile, signature, arguments, keywords)
                operators.check(self, compiled)
            self.compiled_for.add(signature)


def _kind(argument):
    """Shape and type of a tensor. None for all else, and for a parameter, to which MindSpore ties the graph."""
    plain = isinstance(argument, Tensor) and not isinstance(argument, Parameter)
    return (argument.shape, argument.dtype) if plain else None


@contextlib.contextmanager
def unused():
    """While it lasts, graphs are compiled and none is kept: what they take can be measured."""
    global _in_use
    before, _in_use = _in_use, False
    try:
        yield
    finally:
        _in_use = before


def place() -> Path | None:
    """The folder of compiled graphs; None where they are not kept."""
    chosen = os.environ.get(VARIABLE, "1")
    usable = ms.__version__.startswith(TRIED_WITH) and ms.get_context("device_target") == "CPU"
    of_its_own = ms.get_context("enable_compile_cache") or os.environ.get("MS_COMPILER_CACHE_ENABLE")
    if chosen in ("", "0") or not (_in_use and usable) or of_its_own:
        return None
    if chosen != "1":
        return expanded(chosen, VARIABLE)
    kept = user_cache() / "graphs"
    return None if is_homeless(kept) else kept


def _compile(graph: Graph, compiler, signature, arguments, keywords) -> bytes | None:
    """Compile the ``graph``, or load it; what was compiled, None where MindSpore cannot write it down."""
    root = place()
    if root is None:
        compiler(*arguments, **keywords)
        return _written(graph)
    with _one_at_a_time:
        try:
            if keywords or None in signature:
                raise Unnameable("it takes something else than tensors, or parameters")
            name, parameters = fingerprint(_surroundings(), [str(each) for each in signature], graph)
        except Unnameable as reason:
            refusals.append(f"{type(graph).__qualname__}: {reason}")
            name = None
        path = root / f"{name}.graph"
        stored = _read(path) if name else None
        if stored is not None and _loads(stored, parameters, graph, compiler, arguments):
            with contextlib.suppress(OSError):
                os.utime(path)  # used just now
            return stored
        compiler(*arguments, **keywords)
        counts["compiled"] += 1
        compiled = _written(graph)
        if name and stored is None and compiled and _storable(graph, compiled, parameters):
            _write(path, compiled)
        return compiled


def _surroundings() -> list:
    """All beside the graph itself that decides what it is compiled to."""
    library = Path(importlib.util.find_spec("mindspore._c_expression").origin).stat()
    return [
        FORMAT,
        [ganfleet.__version__, ms.__version__, np.__version__, platform.python_version(), platform.machine(), _cpu()],
        [library.st_size, library.st_mtime_ns],
        forms.form(),  # asked for here, as operators that ask while a graph is compiled would change its name
        [ms.get_context(name) for name in ("mode", "device_target", "deterministic")],
        sorted(
            (name, value)
            for name, value in os.environ.items()
            if name.startswith(KERNELS) and not any(word in name for word in _NO_MATTER)
        ),
    ]


_NO_MATTER = ("SCHED", "NODE", "WORKER", "ROLE", "TIMEOUT", "RETRY", "OM_PATH")  # words in what decides no graph


def _cpu() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        return next((line for line in file if line.startswith("flags")), "")
    return platform.processor()


# ── What MindSpore makes of a graph, and how it takes it back

_one_at_a_time = threading.RLock()
_asked = 0  # how many graphs this process has asked MindSpore to load: it numbers them
_private: Path | None = None  # where MindSpore looks for them; it can be told once in a process


def _written(graph: Graph) -> bytes | None:
    """What ``graph`` was compiled to, in MindSpore's format; None where it cannot write that down."""
    from mindspore.graph.api import _cell_graph_executor

    try:
        return _cell_graph_executor._graph_executor.get_func_graph_proto(graph.compile_phase, "mind_ir", False)
    except (RuntimeError, ValueError, TypeError) as error:
        refusals.append(f"{type(graph).__qualname__}: {str(error).splitlines()[0]}")
        return None


def _storable(graph: Graph, compiled: bytes, parameters: dict) -> bool:
    """Whether MindSpore could load the ``compiled`` graph."""
    from mindspore.train.mind_ir_pb2 import AttributeProto, ModelProto

    model = ModelProto.FromString(compiled)
    kinds = [each.type for output in model.graph.output for each in output.attr_info.values]
    if any(kind != AttributeProto.TENSORS for kind in kinds):
        refusals.append(f"{type(graph).__qualname__}: it returns something else than tensors")
        return False
    unknown = {each.ref_key for each in model.graph.parameter} - set(parameters)
    if unknown:
        refusals.append(f"{type(graph).__qualname__}: of its parameters, {', '.join(sorted(unknown))} were not found")
        return False
    return True


def _loads(stored: bytes, parameters: dict, graph: Graph, compiler, arguments) -> bool:
    """Whether ``graph`` is compiled now, from ``stored``; if not, nothing has happened."""
    from mindspore.graph import api

    global _asked
    folder = _folder()
    places = [folder / rank / "graph_cache" for rank in {"rank_0", f"rank_{_rank()}"}]
    roles = {"", os.environ.get("MS_ROLE", "")}
    offered = [each / f"{role}compile_cache_{_asked}.mindir" for each in places for role in roles]
    for path in offered:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored)
        path.with_name(path.name.partition("compile")[0] + "compile_dependency.hash").write_text(_SCRIPT_SHA)
    vars(graph)["parameters_dict"] = lambda recurse=True: parameters  # a Cell knows those of its own attributes only
    script, api.entry_script_path = api.entry_script_path, str(folder / "entry.py")
    ms.set_context(enable_compile_cache=True)
    _asked += 1
    try:
        compiler(*arguments)
        # Where MindSpore could not read it, it has compiled, and put what it compiled there.
        counts["loaded" if offered[0].read_bytes() == stored else "compiled"] += 1
    except RuntimeError as error:
        refusals.append(f"{type(graph).__qualname__}: {str(error).splitlines()[0]}")
        return False
    finally:
        ms.set_context(enable_compile_cache=False)
        api.entry_script_path = script
        del vars(graph)["parameters_dict"]
        for path in offered:
            path.unlink()
    return True


# MindSpore looks whether the script has changed since it stored graphs. Graphs are not stored where it looks, and this
# script never changes.
_SCRIPT = b"# Never run.\n"
_SCRIPT_SHA = hashlib.sha256(hashlib.sha256(_SCRIPT).hexdigest().encode()).hexdigest()


def _folder() -> Path:
    global _private
    if _private is None:
        _private = scratch("ganfleet-graphs-")
        (_private / "entry.py").write_bytes(_SCRIPT)
        ms.set_context(compile_cache_path=str(_private))
    return _private


def _rank() -> int:
    from mindspore.communication import GlobalComm, get_rank

    return get_rank() if GlobalComm.INITED else 0


# ── Files


def _read(path: Path) -> bytes | None:
    """A stored graph; None where there is none, or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    graph, checksum = data[:-CHECKSUM], data[-CHECKSUM:]
    return graph if hashlib.sha256(graph).digest() == checksum else None


def _write(path: Path, compiled: bytes) -> None:
    """Put it in place whole or not at all; without a place for it, the next process compiles again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".unfinished", delete=False) as file:
            file.write(compiled + hashlib.sha256(compiled).digest())
        os.replace(file.name, path)
        counts["stored"] += 1
        _prune(path.parent)
    except OSError as error:
        refusals.append(f"{path}: {error}")


def _prune(folder: Path) -> None:
    files = sorted(((each.stat().st_mtime, each.stat().st_size, each) for each in folder.iterdir()), reverse=True)
    total = 0
    for _, size, each in files:
        total += size
        if total > LIMIT:
            each.unlink(missing_ok=True)
