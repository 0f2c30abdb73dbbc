"""Write files as ``torch.save`` does, in both forms, without torch."""

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np

NAMES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage", "u1": "ByteStorage"}


def _as_torch(module, name):
    """A function that pickle takes for torch's."""

    def stand_in(*_):
        raise AssertionError("a file of weights must not have this called")

    stand_in.__module__, stand_in.__qualname__, stand_in.__name__ = module, name, name
    return stand_in


TORCH, UTILS = types.ModuleType("torch"), types.ModuleType("torch._utils")
UTILS._rebuild_tensor_v2 = _as_torch("torch._utils", "_rebuild_tensor_v2")
for _name in NAMES.values():
    setattr(TORCH, _name, type(_name, (), {"__module__": "torch"}))
TORCH._utils = UTILS


class _Storage:
    def __init__(self, key, array):
        self.key, self.array = key, array


class _Tensor:
    def __init__(self, key, array):
        base = array if array.flags.c_contiguous else array.T  # a transposed view shares the storage of its base
        self.storage = _Storage(key, np.ascontiguousarray(base))
        self.shape = array.shape
        self.strides = tuple(stride // array.itemsize for stride in array.strides)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value):
        if isinstance(value, _Tensor):
            return UTILS._rebuild_tensor_v2, (value.storage, 0, value.shape, value.strides, False, OrderedDict())
        return NotImplemented

    def persistent_id(self, value):
        if isinstance(value, _Storage):
            kind = getattr(TORCH, NAMES[value.array.dtype.str[1:]])
            return ("storage", kind, value.key, "cpu", value.array.size)
        return None


def _pickled(value):
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules |= {"torch": TORCH, "torch._utils": UTILS}
    try:
        file = io.BytesIO()
        _Pickler(file, 2).dump(value)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    return file.getvalue()


def write(path, arrays, legacy=False, extra=None):
    """The ``arrays`` by name as a state dict; ``extra`` is put beside them, whatever it is."""
    tensors = OrderedDict((name, _Tensor(str(i), array)) for i, (name, array) in enumerate(arrays.items()))
    pickled = _pickled(tensors if extra is None else OrderedDict(tensors, extra=extra))
    storages = {each.storage.key: each.storage.array for each in tensors.values()}
    if not legacy:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weights/data.pkl", pickled)
            archive.writestr("weights/byteorder", b"little")
            for key, array in storages.items():
                archive.writestr(f"weights/data/{key}", array.tobytes())
        return path
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    with open(path, "wb") as file:
        for each in head:
            pickle.dump(each, file, 2)
        file.write(pickled)
        pickle.dump(list(storages), file, 2)
        for array in storages.values():
            file.write(struct.pack("<q", array.size) + array.tobytes())
    return path
