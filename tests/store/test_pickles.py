"""Files of other programs that hold a pickle: whatever it says, nothing is imported, called or changed by it."""

import os
import pickle
import resource
import sys

import numpy as np
import originals
import pth_files
import pytest
from commands import ganfleet, one_error

from ganfleet.errors import ConfigError
from ganfleet.store import pickles, pth, tflib

SPOIL = "open('spoilt', 'w').close()"


class Calling:
    """An object that has ``function`` called when it is unpickled."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


class WithState:
    """A class that runs code of its own when it gets its state back."""

    def __setstate__(self, state):
        exec(SPOIL)

    def __getstate__(self):
        return {"some": "state"}


def text(value):
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def named(module, name):
    return text(module) + text(name) + b"\x93"


def doubled_tuples(depth):
    return b"N" + b"2\x86" * depth


MALICIOUS = {
    "os.system": (pickle.dumps(Calling(os.system, "touch spoilt"), 4), "asks for posix.system"),
    "protocol 0": (pickle.dumps(Calling(os.system, "touch spoilt"), 0), "asks for posix.system"),
    "eval": (pickle.dumps(Calling(eval, SPOIL), 4), "asks for builtins.eval"),
    "getattr": (pickle.dumps(Calling(getattr, Calling(__import__, "os"), "system"), 4), "asks for builtins.getattr"),
    "attribute of a known name": (
        b"\x80\x04" + named("numpy", "dtype.__class__.__base__") + b".",
        "asks for numpy.dtype.",
    ),
    "a module beside it": (b"\x80\x04" + named("evil_module", "anything") + b".", "asks for evil_module.anything"),
    "copyreg": (b"\x80\x02ccopyreg\n_reconstructor\n.", "asks for copyreg._reconstructor"),
    "extension": (b"\x80\x02\x82\x01.", "the instruction EXT1"),
    "INST": (b"(S'touch spoilt'\nios\nsystem\n.", "the instruction INST"),
    "OBJ": (b"(cos\nsystem\nS'touch spoilt'\no.", "asks for os.system"),
    "NEWOBJ_EX": (b"\x80\x04" + named("numpy", "dtype") + b")}\x92.", "the instruction NEWOBJ_EX"),
    "__setstate__": (pickle.dumps(WithState(), 4), r"asks for test_pickles.WithState"),
    "a state for a known function": (
        b"\x80\x04" + named("numpy.core.multiarray", "scalar") + b"N}" + text("__code__") + b"Ks\x86b.",
        "changes what is no object",
    ),
    "a call of what was built": (b"\x80\x04" + named("numpy", "dtype") + b")R)R.", "calls what is no function"),
    "a persistent reference": (b"\x80\x04N" + b"Q.", "refers to something outside"),
    "an array of objects": (
        pickle.dumps(np.array([Calling(os.system, "touch spoilt")], object), 4),
        "asks for posix.system",
    ),
    "a hash without end": (b"\x80\x04}" + doubled_tuples(64) + b"Ns.", "no item of a dict"),
    "an ordered dict of them": (
        b"\x80\x04" + named("collections", "OrderedDict") + b"]" + doubled_tuples(64) + b"N\x86a\x85R.",
        "of what are no names",
    ),
    "too long bytes": (b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"abc.", "not a whole one"),
    "no end": (b"\x80\x04]", "not a whole one"),
    "empty stack": (b"\x80\x04\x85.", "not a whole one"),
    "nothing": (b"", "not a whole one"),
}


@pytest.mark.parametrize("content, told", MALICIOUS.values(), ids=MALICIOUS)
def test_a_malicious_file_runs_nothing_and_is_one_error(tmp_path, monkeypatch, content, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil_module.py").write_text(SPOIL)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.pkl").write_bytes(content)
    (tmp_path / "evil.pth").write_bytes(content)
    before = dict(tflib.KNOWN), dict(vars(pickles))
    error = one_error(ganfleet("import", "evil.pkl", "--out", "made"), code=2)
    assert told in error and "evil.pkl" in error
    assert "evil.pth" in one_error(ganfleet("import", "evil.pth", "--out", "made"), code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pkl", "evil.pth", "evil_module.py"]
    assert "evil_module" not in sys.modules
    assert (dict(tflib.KNOWN), dict(vars(pickles))) == before


def test_python_itself_would_have_run_them(tmp_path, monkeypatch):
    """Or the test above shows nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("os.system", "protocol 0", "eval", "INST", "__setstate__"):
        pickle.loads(MALICIOUS[name][0])
        assert (tmp_path / "spoilt").exists(), name
        (tmp_path / "spoilt").unlink()


