"""Tensors out of a PyTorch file (``.pth``) without PyTorch, and without running what the file says.

Such a file holds a pickle, which could call any function; ``pickles`` reads it as data. This reads both of its forms (a
ZIP file since PyTorch 1.6, a row of pickles before) and knows four names in them: the ordered dict, the types of
storages, and two functions that say how a tensor lies in a storage. What these would be told is kept, checked, and read
by numpy.
"""

import io
import math
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ganfleet.errors import ConfigError
from ganfleet.store import pickles
from ganfleet.store.pickles import Malformed

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors by name of the ``state_dict`` in a .pth file.

    Raises:
        ConfigError: there is no such file, it is damaged, or it holds something else than named tensors; the message
            says which name of Python's it asks for.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        named, data = _of_zip(content) if zipfile.is_zipfile(io.BytesIO(content)) else _of_legacy(content)
        if not isinstance(named, dict):
            raise Malformed(f"it holds a {type(named).__name__}")
        return {str(name): _array(view, data) for name, view in named.items() if isinstance(view, _View)}
    except pickles.Forbidden as error:
        raise ConfigError(
            f"{path} asks for {error}, which no file of weights needs, so it is not read: save the state_dict() alone"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"{path} is no file of PyTorch weights, or not a whole one: {pickles.reason(error)}. Fetch it again, or "
            "convert it with safetensors.torch.save_file"
        ) from error


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class _View:
    """A tensor: elements of a storage from ``offset``, by ``strides`` in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _view(storage, offset, shape, strides, *_) -> _View:
    return _View(storage, offset, tuple(shape), tuple(strides))


def _of_parameter(tensor, *_) -> _View:
    return tensor


KNOWN: pickles.Known = {
    ("collections", "OrderedDict"): pickles.ordered,
    ("torch._utils", "_rebuild_tensor_v2"): _view,
    ("torch._utils", "_rebuild_parameter"): _of_parameter,
    **{("torch", name): pickles.kept(name) for name in STORAGES},
}


class _Reader:
    """``storages`` are those that were referred to, by their keys."""

    def __init__(self):
        self.storages: dict[str, _Storage] = {}

    def load(self, file) -> object:
        return pickles.load(file, KNOWN, self._referred)

    def _referred(self, reference) -> _Storage:
        kind, dtype, key, _, count = reference[:5]
        if kind != "storage" or not isinstance(dtype, pickles.Name):
            raise Malformed(f"it refers to a {kind!r}")
        dtype = STORAGES[dtype.path.removeprefix("torch.")]
        return self.storages.setdefault(str(key), _Storage(str(key), dtype, int(count)))


def _of_zip(content: bytes) -> tuple[object, Callable[[_Storage], bytes]]:
    """What the ZIP form holds, and the bytes of its storages."""
    archive = zipfile.ZipFile(io.BytesIO(content))
    [index] = [name for name in archive.namelist() if name.endswith("data.pkl")]
    root = index.removesuffix("data.pkl")
    order = archive.read(f"{root}byteorder") if f"{root}byteorder" in archive.namelist() else b"little"
    if order != b"little":
        raise Malformed(f"its numbers are {order.decode()}-endian")
    return _Reader().load(io.BytesIO(archive.read(index))), lambda storage: archive.read(f"{root}data/{storage.key}")


def _of_legacy(content: bytes) -> tuple[object, Callable[[_Storage], bytes]]:
    """What the form before PyTorch 1.6 holds: five pickles, then each storage's count and bytes."""
    file = io.BytesIO(content)
    magic, version, system = (_Reader().load(file) for _ in range(3))
    if magic != LEGACY_MAGIC or version != LEGACY_VERSION or not system["little_endian"]:
        raise Malformed("it does not begin as such a file does")
    reader = _Reader()
    named, keys = reader.load(file), _Reader().load(file)
    data = {}
    for key in keys:
        (count,) = struct.unpack("<q", file.read(8))
        data[key] = file.read(count * np.dtype(reader.storages[key].dtype).itemsize)
    return named, lambda storage: data[storage.key]


def _array(view: _View, data: Callable[[_Storage], bytes]) -> np.ndarray:
    """A copy of what ``view`` shows, once it is known to lie inside its storage."""
    dtype, count = np.dtype(view.storage.dtype), view.storage.count
    last = view.offset + sum((side - 1) * stride for side, stride in zip(view.shape, view.strides, strict=True))
    numbers = (view.offset, *view.shape, *view.strides)
    size = math.prod(view.shape)
    if any(type(each) is not int or each < 0 for each in numbers) or size > count or (size and last >= count):
        raise Malformed(f"a tensor of shape {view.shape} reaches beyond its storage")
    flat = np.frombuffer(data(view.storage), dtype, count)
    strides = [stride * dtype.itemsize for stride in view.strides]
    return np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, strides).copy()
