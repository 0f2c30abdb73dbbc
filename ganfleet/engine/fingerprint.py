"""A name for everything that a graph can freeze: equal only where the compiler would see equal code and equal values.

A graph freezes Python: numbers in attributes, globals and closures, the text of functions, the shape of a list. This
walks all of it from the Cell that is compiled. Where it meets something whose effect it cannot tell, it says so, and
such a graph has no name.
"""

import dataclasses
import dis
import enum
import functools
import hashlib
import itertools
import operator
import sys
import types
from collections import deque
from collections.abc import Iterator
from pathlib import PurePath
from typing import NamedTuple

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

# Known by their versions, which are a part of every name. Code of all others is known by its text.
LIBRARIES = {"mindspore", "numpy", "builtins", "pydantic", "pydantic_core", "annotated_types"} | sys.stdlib_module_names
# What a function may read while a graph is compiled is frozen in it. So none may use these, by which it could read
# what no walk can see: files, the environment, the time.
HARMLESS = {
    *("abc", "collections", "contextlib", "copy", "dataclasses", "enum", "functools", "hashlib", "itertools", "json"),
    *("math", "numbers", "operator", "re", "string", "types", "typing", "unicodedata"),
}
# Modules of ours that are not followed: this cache, what compiles the CPU's kernels, of which graphs get the form and
# the path by their values (``_surroundings`` asks for them first), random numbers, which depend on their arguments
# alone, and what reads files on the host, beside a strategy's graphs: text encoders, images, and weights.
OURS_AS_LIBRARIES = {
    *("ganfleet.engine.compile_cache", "ganfleet.nn.cpu.library", "ganfleet.rng"),
    *("ganfleet.text.encoder", "ganfleet.text.cache", "ganfleet.data.images"),
    *("ganfleet.store.weights", "ganfleet.store.pth", "ganfleet.store.pickles"),
}
READING = {"open", "input", "exec", "eval", "compile", "__import__", "globals", "locals", "id", "hash"}
READING_OF_NUMPY = {"random", "load", "loadtxt", "genfromtxt", "fromfile", "memmap"}
# What MindSpore notes in a Cell while it works, and what does not reach a graph, or only as the names of its operators
# (_scope, which says in which graph this Cell was compiled first).
NOTES = {
    "_scope",
    *("_create_time", "arguments_key", "_compile_cache", "_phase_cache", "_id", "_compile_phase", "_exist_objs"),
    *("_exist_names", "_lazy_construct_sig", "_compiled", "_parameter_layout_dict", "_parallel_parameter_name_list"),
    *("_parallel_parameter_merge_net_dict", "_has_mutable_args_list", "_is_check_and_refresh", "_init_flag"),
    *("_lazy_user_parameters", "_cell_init_args", "sequence_modified", "current_phase", "__parse_method__"),
    *("__compile_cell_hook__", "_mutable_flags", "exist_objs", "exist_names", "instance_name", "is_top_cell"),
    "compiled_for",
}
NOTES_OF_PYTHON = {
    *("__dict__", "__weakref__", "__doc__", "__annotations__", "__abstractmethods__", "_abc_impl"),
    *("__dataclass_params__", "__dataclass_fields__"),
}
FIELD = type(NamedTuple("Pair", [("first", int)]).first)  # what a named tuple reads an element by
PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), type(NotImplemented), range, slice, np.generic)


class Unnameable(Exception):
    """Something was met whose effect on a graph cannot be told."""


def fingerprint(*roots: object) -> tuple[str, dict[str, Parameter]]:
    """The name (64 hex digits) of what can be reached from ``roots``, and the parameters met, by their names.

    The values of parameters are no part of it: they are inputs of a graph.

    Raises:
        Unnameable: see there; or two parameters have one name.
    """
    walk = _Walk()
    for root in roots:
        walk.add(root)
    walk.to_the_end()
    return walk.digest.hexdigest(), walk.parameters


