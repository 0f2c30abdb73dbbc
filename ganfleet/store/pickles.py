"""Pickles as data: a reader that imports nothing, and calls nothing but functions of its own for a list of names.

Python's own reader imports whatever module a pickle names, and calls what it finds there; even with names refused, a
pickle can change what it was given, or ask for memory. Here the standard library only says which instructions a pickle
has, and these move values on a stack. Any other name, and any instruction that is not needed for weights, is an error.
No number in a pickle reserves memory.
"""

import io
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

VALUES = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
VALUES |= {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
VALUES |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
WITHOUT_EFFECT = {"PROTO", "FRAME"}
KEYS = (str, int, float, bytes, type(None))  # of dicts; a tuple of tuples could take forever to hash
NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
ORDERS = {"<", ">", "=", "|"}


class Forbidden(Exception):
    """A name that a file of weights must not ask for."""


class Malformed(Exception):
    """What is no pickle of weights; the message says why."""


@dataclass(frozen=True)
class Name:
    """A class or a function that a pickle names. ``make`` is what stands for a call of it."""

    path: str
    make: Callable


@dataclass
class Object:
    """An object of the class ``path``: what the pickle would have made it with, and its state."""

    path: str
    arguments: tuple = ()
    state: Any = None


Known = Mapping[tuple[str, str], Callable]


def ordered(items: Any = ()) -> OrderedDict:
    """For ``known``: an ordered dict, which Python 2 pickled with its items."""
    if not isinstance(items, list | tuple) or not all(type(key) in KEYS for key, _ in items):
        raise Malformed("it has an ordered dict of what are no names")
    return OrderedDict(items)


def load(file: BinaryIO, known: Known, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The value of the pickle at the position of ``file``, which is behind it afterwards.

    Args:
        known: by module and name, what stands for a call; ``kept`` for a class whose objects are wanted as ``Object``.
        persistent: what stands for a reference to something outside of the pickle.

    Raises:
        Forbidden: the pickle asks for another name.
        Malformed, ValueError, TypeError, LookupError: it is damaged, or needs more than weights do.
    """
    machine = _Machine(known, persistent)
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "STOP":
            return machine.stack.pop()
        machine.do(opcode.name, argument)
    raise Malformed("it has no end")


def loads(content: bytes, known: Known, persistent: Callable[[Any], Any] | None = None) -> Any:
    """``load`` of a pickle in memory."""
    return load(io.BytesIO(content), known, persistent)


def reason(error: Exception) -> str:
    """Why a pickle cannot be read, for its user: a damaged one raises whatever its wrong instructions meet."""
    return str(error) if isinstance(error, Malformed) else "its bytes are damaged"


def kept(path: str) -> Callable[..., Object]:
    """For ``known``: an ``Object`` of the class ``path``."""

    def make(*arguments) -> Object:
        return Object(path, arguments)

    return make


@dataclass
class _Machine:
    known: Known
    persistent: Callable[[Any], Any] | None
    stack: list = field(default_factory=list)
    below: list[list] = field(default_factory=list)  # the stacks below each mark
    memo: dict[int, Any] = field(default_factory=dict)

    def do(self, name: str, argument: Any) -> None:
        if name in VALUES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name not in WITHOUT_EFFECT:
            instruction = getattr(self, f"_{name.lower()}", None)
            if instruction is None:
                raise Malformed(f"it has the instruction {name}, which no weights need")
            instruction(argument)

    # ── Containers

    def _empty_list(self, _):
        self.stack.append([])

    def _empty_dict(self, _):
        self.stack.append({})

    def _mark(self, _):
        self.below.append(self.stack)
        self.stack = []

    def _marked(self) -> list:
        items, self.stack = self.stack, self.below.pop()
        return items

    def _list(self, _):
        items = self._marked()
        self.stack.append(items)

    def _tuple(self, _):
        items = self._marked()
        self.stack.append(tuple(items))

    def _tuple1(self, _):
        self._last(1)

    def _tuple2(self, _):
        self._last(2)

    def _tuple3(self, _):
        self._last(3)

    def _last(self, count: int) -> None:
        if len(self.stack) < count:
            raise Malformed("its stack is empty")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _dict(self, _):
        items = self._marked()
        self.stack.append({})
        self._set(items)

    def _append(self, _):
        item = self.stack.pop()
        self._extend([item])

    def _appends(self, _):
        items = self._marked()
        self._extend(items)

    def _extend(self, items: list) -> None:
        if type(self.stack[-1]) is not list:
            raise Malformed("it appends to what is no list")
        self.stack[-1].extend(items)

    def _setitem(self, _):
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _setitems(self, _):
        items = self._marked()
        self._set(items)

    def _set(self, items: list) -> None:
        keys = items[::2]
        if type(self.stack[-1]) not in (dict, OrderedDict) or not all(type(key) in KEYS for key in keys):
            raise Malformed("it sets what is no item of a dict")
        self.stack[-1].update(zip(keys, items[1::2], strict=True))

    # ── What was there before

    def _pop(self, _):
        if self.stack:
            self.stack.pop()
        else:
            self._marked()

    def _pop_mark(self, _):
        self._marked()

    def _dup(self, _):
        self.stack.append(self.stack[-1])

    def _put(self, index):
        self.memo[int(index)] = self.stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, _):
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, index):
        self.stack.append(self.memo[int(index)])

    _binget = _long_binget = _get

    # ── Names and objects

    def _global(self, path):
        self._named(*path.split(" ", 1))

    def _stack_global(self, _):
        name, module = self.stack.pop(), self.stack.pop()
        self._named(module, name)

    def _named(self, module, name) -> None:
        if type(module) is not str or type(name) is not str:
            raise Malformed("it has a name that is no text")
        if (module, name) not in self.known:
            raise Forbidden(f"{module}.{name}")
        self.stack.append(Name(f"{module}.{name}", self.known[module, name]))

    def _reduce(self, _):
        arguments, called = self.stack.pop(), self.stack.pop()
        if type(called) is not Name or type(arguments) is not tuple:
            raise Malformed("it calls what is no function")
        self.stack.append(called.make(*arguments))

    _newobj = _reduce

    def _build(self, _):
        state, built = self.stack.pop(), self.stack[-1]
        if type(built) is Object:
            built.state = state
        elif type(built) is not OrderedDict:  # whose attributes, such as a state dict's versions, nobody needs
            raise Malformed("it changes what is no object")

    def _binpersid(self, _):
        if self.persistent is None:
            raise Malformed("it refers to something outside of it")
        self.stack.append(self.persistent(self.stack.pop()))


# ── numpy's arrays, of numbers alone


def _scalar(dtype: Object, data: bytes | str) -> np.ndarray:
    return _of_bytes(data, dtype, (), "C")


def _frombuffer(data: bytes, dtype: Object, shape: tuple, order: str) -> np.ndarray:
    return _of_bytes(data, dtype, shape, order)


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise Malformed(f"it encodes text as {encoding}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


ARRAYS: Known = {
    ("numpy", "ndarray"): kept("numpy.ndarray"),
    ("numpy", "dtype"): kept("numpy.dtype"),
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): _no_bytes,
    **{
        (module, name): make
        for core in ("numpy.core", "numpy._core")
        for module, name, make in (
            (f"{core}.multiarray", "_reconstruct", kept("numpy.array")),
            (f"{core}.multiarray", "scalar", _scalar),
            (f"{core}.numeric", "_frombuffer", _frombuffer),
        )
    },
}
"""The names that arrays and numbers of numpy are pickled with; see ``array``."""


def array(value: Any) -> np.ndarray:
    """The array that ``value``, of a pickle read with ``ARRAYS``, is.

    Raises:
        Malformed: it is no array of numbers.
    """
    if isinstance(value, np.ndarray):
        return value
    if type(value) in (int, float, bool):
        return np.asarray(value)
    if type(value) is not Object or value.path != "numpy.array" or type(value.state) is not tuple:
        raise Malformed("an array is expected, and something else is there")
    *_, shape, dtype, columns_first, data = value.state
    return _of_bytes(data, dtype, shape, "F" if columns_first else "C")


def _of_bytes(data: bytes | str, dtype: Object, shape: tuple, order: str) -> np.ndarray:
    if type(dtype) is not Object or dtype.path != "numpy.dtype" or dtype.arguments[0] not in NUMBERS:
        raise Malformed("it has an array of something else than numbers")
    byte_order = dtype.state[1] if dtype.state else "="
    if byte_order not in ORDERS:
        raise Malformed("it has an array of an unknown byte order")
    content = data.encode("latin1") if isinstance(data, str) else data  # text: written by Python 2
    made = np.frombuffer(content, np.dtype(byte_order + dtype.arguments[0])).reshape(shape, order=order)
    return made.astype(made.dtype.newbyteorder("="), copy=False)
