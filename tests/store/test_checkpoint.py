"""What is loaded is what was saved, and a kill, a flipped bit or a full disk never costs the last good checkpoint."""

import errno
import hashlib
import json
import os
import resource
import shutil
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ganfleet.errors import CheckpointDamaged, CheckpointMismatch, ConfigError, StorageError
from ganfleet.store import publish
from ganfleet.store.checkpoint import (
    Snapshot,
    checkpoints,
    diff,
    digest,
    load,
    newest_valid,
    nonfinite,
    resolve,
    save,
)

SYSTEM_CALLS = ("mkdir", "open", "write", "fsync", "rename", "unlink", "rmdir")


def snapshot(seed=0, step=10, **changes):
    draw = np.random.default_rng(seed)
    tensors = {
        "G.weights": {"G.fc.weight": draw.standard_normal((3, 4), np.float32), "G.fc.bias": np.zeros(3, np.float32)},
        "D.optimizer": {"m": draw.standard_normal(5, np.float32), "step": np.asarray(step)},
        "strategy": {},
    }
    facts = {"clock": {"step": step, "nimg": 64 * step}, "data": {"epoch": 1, "position": 7}}
    return Snapshot(tensors | changes, facts, config={"train": {"seed": seed}})


def content(state):
    """Everything in a snapshot as comparable values, independent of `digest`."""
    tensors = {
        (component, name): (array.dtype, array.shape, array.tobytes())
        for component, group in state.tensors.items()
        for name, array in group.items()
    }
    return list(state.tensors), tensors, state.facts, state.config


def names(root):
    return sorted(path.name for path in root.iterdir())


def flip(path, byte, bit=0):
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


@pytest.fixture
def two(tmp_path):
    """Step 10 and step 20, both valid."""
    return save(tmp_path, snapshot(1, 10), 10, keep=3), save(tmp_path, snapshot(2, 20), 20, keep=3)


# Round trip


def test_what_is_loaded_is_what_was_saved(tmp_path):
    path = save(tmp_path / "run" / "checkpoints", snapshot(), 30, keep=1)
    assert path.name == "step-00000030"
    loaded = load(path)
    assert sorted(content(loaded)[0]) == ["D.optimizer", "G.weights", "strategy"]
    assert content(loaded)[1:] == content(snapshot())[1:]
    assert digest(loaded) == digest(snapshot())


@pytest.mark.parametrize(
    "array",
    [
        np.float32(1.5),
        np.array(7),
        np.array([True, False]),
        np.zeros((0, 3), np.float32),
        np.arange(6, dtype=np.float16).reshape(2, 3).T,
        np.arange(12, dtype=np.int8)[::3],
        np.arange(3, dtype=">i4"),
        np.array([2**64 - 1], np.uint64),
        np.array([np.nan, np.inf, -0.0, 5e-324]),
    ],
    ids=["scalar", "0-d", "bool", "no-elements", "transposed", "strided", "big-endian", "uint64", "special-floats"],
)
def test_every_kind_of_array_comes_back_with_its_values_shape_and_dtype(tmp_path, array):
    loaded = load(save(tmp_path, snapshot(lanes={"x": array}), 1, keep=1))
    back = loaded.tensors["lanes"]["x"]
    assert back.shape == array.shape
    assert back.dtype.name == array.dtype.name
    np.testing.assert_array_equal(back, array)
    np.testing.assert_array_equal(np.signbit(back.astype(float)), np.signbit(np.asarray(array).astype(float)))
    assert digest(loaded) == digest(snapshot(lanes={"x": array}))


def test_a_dtype_that_could_not_be_read_back_is_refused_before_writing():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    for array in (np.ones(2, bfloat16), np.array(["text"])):
        with pytest.raises(TypeError, match="lanes/x has dtype"):
            snapshot(lanes={"x": array})


@pytest.mark.parametrize("name", ["clock", "total", "a/b", "../up", ".hidden", ""])
def test_component_names_that_could_be_mistaken_are_refused(name):
    with pytest.raises(ValueError, match="must be unique"):
        snapshot(**{name: {"x": np.ones(1)}})


def test_checkpoint_files_are_as_readable_as_the_umask_allows(tmp_path):
    before = os.umask(0o022)
    try:
        path = save(tmp_path, snapshot(), 1, keep=1)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o644}


