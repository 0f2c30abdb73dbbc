"""How a run begins and goes on: a refused start leaves no trace, a resume may change what is accepted."""

import errno
import hashlib
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml
from commands import TINY, ganfleet, one_error, tiny
from fleets import REPOSITORY, one_at_a_time, workers
from fleets import run as start_and_wait

import ganfleet as library
from ganfleet.engine import run
from ganfleet.errors import CheckpointMismatch, ConfigError
from ganfleet.nn import forms
from ganfleet.store import checkpoint, publish

STEPS = ("train.steps=4", "checkpoint.every_kimg=0.032", "log.every_steps=1")


def tree(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` with a hash of its content, and every folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run ``first`` of four steps."""
    folder = tmp_path_factory.mktemp("trained")
    ended = ganfleet("train", "--config", tiny(folder), f"run.dir={folder}/runs", "run.name=first", *STEPS)
    assert ended.code == 0, ended.output
    return folder


def again(folder, *overrides):
    return ganfleet("train", "--config", str(folder / "tiny.yaml"), f"run.dir={folder}/runs", *STEPS, *overrides)


def history(folder, name):
    return [json.loads(line) for line in (folder / "runs" / name / "history.jsonl").read_text().splitlines()]


def newest(folder, name):
    return checkpoint.load(checkpoint.newest_valid(folder / "runs" / name / "checkpoints")[0])


def test_a_refused_resume_leaves_the_run_byte_for_byte_as_it_was(trained):
    before = tree(trained)
    error = one_error(again(trained, "run.name=first", "strategy.lr=1e-5", "train.steps=6"), 85)
    assert "strategy.lr was 0.0002, is 1e-05" in error and "checkpoint.accept='[strategy.lr]'" in error
    assert tree(trained) == before


def test_a_refused_start_leaves_no_numbered_directory(trained):
    before = tree(trained)
    assert "nowhere is no checkpoint" in one_error(again(trained, "train.init_from=nowhere"), 2)
    assert tree(trained) == before


def test_a_run_that_has_reached_its_end_says_so_and_changes_nothing(trained):
    before = tree(trained)
    ended = again(trained, "run.name=first")
    assert ended.code == 0 and "has reached its end: raise train.kimg or train.steps" in ended.output
    assert tree(trained) == before


def test_an_accepted_change_goes_on_and_is_recorded(trained, tmp_path):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    change = ("run.name=first", "train.seed=4", "checkpoint.accept=[train.seed]", "train.steps=6")
    ended = again(tmp_path, *change)
    assert ended.code == 0, ended.output
    assert "accepted: train.seed was 3, is 4 from step 4 on" in ended.output
    snapshot = newest(tmp_path, "first")
    assert snapshot.facts["accepted"] == [{"step": 4, "key": "train.seed", "was": 3, "is": 4}]
    assert snapshot.facts["clock"]["step"] == 6
    told = [(line["event"], line["step"], line.get("exit_code")) for line in history(tmp_path, "first")]
    assert told == [("start", 0, None), ("end", 4, 0), ("start", 4, None), ("end", 6, 0)]
    start = history(tmp_path, "first")[2]
    assert [note.split(" ")[0] for note in start["notes"]] == ["resumed", "accepted:"]
    assert (start["ranks"], start["backend"], start["lanes"], start["directions"]) == (1, "alone", 4, [])
    assert start["ganfleet"] == library.__version__ and start["model"].startswith("GAN (arXiv:1406.2661)")


def test_an_accepted_change_that_gives_other_networks_is_refused_with_what_works(trained):
    change = ("run.name=first", "strategy.hidden=[32]", "checkpoint.accept=[strategy.hidden]", "train.steps=6")
    error = one_error(again(trained, *change), 85)
    assert "checkpoint.accept allows strategy.hidden to change" in error
    assert "Put it back, or begin a new run with train.init_from=" in error


@pytest.fixture
def elsewhere(trained, tmp_path):
    """``trained``, with a checkpoint that was made with kernels that no machine has."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "runs/first/checkpoints"
    snapshot = checkpoint.load(checkpoint.newest_valid(folder)[0])
    shutil.rmtree(folder)
    snapshot.facts["form"] = "onednn-any/9.9.9/avx9"
    checkpoint.save(folder, snapshot, step=4, keep=1)
    return tmp_path


def test_a_run_does_not_go_on_with_other_kernels_silently(elsewhere):
    error = one_error(again(elsewhere, "run.name=first", "train.steps=5"), 85)
    assert "'onednn-any/9.9.9/avx9'" in error and "checkpoint.accept='[fleet.kernels]'" in error
    ended = again(elsewhere, "run.name=first", "train.steps=5", "checkpoint.accept=[fleet.kernels]")
    assert ended.code == 0, ended.output
    now = newest(elsewhere, "first").facts
    assert now["form"] == forms.form()
    assert now["accepted"][0] | {"step": 4} == now["accepted"][0] and now["accepted"][0]["is"] == forms.form()


def test_images_are_drawn_with_the_kernels_there_are(elsewhere):
    with library.load(elsewhere / "runs/first") as loaded:
        assert np.isfinite(loaded.sample([0])).all()


def test_a_run_may_ask_for_mindspores_own_kernels_and_leaves_the_process_as_it_was(tmp_path):
    before = forms.form()
    config = tiny(tmp_path)
    library.train(config, f"run.dir={tmp_path}/runs", "run.name=stock", "train.steps=1", "fleet.kernels=stock")
    assert newest(tmp_path, "stock").facts["form"] == "stock"
    assert forms.form() == before


def test_a_run_may_begin_with_the_weights_of_another(trained):
    """Weights and averages by name; optimizers and clock afresh."""

    class Begun(library.Callback):
        def begin(self, run):
            self.snapshot = run.snapshot()

    begun, config = Begun(), str(trained / "tiny.yaml")
    words = ("run.name=tuned", f"run.dir={trained}/runs", f"train.init_from={trained}/runs/first", *STEPS)
    library.train(config, *words, callbacks=[begun])
    before, start, end = newest(trained, "first"), begun.snapshot, newest(trained, "tuned")
    for component in ("G.weights", "D.weights", "G.buffers", "D.buffers", "G.ema"):
        assert start.tensors[component].keys() == before.tensors[component].keys()
        for name, array in before.tensors[component].items():
            np.testing.assert_array_equal(start.tensors[component][name], array)
    assert start.tensors["G.optimizer"]["updates"] == 0 and start.facts["clock"]["step"] == 0
    assert end.tensors["G.optimizer"]["updates"] == 4 and end.facts["clock"]["step"] == 4


@pytest.mark.parametrize("which", ["", "checkpoints/step-00000004"])
def test_a_run_does_not_begin_with_its_own_weights(which, trained):
    before = tree(trained)
    error = one_error(again(trained, "run.name=first", f"train.init_from={trained}/runs/first/{which}"), 2)
    assert "which is of this run: leave it out to go on from the newest checkpoint" in error
    assert tree(trained) == before


def test_weights_that_do_not_match_are_refused_and_listed_or_left_out(trained):
    wider = ("strategy.hidden=[24]", "train.init_from=" + str(trained / "runs/first"))
    error = one_error(again(trained, "run.name=wider", *wider), 85)
    assert "D.last.weight is (1, 16) there and (1, 24) here" in error and "train.init_strict" in error
    assert not (trained / "runs/wider").exists()
    ended = again(trained, "run.name=wider", *wider, "train.init_strict=false")
    assert ended.code == 0 and "not matched: D.last.weight is (1, 16) there" in ended.output


def test_a_checkpoint_with_values_that_are_not_finite_is_not_written(trained):
    ended = again(trained, "run.name=spoilt", "strategy.name=faulty_gan:NotFinite")
    error = one_error(ended, 80)
    assert "G.weights/G.last.bias are not finite, so no checkpoint is written" in error
    assert not list((trained / "runs/spoilt/checkpoints").iterdir())
    last = history(trained, "spoilt")[-1]
    assert (last["event"], last["error"], last["exit_code"]) == ("end", "NonFinite", 80)
    assert "G.last.bias are not finite" in last["message"]


# ── From Python


class Watching(library.Callback):
    """Notes what it is told, in order."""

    def __init__(self):
        self.told = []

    def begin(self, run):
        self.told.append("begin")

    def after_step(self, run, stats):
        self.told.append(f"step {run.clock.step} {sorted(stats)[:2]}")

    def on_log(self, run, line):
        self.told.append(f"log {line['step']} {line['nimg']} {'Schedule/lr/D' in line}")

    def on_samples(self, run, images):
        self.told.append(f"samples {images.shape}")

    def on_checkpoint(self, run, path):
        self.told.append(f"checkpoint {Path(path).name}")

    def at_end(self, run):
        self.told.append("end")

    def on_error(self, run, error):
        self.told.append(type(error).__name__)


def test_train_takes_arrays_and_callbacks_and_gives_the_directory(tmp_path):
    """The config is a dict, the source an array of images of one brightness, with classes."""
    images = np.full((32, 1, 8, 8), 200, np.uint8)
    watching = Watching()
    path = library.train(
        GAN,
        "train.steps=2",
        f"run.dir={tmp_path}",
        "run.name=mine",
        source={"image": images, "label": np.arange(32) % 4},
        callbacks=[watching],
    )
    assert path == tmp_path / "mine"
    loss = "['Loss/D', 'Loss/G']"
    assert watching.told == [
        "begin",
        "samples (4, 1, 8, 8)",
        f"step 1 {loss}",
        "log 2 32 True",
        f"step 2 {loss}",
        "samples (4, 1, 8, 8)",
        "checkpoint step-00000002",
        "end",
    ]
    facts = checkpoint.load(path / "checkpoints/step-00000002").facts
    assert facts["source"]["images"] == 32 and facts["source"]["classes"] == 4
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 2 and "Loss/D" in lines[-1]


def test_a_run_that_a_callback_ends_at_once_says_so_in_its_history(tmp_path):
    class Refuses(library.Callback):
        def begin(self, run):
            raise ConfigError("no login")

    with pytest.raises(ConfigError, match="no login"):
        library.train(GAN, f"run.dir={tmp_path}/runs", "run.name=none", source=IMAGES, callbacks=[Refuses()])
    start, end = history(tmp_path, "none")
    assert (start["event"], end["event"], end["error"], end["message"]) == ("start", "end", "ConfigError", "no login")


def test_a_failing_run_tells_what_came_of_its_last_checkpoint(tmp_path, monkeypatch, capsys):
    """It is still being written as the run fails, and an old one cannot be removed."""
    failing = threading.Event()
    save = checkpoint.save

    def refuse(path):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    def late(folder, snapshot, step, *rest):
        if step == 2:
            failing.wait(60)
        return save(folder, snapshot, step, *rest)

    class Fails(library.Callback):
        def after_step(self, run, stats):
            if run.clock.step == 3:
                threading.Timer(0.3, failing.set).start()
                raise ConfigError("no more")

    monkeypatch.setattr(checkpoint, "save", late)
    monkeypatch.setattr(publish, "remove", refuse)
    settings = ("train.steps=4", "checkpoint.every_kimg=0.016", "checkpoint.keep=1")
    with pytest.raises(ConfigError, match="no more"):
        library.train(GAN, *settings, f"run.dir={tmp_path}", "run.name=mine", source=IMAGES, callbacks=[Fails()])
    told = capsys.readouterr()
    second = next(line for line in (told.out + told.err).splitlines() if "saved" in line and "step-00000002" in line)
    assert "step-00000001 cannot be removed (Operation not permitted)" in second


def test_a_callback_that_changes_the_current_folder_does_not_move_the_run(tmp_path, monkeypatch):
    class Wanders(library.Callback):
        def after_step(self, run, stats):
            os.chdir("/")

    monkeypatch.chdir(tmp_path)
    path = library.train(GAN, "run.name=here", source=IMAGES, callbacks=[Wanders()])
    assert path == Path("runs/here") and Path.cwd() == tmp_path
    assert checkpoint.within(Path("runs/here"))


def test_a_start_that_is_refused_gets_no_data_ready(tmp_path):
    class Slow(list):
        prepared = 0

        def prepare(self, resolutions):
            Slow.prepared += 1

    data = Slow([{"image": np.zeros((1, 8, 8), np.uint8), "label": 0}] * 16)
    library.train(GAN, f"run.dir={tmp_path}", "run.name=mine", source=data)
    assert Slow.prepared == 1
    with pytest.raises(CheckpointMismatch, match=r"mine was made with another config: train.seed was 3, is 4"):
        library.train(GAN, f"run.dir={tmp_path}", "run.name=mine", "train.seed=4", source=data)
    assert Slow.prepared == 1


# As the tiny config has it, whose graphs are compiled already.
GAN = {section: yaml.safe_load(TINY)[section] for section in ("strategy", "train")}
GAN = {**GAN, "train": GAN["train"] | {"steps": 1}, "log": {"samples": 4}}
IMAGES = {"image": np.zeros((64, 1, 8, 8), np.uint8), "label": np.zeros(64, np.int32)}


@pytest.mark.parametrize(
    "arguments, keywords, told",
    [
        ((None,), {}, "the config is of type NoneType: give a path, a dict or a Config"),
        ((GAN, 3), {}, "3 is no override: write 'key=value'"),
        ((GAN,), {"callbacks": [Watching]}, r"is no callback: write Watching\(\)"),
        ((GAN,), {"callbacks": [print]}, "is no callback: give ganfleet.Callback objects"),
        (
            (GAN, "data.source=folder", "data.path=/photos"),
            {"source": IMAGES},
            "two sources, data.source=folder and source=: leave one out",
        ),
        ((GAN, "data.source=given"), {}, r"means ganfleet.train\(…, source=…\)"),
    ],
)
def test_what_train_cannot_take_is_refused(arguments, keywords, told):
    with pytest.raises(ConfigError, match=told):
        library.train(*arguments, **keywords)


def test_a_run_says_that_its_source_was_given(tmp_path):
    """So that nobody goes on with it on other data."""
    path = library.train(GAN, f"run.dir={tmp_path}", source=IMAGES)
    assert "gan-given8" in path.name
    assert "source: given" in (path / "config.yaml").read_text()
    with library.load(path) as loaded:
        assert loaded.sample([0]).shape == (1, 1, 8, 8)


def test_a_callback_hears_of_the_error_that_ends_a_run(tmp_path):
    class Fails(Watching):
        def after_step(self, run, stats):
            raise RuntimeError("of the callback's own")

    failing, watching = Fails(), Watching()
    with pytest.raises(RuntimeError, match="of the callback's own"):
        library.train(GAN, "train.steps=2", f"run.dir={tmp_path}", "run.name=r", callbacks=[failing, watching])
    assert watching.told[-1] == "RuntimeError"


# ── On a fleet


def test_reduced_images_are_made_before_the_fleet_connects(monkeypatch, tmp_path):
    """A rank that made them later would let the others wait in a collective."""
    order = []

    class Slow:
        def __len__(self):
            return 16

        def __getitem__(self, index):
            return np.zeros((1, 8, 8), np.uint8)

        def prepare(self, resolutions):
            order.append(f"prepare {resolutions}")

    def connect(*_):
        order.append("connect")
        raise ConnectionError

    monkeypatch.setattr(run.fleet, "connect", connect)
    config = {"strategy": {"name": "gan", "resolution": 8}, "train": {"batch_size": 8}}
    with pytest.raises(ConnectionError):
        library.train(config, f"run.dir={tmp_path}", source=Slow())
    assert order == ["prepare [8]", "connect"]


@one_at_a_time
@pytest.mark.parametrize(
    "missing, told",
    [
        pytest.param("false", "the number of images is 32 on rank 0", marks=pytest.mark.slow),
        ("true", "data.path: /mnt/images is not mounted"),
    ],
)
def test_ranks_that_do_not_see_the_same_data_end_before_they_train(missing, told, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{REPOSITORY / 'tests'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    words = ["run.name=odd", "data.source=odd_source:Odd", f"data.missing={missing}"]
    ended = start_and_wait(workers(2, "--config", tiny(tmp_path), *words), tmp_path)
    assert ended.code == 65, ended.output
    assert told in ended.output and "rank 1" in ended.output and "Traceback" not in ended.output
    assert not (tmp_path / "runs").exists()