class _Walk:
    """Numbers objects in the order in which they are met, and hashes each with the numbers of those it refers to."""

    def __init__(self):
        self.digest = hashlib.sha256()
        self.parameters: dict[str, Parameter] = {}
        self._numbers: dict[int, int] = {}
        self._queue: deque[object] = deque()
        self._met: list[object] = []  # kept alive, so that no other object gets the same id

    def add(self, value: object) -> str:
        """What stands for ``value`` where something refers to it."""
        if _is_plain(value):
            return f"{type(value).__name__} {value!r}"
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._met)
            self._met.append(value)
            self._queue.append(value)
        return f"#{self._numbers[id(value)]}"

    def to_the_end(self) -> None:
        while self._queue:
            value = self._queue.popleft()
            self.digest.update(repr(self.describe(value)).encode())

    def describe(self, value) -> tuple:
        kind = type(value)
        match value:
            case Parameter():
                return self.parameter(value)
            case Tensor():
                data = value.astype(ms.float32) if value.dtype == ms.bfloat16 else value
                return "tensor", str(value.dtype), value.shape, _sha(data.asnumpy().tobytes())
            case np.ndarray() if value.dtype != object:
                return "array", str(value.dtype), value.shape, _sha(value.tobytes())
            case list() | tuple() | deque():
                return "sequence", self.add(kind), [self.add(each) for each in value]
            case dict():
                return "mapping", self.add(kind), [(self.add(k), self.add(v)) for k, v in value.items()]
            case set() | frozenset() if all(type(each) in PLAIN for each in value):
                return "set", sorted(map(self.add, value))
            case type():
                return self.type(value)
            case types.ModuleType():
                return "module", value.__name__, "" if _library(value.__name__) else _text_of(value.__file__)
            case types.FunctionType():
                return self.function(value)
            case types.MethodType():
                return "method", self.add(value.__self__), self.add(value.__func__)
            case types.BuiltinFunctionType() | types.MethodDescriptorType() | types.WrapperDescriptorType():
                return "builtin", str(value.__module__), value.__qualname__
            case staticmethod() | classmethod():
                return kind.__name__, self.add(value.__func__)
            case functools._lru_cache_wrapper():
                return "cached", self.add(value.__wrapped__)
            case property() | functools.cached_property():
                parts = (value.func,) if kind is functools.cached_property else (value.fget, value.fset, value.fdel)
                return kind.__name__, [self.add(part) for part in parts]
            case functools.partial():
                return "partial", self.add(value.func), self.add(value.args), self.add(value.keywords)
            case np.dtype() | PurePath() | enum.Enum() | operator.itemgetter() | operator.attrgetter():
                return kind.__qualname__, str(value)
            case _ if kind.__module__.startswith("mindspore._c_expression.typing"):
                return "dtype", repr(value)
        return self.object(value)

    def parameter(self, value: Parameter) -> tuple:
        if self.parameters.setdefault(value.name, value) is not value:
            raise Unnameable(f"two parameters are called {value.name}")
        return "parameter", value.name, value.shape, str(value.dtype), value.requires_grad

    def type(self, value: type) -> tuple:
        name = ("class", value.__module__, value.__qualname__)
        if _library(value.__module__) and "<locals>" not in value.__qualname__:
            return name
        members = vars(value).items()
        if hasattr(value, "__pydantic_fields__"):  # its objects have the values; pydantic's own notes are endless
            own = (types.FunctionType, *PLAIN, tuple)
            members = [(k, v) for k, v in members if isinstance(v, own) and not k.startswith("__pydantic")]
        members = [(k, self.add(v)) for k, v in members if k not in NOTES_OF_PYTHON and not _slot(v)]
        return *name, [self.add(base) for base in value.__bases__], members

    def function(self, value: types.FunctionType) -> tuple:
        home = value.__globals__.get("__name__", "")  # not __module__, which decorators copy
        of_library = _library(home) or value.__code__.co_filename.startswith("<")  # by dataclass() and the like
        if hasattr(value, "__wrapped__") and of_library:
            return "wrapped", self.add(value.__wrapped__)  # by ms.jit and the like, which keep times in their closures
        name = ("function", home, value.__qualname__)
        if of_library:
            if "<locals>" not in value.__qualname__:
                return name
            return *name, self.closure(value), self.add(value.__defaults__)
        code = value.__code__
        return (
            *name,
            (_text_of(code.co_filename), code.co_firstlineno, _sha(code.co_code)),
            self.closure(value),
            (self.add(value.__defaults__), self.add(value.__kwdefaults__)),
            self.globals(value),
        )

    def closure(self, value: types.FunctionType) -> list:
        cells = [cell for cell in value.__closure__ or () if cell is not None]
        try:
            return [self.add(cell.cell_contents) for cell in cells]
        except ValueError as error:
            raise Unnameable(f"{value.__qualname__} refers to a variable that is not set yet") from error

    def globals(self, value: types.FunctionType) -> list:
        """What the global names in a function mean; of modules among them, also what its other names mean there."""
        names, attributes, values = _words(value.__code__)
        found = []
        for name in names:
            means = value.__globals__.get(name)
            if name in value.__globals__:
                found.append((name, self.add(means)))
            elif name in READING:
                raise Unnameable(f"{value.__qualname__} uses {name}(), so what it freezes cannot be told")
            if isinstance(means, types.ModuleType):
                if _reads(means.__name__, name, values):
                    raise Unnameable(f"{value.__qualname__} uses {means.__name__}, so what it freezes cannot be told")
                if not _library(means.__name__):
                    found += [(f"{name}.{n}", self.add(vars(means)[n])) for n in attributes if n in vars(means)]
        return found

    def object(self, value: object) -> tuple:
        kind = type(value)
        open_to_us = kind is types.SimpleNamespace or kind.__module__.startswith("mindspore") or _frozen(value)
        if _library(kind.__module__) and not open_to_us:
            raise Unnameable(f"a {kind.__module__}.{kind.__qualname__} is frozen in it")
        if not hasattr(value, "__dict__"):
            slots = [name for each in kind.__mro__ for name in getattr(each, "__slots__", ())]
            if not slots:
                raise Unnameable(f"a {kind.__module__}.{kind.__qualname__} is frozen in it")
            return "object", self.add(kind), [(name, self.add(getattr(value, name, None))) for name in slots]
        attributes = vars(value)
        if isinstance(value, nn.Cell):
            attributes = {n: each for n, each in attributes.items() if n not in NOTES and not _unused(n, each)}
        return "object", self.add(kind), [(name, self.add(each)) for name, each in attributes.items()]


