"""Weights come out of files and runs and go into networks by name; nothing that does not match goes unsaid."""

import json
import pickle
import struct
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
import safetensors.numpy
from mindspore import nn

from ganfleet.errors import CheckpointDamaged, ConfigError, StorageError
from ganfleet.store import checkpoint, weights
from ganfleet.store.checkpoint import Snapshot

A1BD39E = Path(__file__).parent / "a1bd39e"


def some(**more):
    draw = np.random.default_rng(0)
    tensors = {"weight": draw.standard_normal((3, 4), np.float32), "bias": draw.standard_normal(3, np.float32)}
    return tensors | more


def equal(a, b) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and a[name].shape == b[name].shape and a[name].tobytes() == b[name].tobytes()
        for name in a
    )


# Files


def by_hand(dtype: str, array: np.ndarray) -> bytes:
    """A safetensors file as its specification says, with one tensor x."""
    header = json.dumps({"x": {"dtype": dtype, "shape": array.shape, "data_offsets": [0, array.nbytes]}}).encode()
    return struct.pack("<Q", len(header)) + header + array.tobytes()


def test_what_is_read_is_what_was_written(tmp_path):
    tensors = some(half=np.ones((2, 2), np.float16), count=np.arange(3), empty=np.zeros((0, 2)), scalar=np.float32(3))
    turned = some(turned=np.arange(6.0).reshape(2, 3).T)
    weights.write(tmp_path / "a.safetensors", tensors)
    weights.write(tmp_path / "b.safetensors", turned)
    assert equal(weights.read(tmp_path / "a.safetensors"), {name: np.asarray(array) for name, array in tensors.items()})
    assert equal(weights.read(tmp_path / "b.safetensors"), turned)
    assert equal(safetensors.numpy.load_file(tmp_path / "a.safetensors"), weights.read(tmp_path / "a.safetensors"))


def test_an_npz_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", **some())
    assert equal(weights.read(tmp_path / "a.npz"), some())


def test_bfloat16_is_read_as_the_float32_of_the_same_value(tmp_path):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    values = np.array([[1.0, -2.5, 3e38], [np.inf, -0.0, 1e-40]], np.float32).astype(bfloat16)
    (tmp_path / "a.safetensors").write_bytes(by_hand("BF16", values))
    read = weights.read(tmp_path / "a.safetensors")["x"]
    assert read.dtype == np.float32
    assert read.tobytes() == values.astype(np.float32).tobytes()


def test_a_prefix_selects_and_is_cut_off(tmp_path):
    weights.write(tmp_path / "a.safetensors", {"G.w": np.ones(1), "D.w": np.zeros(1), "Gx": np.zeros(1)})
    assert equal(weights.read(tmp_path / "a.safetensors", prefix="G."), {"w": np.ones(1)})
    with pytest.raises(ConfigError, match=r"no tensor whose name begins with 'E\.', but D\.w, G\.w, Gx"):
        weights.read(tmp_path / "a.safetensors", prefix="E.")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.pkl", "a.ckpt", "a.npz", "a.safetensors"])