def test_tensors_with_nan_or_infinity_are_named(tmp_path):
    assert nonfinite(snapshot()) == []
    poisoned = {"ok": np.ones(3), "nan": np.array([0, np.nan]), "inf": np.float16(-np.inf), "whole": np.arange(3)}
    found = snapshot(lanes=poisoned, pool={"z": np.array([1j * np.nan], np.complex64)})
    assert nonfinite(found) == ["lanes/inf", "lanes/nan", "pool/z"]


# Digest


def test_digest_is_the_documented_hash():
    state = Snapshot(
        {"G.weights": {"w": np.array([1, 2], "<f4"), "b": np.array(3, "<i8")}}, {"clock": {"b": 1, "a": 2}}, {}
    )
    weights = hashlib.sha256(
        b'["b","int64",[]]\n\x03\0\0\0\0\0\0\0["w","float32",[2]]\n\0\0\x80\x3f\0\0\0\x40'
    ).hexdigest()
    clock = hashlib.sha256(b'{"a":2,"b":1}').hexdigest()
    total = hashlib.sha256(f"G.weights {weights}\nclock {clock}\n".encode()).hexdigest()
    assert list(digest(state).items()) == [("G.weights", weights), ("clock", clock), ("total", total)]


def test_digest_depends_neither_on_order_nor_on_config():
    state = snapshot()
    turned = Snapshot(
        {component: dict(reversed(group.items())) for component, group in reversed(state.tensors.items())},
        {component: dict(reversed(fact.items())) for component, fact in reversed(state.facts.items())},
        config={"something": "else"},
    )
    assert list(turned.tensors) != list(state.tensors)
    assert digest(turned) == digest(state)


def test_one_ulp_in_one_element_changes_that_component_and_the_total_alone():
    before = digest(snapshot())
    for component, name in [("G.weights", "G.fc.weight"), ("G.weights", "G.fc.bias"), ("D.optimizer", "m")]:
        state = snapshot()
        array = state.tensors[component][name]
        array.flat[-1] = np.nextafter(array.flat[-1], np.float32(np.inf))
        after = digest(state)
        assert {key for key in before if before[key] != after[key]} == {component, "total"}


def test_one_step_of_the_clock_changes_the_digest():
    state = snapshot()
    state.facts["clock"]["step"] += 1
    assert {key for key, value in digest(snapshot()).items() if digest(state)[key] != value} == {"clock", "total"}


def test_a_renamed_reshaped_or_recast_tensor_changes_the_digest():
    values = np.zeros(4, np.float32)
    kinds = [{"x": values}, {"y": values}, {"x": values.reshape(2, 2)}, {"x": values.view(np.int32)}, {}]
    assert len({digest(snapshot(lanes=kind))["lanes"] for kind in kinds}) == len(kinds)


# Pruning and replacing


def test_an_old_checkpoint_that_cannot_be_removed_is_told_and_the_new_one_is_there(tmp_path, monkeypatch):
    """As where its owner has locked it: chattr +i, a snapshot, a retention policy."""

    def refuse(path):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    first, told = save(tmp_path, snapshot(step=1), 1, keep=1), []
    monkeypatch.setattr(publish, "remove", refuse)
    second = save(tmp_path, snapshot(step=2), 2, keep=1, tell=told.append)
    assert told == [
        f"{first} cannot be removed (Operation not permitted): it takes room beside the 1 that checkpoint.keep says"
    ]
    assert newest_valid(tmp_path) == (second, [])
    again = save(tmp_path, snapshot(step=2), 2, keep=1, tell=told.append)  # as after going back
    assert again != second and newest_valid(tmp_path) == (again, [])
    assert told[1].startswith(f"{second} cannot be removed")
    save(tmp_path, snapshot(step=3), 3, keep=1)


def test_pruning_keeps_the_newest(tmp_path):
    for step in (10, 30, 20_000_000, 100_000_000):
        save(tmp_path, snapshot(step=step), step, keep=3)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000030", "step-20000000", "step-100000000"]


def test_pruning_never_removes_the_checkpoint_just_written(tmp_path):
    for step in (20, 30, 10):
        path = save(tmp_path, snapshot(step=step), step, keep=1)
    assert names(tmp_path) == ["step-00000010", "step-00000030"]
    assert content(load(path))[1:] == content(snapshot(step=10))[1:]