def _is_plain(value: object) -> bool:
    """Whether this never changes and is all that its text says, so that it does not matter who else refers to it."""
    if type(value) is tuple:
        return all(map(_is_plain, value))
    return type(value) in PLAIN or isinstance(value, np.generic)


def _library(module: str) -> bool:
    return module.partition(".")[0] in LIBRARIES or module in OURS_AS_LIBRARIES


def _frozen(value: object) -> bool:
    """Whether this is a frozen dataclass: its fields are all that it is."""
    return dataclasses.is_dataclass(value) and type(value).__dataclass_params__.frozen


def _unused(name: str, value: object) -> bool:
    """Whether these are a Cell's hooks or flags, and none: not there at first, or None, and empty once MindSpore has
    looked."""
    return (name.startswith("_lazy") or name == "_func_graph_flags") and not value


def _slot(value: object) -> bool:
    return isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType | FIELD)


@functools.cache  # most functions are in every graph
def _words(code: types.CodeType) -> tuple[list[str], list[str], list]:
    """The global names in a function, all names and strings in it, which getattr takes, and what each step is about."""
    steps = [step for each in _codes(code) for step in dis.get_instructions(each)]
    names = sorted({step.argval for step in steps if step.opname == "LOAD_GLOBAL"})
    values = [step.argval for step in steps]
    return names, sorted({value for value in values if isinstance(value, str)}), values


def _reads(module: str, name: str, values: list) -> bool:
    """Whether a function of these ``values``, which calls ``module`` ``name``, may read with it what no walk sees."""
    top = module.partition(".")[0]
    if top == "numpy":
        return any(a == name and b in READING_OF_NUMPY for a, b in itertools.pairwise(values))
    return top in sys.stdlib_module_names - HARMLESS


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """This code, and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _text_of(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return _sha(file.read())
    except OSError as error:
        raise Unnameable(f"there is no {path} to compile from") from error


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