def test_no_number_in_a_pickle_reserves_memory():
    """Python's own reader makes a list as long as the largest number that a value is remembered by."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    far = (2**31 - 1).to_bytes(4, "little")
    assert (
        pickles.loads(b"\x80\x04\x95" + (2**60).to_bytes(8, "little") + b"K\x07r" + far + b"0j" + far + b".", {}) == 7
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15  # KiB


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_come_as_python_reads_them(protocol):
    shared = ["same"]
    value = {
        "numbers": [0, -1, 255, 65536, 2**40, -(2**70), 1.5, True, False, None],
        "texts": ("", "plain", "längere ☃" * 50, b"", b"bytes" * 100),
        "nested": {"a": {"b": (1,), "c": (1, 2), "d": (1, 2, 3), "e": (1, 2, 3, 4)}, 7: []},
        "shared": [shared, shared],
    }
    read = pickles.loads(pickle.dumps(value, protocol), pickles.ARRAYS)
    assert read == value
    assert read["shared"][0] is read["shared"][1]


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(4, dtype=">f4"),
    np.array(3, np.int64),
    np.float32(0.5),
    np.zeros((0, 3), np.float16),
    np.array([True, False]),
]


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("array", ARRAYS, ids=[f"{np.asarray(each).dtype.str}{np.shape(each)}" for each in ARRAYS])
def test_arrays_come_as_numpy_wrote_them(array, protocol):
    read = pickles.array(pickles.loads(pickle.dumps(array, protocol), pickles.ARRAYS))
    assert read.dtype == np.asarray(array).dtype.newbyteorder("=")
    np.testing.assert_array_equal(read, array)


def test_an_array_of_python_2_is_read():
    """Its bytes are text, in protocol 2 and in the encoding that NVlabs' readers ask for."""
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    data = np.array([1.5, -2.0], np.float32).tobytes()
    read = pickles.loads(head + b"(K\x01K\x02\x85" + dtype + b"\x89U\x08" + data + b"tb.", pickles.ARRAYS)
    np.testing.assert_array_equal(pickles.array(read), [1.5, -2.0])


def test_networks_come_with_their_parts_and_nothing_of_their_source_is_run(tmp_path):
    part = originals.Net("G_part", {}, {"weight": np.ones(2, np.float32)})
    whole = originals.Net("G_whole", {"size": 3}, {"lod": np.float32(0)}, {"inner": part})
    [read] = tflib.read(originals.write_pkl(tmp_path / "a.pkl", whole))
    assert (read.function, read.arguments) == ("G_whole", {"size": 3})
    assert {name: array.tolist() for name, array in read.variables.items()} == {"inner/weight": [1, 1], "lod": 0}
    both = tflib.read(originals.write_pkl(tmp_path / "b.pkl", (whole, part), "tfutil", protocol=3))
    assert [each.function for each in both] == ["G_whole", "G_part"]


def test_a_tensor_cannot_be_larger_than_its_storage(tmp_path):
    class Repeated(pth_files._Tensor):
        def __init__(self):
            super().__init__("0", np.zeros(4, np.float32))
            self.shape, self.strides = (10**6, 10**6), (0, 0)

    path = pth_files.write(tmp_path / "w.pth", {"a": np.zeros(4, np.float32)}, extra=Repeated())
    with pytest.raises(ConfigError, match="reaches beyond its storage"):
        pth.read(path)