def test_pruning_leaves_what_is_no_checkpoint(tmp_path):
    (tmp_path / "step-best").mkdir()
    mine = ["notes.txt", "step-00000005", "step-00000020"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    for step in (10, 20, 20, 30):
        path = save(tmp_path, snapshot(step=step), step, keep=2)
        assert content(load(path))[1:] == content(snapshot(step=step))[1:]
    assert names(tmp_path) == sorted([*mine, "step-00000020.2", "step-00000030", "step-best"])
    assert all((tmp_path / name).read_text() == "mine" for name in mine)


def flipped(path):
    file = path / "G.weights.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1]))


@pytest.mark.parametrize(
    "damage",
    [
        flipped,
        lambda path: (path / "state.json").unlink(),
        lambda path: [each.unlink() for each in path.iterdir()],
        lambda path: (shutil.rmtree(path), path.symlink_to("nowhere")),
        lambda path: ((path / "state.json").unlink(), os.mkfifo(path / "state.json")),
    ],
)
@pytest.mark.parametrize("step", [30, 40])
def test_a_damaged_checkpoint_takes_no_valid_ones_place(damage, step, tmp_path):
    """Two are kept; the run went on from 20, so that 40 is not one of its own."""
    for each in (10, 20, step):
        save(tmp_path, snapshot(step=each), each, keep=3)
    damage(tmp_path / f"step-{step:08d}")
    save(tmp_path, snapshot(step=35), 35, keep=2)
    assert names(tmp_path) == sorted(["step-00000020", f"step-{step:08d}", "step-00000035"])
    assert newest_valid(tmp_path)[0].name == "step-00000035"
    for each in (50, 60):
        save(tmp_path, snapshot(step=each), each, keep=2)
    assert names(tmp_path) == ["step-00000050", "step-00000060"]


def test_stale_temporary_directories_are_removed(tmp_path):
    (tmp_path / ".tmp-00000005").mkdir()
    (tmp_path / ".tmp-00000005" / "G.weights.safetensors").write_bytes(b"half")
    save(tmp_path, snapshot(), 10, keep=1)
    assert names(tmp_path) == ["step-00000010"]


def test_writing_a_step_again_replaces_it_even_when_the_first_is_damaged(two):
    flip(two[1] / "state.json", 0)
    assert save(two[1].parent, snapshot(3, 20), 20, keep=3) == two[1]
    assert names(two[1].parent) == ["step-00000010", "step-00000020"]
    assert content(load(two[1]))[1:] == content(snapshot(3, 20))[1:]


def nimg_saved(root):
    return [load(path).facts["clock"]["nimg"] for path in checkpoints(root)]


def save_at(root, nimg, **kept):
    save(root, Snapshot({"G.weights": {"w": np.ones(1)}}, {"clock": {"step": nimg, "nimg": nimg}}, {}), nimg, **kept)


def test_the_first_checkpoint_past_each_multiple_stays_for_ever(tmp_path):
    for nimg in range(30, 400, 30):
        save_at(tmp_path, nimg, keep=2, keep_every_nimg=100)
    assert nimg_saved(tmp_path) == [120, 210, 300, 360, 390]


def test_a_multiple_met_exactly_counts_and_one_checkpoint_may_pass_several(tmp_path):
    for nimg in (50, 100, 150, 450, 460, 500, 510, 520):
        save_at(tmp_path, nimg, keep=1, keep_every_nimg=100)
    assert nimg_saved(tmp_path) == [100, 450, 500, 520]


def test_where_a_milestone_is_damaged_the_checkpoint_after_it_stays_instead(tmp_path):
    for nimg in (90, 100, 110):
        save_at(tmp_path, nimg, keep=2, keep_every_nimg=100)
    (tmp_path / "step-00000100" / "state.json").write_bytes(b"{")
    for nimg in (120, 130, 140):
        save_at(tmp_path, nimg, keep=1, keep_every_nimg=100)
    assert names(tmp_path) == ["step-00000110", "step-00000140"]


# Damage


def test_a_flipped_bit_in_any_byte_of_any_file_is_found_and_the_file_named(two):
    for file in sorted(two[1].iterdir()):
        good = file.read_bytes()
        for byte in range(len(good)):
            flip(file, byte, bit=byte % 8)
            with pytest.raises(CheckpointDamaged, match=f"{file} is damaged"):
                load(two[1])
            file.write_bytes(good)
    load(two[1])


def remove(file):
    file.unlink()


def empty(file):
    file.write_bytes(b"")


def truncate(file):
    os.truncate(file, file.stat().st_size - 1)


def pad(file):
    file.write_bytes(file.read_bytes() + b"\0")


@pytest.mark.parametrize("harm", [remove, empty, truncate, pad])
def test_a_missing_empty_truncated_or_longer_file_is_named_and_the_checkpoint_before_is_used(tmp_path, harm):
    for name in [
        "G.weights.safetensors",
        "D.optimizer.safetensors",
        "strategy.safetensors",
        "state.json",
        "MANIFEST.json",
    ]:
        older = save(tmp_path, snapshot(1, 10), 10, keep=2)
        newer = save(tmp_path, snapshot(2, 20), 20, keep=2)
        harm(newer / name)
        found, lines = newest_valid(tmp_path)
        assert found == older
        assert len(lines) == 1
        assert str(newer / name) in lines[0]


def test_a_file_that_the_manifest_does_not_list_is_damage(two):
    (two[1] / "E.weights.safetensors").touch()
    with pytest.raises(CheckpointDamaged, match=r"E\.weights\.safetensors is not in the checkpoint's manifest"):
        load(two[1])


def test_a_file_of_another_checkpoint_is_damage(two):
    shutil.copy(two[0] / "G.weights.safetensors", two[1])
    with pytest.raises(CheckpointDamaged, match=r"step-00000020/G\.weights\.safetensors is damaged"):
        load(two[1])


def test_a_manifest_of_json_that_is_no_manifest_is_damage(two):
    for text in ("{}", "[]", "3", '{"files": 3}', '{"files": {}, "sha256": "0"}'):
        (two[1] / "MANIFEST.json").write_text(text)
        with pytest.raises(CheckpointDamaged, match=r"MANIFEST\.json is damaged"):
            load(two[1])


def test_only_damage_newer_than_the_valid_one_is_reported(two):
    flip(two[0] / "state.json", 0)
    assert newest_valid(two[0].parent) == (two[1], [])


def test_none_valid_is_an_error_that_names_every_damaged_file_and_none_at_all_is_not(two, tmp_path):
    flip(two[0] / "state.json", 0)
    (two[1] / "MANIFEST.json").unlink()
    with pytest.raises(CheckpointDamaged, match="None of the 2 checkpoints") as caught:
        newest_valid(two[0].parent)
    assert caught.value.exit_code == 65
    assert str(two[0] / "state.json") in str(caught.value)
    assert str(two[1] / "MANIFEST.json") in str(caught.value)
    assert newest_valid(tmp_path / "nothing") == (None, [])


@pytest.mark.parametrize("stray", [".DS_Store", "._state.json", "Thumbs.db", "desktop.ini", ".nfs000000000123abcd"])
def test_what_desktops_and_network_file_systems_leave_in_a_folder_is_no_damage(two, stray):
    (two[1] / stray).write_bytes(b"whatever")
    assert newest_valid(two[0].parent) == (two[1], [])
    assert content(load(two[1])) == content(load(two[1], as_written=True))
    save(two[0].parent, snapshot(3, 30), 30, keep=1)
    assert names(two[0].parent) == ["step-00000030"]


def test_a_folder_that_cannot_be_read_is_an_error_and_not_an_empty_one(tmp_path, monkeypatch):
    """Taken for an empty one it would start the run anew, and the next checkpoints would push out the good ones."""

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    for reading in (checkpoints, newest_valid, resolve):
        with pytest.raises(StorageError, match=f"cannot read the checkpoints in {tmp_path}.*Permission denied"):
            reading(tmp_path)


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_checkpoint_that_may_only_be_read_is_read():
    with tempfile.TemporaryDirectory() as made:  # not tmp_path, which other users may not enter
        root = Path(made)
        older = save(root / "checkpoints", snapshot(1, 10), 10, keep=2)
        newer = save(root / "checkpoints", snapshot(2, 20), 20, keep=2)
        flip(newer / "state.json", 0)
        for path in [root, *root.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        child = os.fork()
        if child == 0:
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)  # root may write everywhere
                assert not os.access(root / "checkpoints", os.W_OK)
                assert newest_valid(root / "checkpoints")[0] == resolve(root)[0] == older
                assert content(load(older))[1:] == content(snapshot(1, 10))[1:]
                with pytest.raises(StorageError, match="Permission denied"):
                    save(root / "checkpoints", snapshot(3, 30), 30, keep=1)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert names(root / "checkpoints") == ["step-00000010", "step-00000020"]
        for path in (root, *root.rglob("*")):
            path.chmod(0o755)


def test_a_later_format_is_refused_as_a_mismatch_and_not_taken_for_damage(tmp_path, monkeypatch):
    monkeypatch.setattr("ganfleet.store.checkpoint.FORMAT", 99)
    path = save(tmp_path, snapshot(), 10, keep=1)
    monkeypatch.undo()
    with pytest.raises(
        CheckpointMismatch, match=r"format 99, but this ganfleet reads the formats 2 to 4.*or a newer one"
    ):
        load(path)


def test_a_path_means_itself_or_the_newest_valid_checkpoint_below_it(tmp_path):
    run = tmp_path / "run"
    older = save(run / "checkpoints", snapshot(step=10), 10, keep=2)
    newer = save(run / "checkpoints", snapshot(step=20), 20, keep=2)
    assert resolve(run) == resolve(run / "checkpoints") == (newer, [])
    assert resolve(older) == (older, [])
    best = older.rename(tmp_path / "best")
    assert resolve(best) == (best, [])
    for nothing in (tmp_path, tmp_path / "typo"):
        with pytest.raises(ConfigError, match="no checkpoint and holds none"):
            resolve(nothing)


# Kills and full disks


def fresh(root):
    """Step 20 where only step 10 is, so that step 10 is pruned."""
    save(root, snapshot(1, 10), 10, keep=1)
    return 20


def again(root):
    """Step 10 where another step 10 is."""
    save(root, snapshot(1, 10), 10, keep=1)
    return 10


def again_after_a_kill(root):
    """Step 10 where a kill left two of step 10 behind."""
    save(root, snapshot(3, 10), 10, keep=1)
    (root / "step-00000010").rename(root / "aside")
    save(root, snapshot(1, 10), 10, keep=1)
    (root / "step-00000010").rename(root / "step-00000010.1")
    (root / "aside").rename(root / "step-00000010")
    return 10


def die_at_call(count):
    """Patch the system calls that change a directory so that the ``count``-th kills this process, a write halfway."""
    calls = iter(range(1, count))

    def patched(name, real):
        def call(*args, **kwargs):
            if next(calls, None) is None:
                if name == "write":
                    real(args[0], args[1][: len(args[1]) // 2])
                os._exit(9)
            return real(*args, **kwargs)

        return call

    for name in SYSTEM_CALLS:
        setattr(os, name, patched(name, getattr(os, name)))


def save_and_die(root, step, count):
    """Whether a child process that saves ``snapshot(2, step)`` died at its ``count``-th system call."""
    child = os.fork()
    if child == 0:
        try:
            die_at_call(count)
            save(root, snapshot(2, step), step, keep=1)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.filterwarnings("ignore:.*fork.*")
@pytest.mark.parametrize("before", [fresh, again, again_after_a_kill])
def test_a_kill_at_any_system_call_leaves_the_old_or_the_new_checkpoint_bit_for_bit(tmp_path, before):
    old, seen = None, []
    for count in range(1, 200):
        root = tmp_path / str(count)
        step = before(root)
        old, new = content(snapshot(1, 10))[1:], content(snapshot(2, step))[1:]
        died = save_and_die(root, step, count)
        found, damaged = newest_valid(root)
        assert damaged == []
        now = content(load(found))[1:]
        assert now in (old, new), f"killed at call {count}"
        seen.append(now == new)

        save(root, snapshot(4, 30), 30, keep=1)  # the next save tidies up
        assert names(root) == ["step-00000030"]
        if not died:
            break
    assert not died
    assert len(seen) > 20
    assert seen == sorted(seen), "once the new one was there, a later kill brought the old one back"
    assert (seen[0], seen[-1]) == (False, True)


def test_everything_is_durable_before_the_rename_and_the_rename_before_anything_is_removed(tmp_path, monkeypatch):
    save(tmp_path, snapshot(1, 10), 10, keep=1)
    trace, opened = [], {}

    def spy(name, real):
        def call(target, *args, **kwargs):
            result = real(target, *args, **kwargs)
            if name == "open":
                opened[result] = os.path.basename(target)
            trace.append((name, os.path.basename(opened[target] if isinstance(target, int) else target)))
            return result

        return call

    for name in ("open", "write", "fsync", "rename"):
        monkeypatch.setattr(os, name, spy(name, getattr(os, name)))
    save(tmp_path, snapshot(2, 20), 20, keep=1)
    monkeypatch.undo()

    made = next(name for call, name in trace if call == "rename" and name.startswith(".tmp-"))
    published = trace.index(("rename", made))
    for file in (tmp_path / "step-00000020").iterdir():
        written = trace.index(("write", file.name))
        assert written < trace.index(("fsync", file.name)) < published
    assert trace.index(("fsync", "MANIFEST.json")) < trace.index(("fsync", made)) < published
    assert published < trace.index(("fsync", tmp_path.name)) < trace.index(("rename", "step-00000010"))


@pytest.mark.parametrize("name", ["mkdir", "open", "write", "fsync", "rename"])
def test_a_full_disk_leaves_the_older_checkpoints_and_nothing_half_written(two, monkeypatch, name):
    root, real = two[0].parent, getattr(os, name)
    for count in range(1, 20):
        calls = []

        def full_at_count(*args, calls=calls, count=count, **kwargs):
            calls.append(args)
            if len(calls) == count:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, full_at_count)
        try:
            save(root, snapshot(3, 30), 30, keep=3)
            if len(calls) < count:
                break  # nothing failed any more
        except StorageError as error:
            assert error.exit_code == 74
            assert f"step 30 in {root} failed" in str(error)
            assert "No space left on device" in str(error)
            assert "Still there: step-00000010, step-00000020" in str(error)
        assert checkpoints(root)[:2] == list(two)
        # Removing a directory opens it: where that fails, the next save tidies up.
        left = [each for each in names(root) if name != "open" or not each.startswith(".tmp-")]
        assert left == [path.name for path in checkpoints(root) if load(path)]
    assert 1 < count < 19


def test_a_file_size_limit_is_reported_as_a_storage_error(two):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(StorageError, match="File too large"):
            save(two[0].parent, snapshot(lanes={"pool": np.zeros(10_000)}), 30, keep=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(two[0].parent) == ["step-00000010", "step-00000020"]
    assert newest_valid(two[0].parent) == (two[1], [])


def test_short_writes_are_completed(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:7]))
    path = save(tmp_path, snapshot(), 10, keep=1)
    assert content(load(path))[1:] == content(snapshot())[1:]


def test_a_root_that_is_no_directory_is_a_storage_error(tmp_path):
    (tmp_path / "checkpoints").touch()
    with pytest.raises(StorageError, match="Still there: no checkpoint"):
        save(tmp_path / "checkpoints", snapshot(), 10, keep=1)


# Differences


def test_differences_are_measured_and_the_largest_comes_first():
    a = snapshot(
        lanes={"near": np.array([4.0, 1.0]), "far": np.array([10.0, -10.0]), "same": np.ones(2), "gone": np.ones(1)}
    )
    b = snapshot(
        lanes={"near": np.array([4.0, 1.5]), "far": np.array([10.0, -40.0]), "same": np.ones(2), "new": np.ones(1)}
    )
    missing, measured = diff(a, b)[:2], diff(a, b)[2:]
    assert [(d.name, d.note) for d in missing] == [("gone", "only in A"), ("new", "only in B")]
    assert [(d.component, d.name, d.absolute, d.relative) for d in measured] == [
        ("lanes", "far", 30.0, 0.75),
        ("lanes", "near", 0.5, 0.5 / 1.5),
    ]
    assert diff(a, a) == []


def test_shape_dtype_and_facts_that_differ_are_told_in_words():
    a = snapshot(step=10, lanes={"x": np.zeros(4, np.float32), "y": np.zeros(2)})
    b = snapshot(step=10, lanes={"x": np.zeros((2, 2), np.float32), "y": np.zeros(2, np.int64)})
    b.facts["clock"]["step"] = 11
    assert {(d.component, d.name): d.note for d in diff(a, b)} == {
        ("lanes", "x"): "float32[4] → float32[2, 2]",
        ("lanes", "y"): "float64[2] → int64[2]",
        ("clock", ""): '{"nimg":640,"step":10} → {"nimg":640,"step":11}',
    }


def test_nan_inf_and_bool_are_compared_without_surprise():
    def only(a, b):
        (found,) = diff(snapshot(lanes={"x": np.array(a)}), snapshot(lanes={"x": np.array(b)}))
        return found.absolute, found.relative

    assert only([np.nan, 1.0], [np.nan, 2.0]) == (1.0, 0.5)
    assert only([np.nan], [1.0]) == (np.inf, np.inf)
    assert only([np.inf, 0.0], [np.inf, -0.0]) == (0.0, 0.0)
    assert only([True, False], [True, True]) == (1.0, 1.0)


def test_the_config_is_saved_as_readable_json(two):
    assert json.loads((two[1] / "state.json").read_text())["config"] == {"train": {"seed": 2}}