def test_nothing_is_ever_unpickled(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(pickle.dumps({"w": Bomb()}))
    with pytest.raises(ConfigError, match=name):
        weights.read(name)
    np.savez("objects.npz", w=np.array([Bomb()], object))
    with pytest.raises(ConfigError, match=r"no \.npz file of plain arrays"):
        weights.read("objects.npz")
    assert not Path("exploded").exists()


def test_a_file_that_is_cut_off_missing_or_of_a_strange_type_is_an_error_with_its_path(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(ConfigError, match=f"{path} cannot be read: No such file"):
        weights.read(path)
    weights.write(path, some())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ConfigError, match=f"{path} is no whole safetensors file"):
        weights.read(path)
    path.write_bytes(by_hand("F8_E4M3", np.zeros(2, np.uint8)))
    with pytest.raises(ConfigError, match=f"{path}: x has dtype F8_E4M3, which numpy does not know"):
        weights.read(path)


def test_a_file_that_cannot_be_written_is_told_and_another_ending_refused(tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        weights.write(tmp_path / "gone" / "a.safetensors", some())
    with pytest.raises(ConfigError, match=r"written to a \.safetensors file"):
        weights.write(tmp_path / "a.pt", some())


# Checkpoints


@pytest.fixture
def run(tmp_path):
    """Steps 10 and 20 of a run whose G has an EMA and buffers, and whose D has neither."""
    for step in (10, 20):
        tensors = {
            "G.weights": {"G.w": np.full(2, step, np.float32), "G.idle": np.zeros(1, np.float32)},
            "G.ema": {"G.w": np.full(2, step + 0.5, np.float32)},
            "G.buffers": {"G.moments.value": np.ones((2, 1), np.float32)},
            "G.optimizer": {"m/G.w": np.zeros(2, np.float32)},
            "D.weights": {"D.w": np.full(2, -step, np.float32)},
            "D.buffers": {},
            "lanes": {},
        }
        checkpoint.save(tmp_path / "run" / "checkpoints", Snapshot(tensors, {}, {}), step, keep=2)
    return tmp_path / "run"


def test_of_a_run_the_newest_averages_are_read_and_the_weights_of_players_without(run):
    expected = {"G.w": 20.5, "G.idle": 0, "G.moments.value": 1, "D.w": -20}
    assert {name: array.flat[0] for name, array in weights.read(run).items()} == expected
    assert weights.read(run / "checkpoints" / "step-00000010", "G.")["w"].tolist() == [10.5, 10.5]
    for file in (run / "checkpoints" / "step-00000020").iterdir():
        file.write_bytes(b"")
    assert weights.read(run)["D.w"].tolist() == [-10, -10]
    for file in (run / "checkpoints" / "step-00000010").iterdir():
        file.write_bytes(b"")
    with pytest.raises(CheckpointDamaged):
        weights.read(run)


def test_a_players_last_weights_or_averages_are_taken_as_asked(run):
    snapshot = checkpoint.load(run / "checkpoints" / "step-00000020")
    for ema, value in ((None, 20.5), (True, 20.5), (False, 20)):
        networks = weights.networks(snapshot, "G", ema)
        assert networks.keys() == {"G.w", "G.idle", "G.moments.value"}
        assert networks["G.w"][0] == value
    assert weights.networks(snapshot, "D").keys() == {"D.w"}
    with pytest.raises(ConfigError, match="player D has no EMA"):
        weights.networks(snapshot, "D", ema=True)
    with pytest.raises(ConfigError, match="no player E: its players are D, G"):
        weights.networks(snapshot, "E")


def test_an_old_checkpoint_gives_its_networks_with_the_buffers_of_today():
    read = weights.read(A1BD39E / "dcgan", "G.")
    average = safetensors.numpy.load_file(A1BD39E / "dcgan/checkpoints/step-00000004/G.ema.safetensors")
    assert read.pop("norms.0.moments.value").shape == (2, 4)
    assert equal(read, {name.removeprefix("G."): array for name, array in average.items()})


# Hash


def test_the_hash_depends_on_names_dtypes_shapes_and_bytes_alone():
    tensors = some()
    same = [
        dict(reversed(tensors.items())),
        {name: np.asfortranarray(array) for name, array in tensors.items()},
        {name: array.astype(array.dtype.newbyteorder(">")) for name, array in tensors.items()},
    ]
    assert {weights.sha256(each) for each in same} == {weights.sha256(tensors)}
    other = [
        {**tensors, "bias": np.nextafter(tensors["bias"], np.float32(9))},
        {**tensors, "weight": tensors["weight"].reshape(4, 3)},
        {**tensors, "bias": tensors["bias"].view(np.int32)},
        {"weight": tensors["weight"], "bia": tensors["bias"]},
        {"weight": tensors["weight"]},
    ]
    assert len({weights.sha256(each) for each in [tensors, *other]}) == len(other) + 1


# Into networks


class Net(nn.Cell):
    """Parameters F.scale (1,) in float16, F.dense.weight (3, 4) and F.dense.bias (3,)."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 3)
        self.scale = ms.Parameter(ms.Tensor(np.ones(1), ms.float16), name="scale")
        self.update_parameters_name("F.")

    def construct(self, x):
        return self.dense(x) * self.scale.astype(ms.float32)


def values(net) -> dict[str, np.ndarray]:
    return {parameter.name: parameter.asnumpy().copy() for parameter in net.get_parameters()}


def fitting():
    return {f"dense.{name}": array for name, array in some().items()} | {"scale": np.float32([2.0])}


def test_tensors_become_the_networks_parameters_and_count_in_its_graph():
    net, tensors = Net(), fitting()
    matched = weights.into(net, tensors, prefix="F.")
    assert matched == weights.Matched(loaded=["F.scale", "F.dense.weight", "F.dense.bias"])
    assert equal(values(net), {f"F.{n}": a.astype(np.float16) if n == "scale" else a for n, a in tensors.items()})
    x = np.random.default_rng(1).standard_normal((5, 4), np.float32)
    expected = (x @ tensors["dense.weight"].T + tensors["dense.bias"]) * 2
    np.testing.assert_allclose(ms.jit(net)(ms.Tensor(x)).asnumpy(), expected, rtol=1e-5, atol=1e-5)
    tensors["dense.bias"][:] = 7  # the network has a copy
    assert (values(net)["F.dense.bias"] != 7).all()


def test_whatever_does_not_match_is_named_and_nothing_is_set():
    net = Net()
    before = values(net)
    wrong = fitting() | {"dense.weight": np.ones((4, 3), np.float32), "head.bias": np.ones(1)}
    del wrong["scale"]
    with pytest.raises(ConfigError) as caught:
        weights.into(net, wrong, prefix="F.")
    assert str(caught.value) == (
        "the weights do not fit the network: no tensor for F.scale; no parameter for head.bias; "
        "F.dense.weight has shape (3, 4) and its tensor (4, 3). Rename them, or load what fits without strict"
    )
    assert equal(values(net), before)


def test_without_strict_what_fits_is_loaded_and_the_rest_told():
    net = Net()
    before = values(net)
    wrong = fitting() | {"dense.weight": np.ones((4, 3), np.float32), "head.bias": np.ones(1)}
    del wrong["scale"]
    assert weights.into(net, wrong, prefix="F.", strict=False) == weights.Matched(
        loaded=["F.dense.bias"], missing=["F.scale"], unexpected=["head.bias"], misshaped=["F.dense.weight"]
    )
    assert equal(values(net), before | {"F.dense.bias": wrong["dense.bias"]})


def test_without_a_prefix_the_names_are_those_of_the_parameters():
    net = Net()
    weights.into(net, {f"F.{name}": array for name, array in fitting().items()})
    assert (values(net)["F.scale"] == 2).all()


def test_tensors_are_renamed_one_by_one_or_by_what_their_names_begin_with():
    net, theirs = Net(), some(gamma=np.float32([3.0]))
    theirs = {"gamma": theirs.pop("gamma")} | {f"layers.0.{name}": array for name, array in theirs.items()}
    matched = weights.into(net, theirs, "F.", rename={"gamma": "scale", "layers.": "wrong.", "layers.0.": "dense."})
    assert matched == weights.Matched(loaded=["F.scale", "F.dense.weight", "F.dense.bias"])
    expected = {f"F.dense.{name}": array for name, array in some().items()} | {"F.scale": np.float16([3])}
    assert equal(values(net), expected)
    with pytest.raises(ConfigError, match=r"gamma and layers\.0\.bias are both renamed to scale"):
        weights.into(net, theirs, "F.", rename={"gamma": "scale", "layers.0.bias": "scale"})


def test_a_long_list_of_names_is_cut_short():
    with pytest.raises(ConfigError, match=r"no parameter for t0, t1, t2, t3, t4 and 95 more\. Rename"):
        weights.into(Net(), fitting() | {f"t{i}": np.ones(1) for i in range(100)}, "F.")
