"""Files of PyTorch weights: both forms are read, and nothing in them is ever called."""

import os

import numpy as np
import pth_files
import pytest

from ganfleet.errors import ConfigError
from ganfleet.store import pth


@pytest.fixture
def arrays():
    draw = np.random.default_rng(0)
    transposed = draw.standard_normal((5, 3)).astype(np.float32).T
    return {
        "a.weight": draw.standard_normal((2, 3, 4)).astype(np.float32),
        "transposed": transposed,
        "half": np.arange(4, dtype=np.float16),
        "count": np.array(7, np.int64),
        "empty": np.empty((0, 2), np.float32),
    }


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_come_as_they_were_saved(tmp_path, arrays, legacy):
    found = pth.read(pth_files.write(tmp_path / "w.pth", arrays, legacy))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


class Evil:
    def __reduce__(self):
        return os.system, ("touch spoilt",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_asks_for_a_function_is_refused_by_its_name_and_runs_nothing(tmp_path, arrays, legacy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = pth_files.write(tmp_path / "w.pth", arrays, legacy, extra=Evil())
    with pytest.raises(ConfigError, match=r"w.pth asks for posix.system.*save the state_dict\(\) alone"):
        pth.read(path)
    assert not (tmp_path / "spoilt").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, arrays, legacy):
    path = pth_files.write(tmp_path / "w.pth", arrays, legacy)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ConfigError, match=r"w\.pth is no file of PyTorch weights, or not a whole one"):
        pth.read(path)
    with pytest.raises(ConfigError, match=r"nowhere\.pth cannot be read: No such file"):
        pth.read(tmp_path / "nowhere.pth")


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path):
    class Reaching(pth_files._Tensor):
        def __init__(self):
            super().__init__("0", np.zeros(4, np.float32))
            self.shape, self.strides = (4, 2), (1, 1)

    path = pth_files.write(tmp_path / "w.pth", {"a": np.zeros(4, np.float32)}, extra=Reaching())
    with pytest.raises(ConfigError, match="reaches beyond its storage"):
        pth.read(path)
