"""Loggers of other makers: what they keep offline, read from their files, and that they steer nothing."""

import json
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commands import ganfleet, one_error, tiny
from PIL import Image

from ganfleet.clock import Clock
from ganfleet.engine import loggers
from ganfleet.errors import ConfigError, Stopped
from ganfleet.fleet import Fleet

# ── Any logger


class Notebook(loggers.Logger):
    """Notes what it is told. ``json`` stands for its package, which is installed everywhere."""

    package, offline = "json", "NOTEBOOK=offline"
    fails_at: str | None = None

    def note(self, what, *more):
        if what == self.fails_at:
            raise RuntimeError(f"{what} failed")
        self.notes.append((what, *more))

    def start(self, identifier, name, directory, config):
        self.notes = []
        self.note("start", identifier, name)
        return "open"

    def log(self, opened, values, step):
        self.note("log", values, step)

    def image(self, picture):
        return np.asarray(picture)

    def finish(self, opened, error):
        self.note("finish", error)


def run_in(directory, rank=0, said=None):
    said = [] if said is None else said
    return SimpleNamespace(
        directory=directory,
        fleet=Fleet(4, rank=rank, world_size=2 if rank else 1),
        clock=Clock(10**6, step=7, nimg=112),
        config=SimpleNamespace(resolved=lambda: {"train": {"seed": 3}}),
        journal=SimpleNamespace(say=said.append),
    )


def told(logger, run):
    logger.begin(run)
    logger.on_log(run, {"step": 7, "nimg": 112, "resolution": [8, 12], "Loss/D": 0.5})
    logger.on_metrics(run, {"kid_x": 0.25})
    logger.at_end(run)


def test_a_logger_gets_numbers_by_name_and_the_same_run_again_after_a_resume(tmp_path):
    first, second = Notebook(), Notebook()
    for each in (first, second):
        told(each, run_in(tmp_path))
    [identifier] = {each.notes[0][1] for each in (first, second)}
    assert len(identifier) == 16 and json.loads((tmp_path / "json.json").read_text()) == {"id": identifier}
    assert first.notes[1:] == [
        ("log", {"nimg": 112, "Loss/D": 0.5}, 7),
        ("log", {"Metrics/kid_x": 0.25}, 7),
        ("finish", None),
    ]


def test_ranks_other_than_the_first_open_nothing(tmp_path):
    logger, said = Notebook(), []
    run = run_in(tmp_path, rank=1, said=said)
    run.fleet.gather = lambda value: [None, value]  # rank 0 has opened its own
    told(logger, run)
    assert not hasattr(logger, "notes") and said == [] and not list(tmp_path.iterdir())


def test_a_logger_that_fails_is_told_of_once_and_the_run_goes_on(tmp_path):
    logger, said = Notebook(), []
    logger.fails_at = "log"
    told(logger, run_in(tmp_path, said=said))
    assert said == ["json failed, and the run goes on without it: RuntimeError: log failed"]
    assert [each[0] for each in logger.notes] == ["start"]


def test_a_logger_that_does_not_start_refuses_the_run_with_what_to_set(tmp_path):
    logger = Notebook()
    logger.fails_at = "start"
    with pytest.raises(ConfigError, match=r"json does not start .*start failed.* set NOTEBOOK=offline"):
        logger.begin(run_in(tmp_path))


@pytest.mark.parametrize("name", ["wandb", "swanlab"])
def test_a_package_that_is_not_installed_is_named_with_its_extra(name, tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda package: None)
    monkeypatch.chdir(tmp_path)
    ended = ganfleet("train", "--config", tiny(tmp_path), "run.name=x", f"run.callbacks=[{name}]")
    assert f"{name}, which is not installed: pip install 'ganfleet[{name}]'" in one_error(ended, 2)
    assert not (tmp_path / "runs").exists()


def test_a_folder_of_that_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "notes_of_runs").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="notes_of_runs, which is not installed"):
        type("OfFolder", (Notebook,), {"package": "notes_of_runs"})()


# ── W&B and SwanLab, offline


def records(path):
    """The records of a file in LevelDB's log format, which both write after seven bytes of their own."""
    content, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield whole
            whole = b""


@pytest.fixture(scope="module", params=["wandb", "swanlab"])
def logged(request, tmp_path_factory):
    """The directory of a run of four steps that went on to eight, and the name of its logger."""
    pytest.importorskip(request.param, reason=f"pip install 'ganfleet[{request.param}]'")
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"WANDB_MODE": "offline", "SWANLAB_MODE": "offline", "HOME": str(folder)}.items():
            patch.setenv(name, value)
        for steps in (4, 8):
            ended = ganfleet(
                "train",
                "--config",
                tiny(folder),
                f"run.dir={folder}/runs",
                "run.name=mine",
                f"run.callbacks=[{request.param}]",
                f"train.steps={steps}",
                "log.every_steps=2",
            )
            assert ended.code == 0, ended.output
    return folder / "runs" / "mine", request.param


def kept_by_wandb(directory):
    """For each process: the run's id, its config, its history as (step, values), and its exit code."""
    from wandb.proto.wandb_internal_pb2 import Record

    for path in sorted(directory.glob("wandb/offline-run-*/*.wandb")):
        parsed = [Record.FromString(each) for each in records(path)]
        [run] = {each.run.run_id: each.run for each in parsed if each.HasField("run")}.values()
        config = {each.key: json.loads(each.value_json) for each in run.config.update}
        rows = []
        for each in (each.history for each in parsed if each.HasField("history")):
            values = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in each.item}
            step, path_of_image = values["step"], values.pop("Samples/path", None)
            if path_of_image:
                values["Samples"] = path.parent / "files" / path_of_image
            rows.append((step, values))
        [code] = [each.exit.exit_code for each in parsed if each.HasField("exit")]
        yield run.run_id, config, rows, code


def kept_by_swanlab(directory):
    """The same."""
    import yaml
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record

    for path in sorted(directory.glob("swanlog/run-*/*.swanlab")):
        parsed = [Record.FromString(each) for each in records(path)]
        [identifier] = [each.start.id for each in parsed if each.HasField("start")]
        config = yaml.safe_load((path.parent / "files" / "config.yaml").read_text("utf-8"))
        rows = [(each.scalar.step, {each.scalar.key: each.scalar.value.number}) for each in parsed if each.scalar.key]
        for each in (each.media for each in parsed if each.HasField("media")):
            rows.append((each.step, {each.key: path.parent / "media" / "image" / each.value.items[0].filename}))
        [state] = [each.finish.state for each in parsed if each.HasField("finish")]
        yield identifier, {key: value["value"] for key, value in config.items()}, rows, state - 1


def test_offline_it_keeps_the_log_the_grids_and_the_config_of_a_run_that_went_on(logged):
    directory, name = logged
    first, second = {"wandb": kept_by_wandb, "swanlab": kept_by_swanlab}[name](directory)
    assert first[0] == second[0] == json.loads((directory / f"{name}.json").read_text())["id"]
    assert first[1]["train"]["steps"] == 4 and second[1]["train"]["steps"] == 8
    assert first[3] == second[3] == 0
    lines = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    for process, steps in ((first, (2, 4)), (second, (6, 8))):
        for line in (line for line in lines if line["step"] in steps):
            shown = {key: value for step, values in process[2] for key, value in values.items() if step == line["step"]}
            assert {"Loss/D", "Loss/G", "images_per_sec", "Schedule/lr/D"} <= set(shown)
            for key in set(line) & set(shown):
                assert shown[key] == pytest.approx(line[key], rel=1e-6), key
        grids = [values["Samples"] for _, values in process[2] if "Samples" in values]
        ours = {Path(each).name: np.asarray(Image.open(each)) for each in (directory / "samples").iterdir()}
        assert np.array_equal(np.asarray(Image.open(grids[-1])), ours[f"{steps[-1] * 0.016:010.3f}kimg.png"])


def test_what_a_logger_of_another_maker_is_told_at_a_signal_is_the_exit_code():
    assert loggers._exit_code(None) == 0
    assert loggers._exit_code(Stopped("by a signal")) == 75 and loggers._exit_code(KeyError("x")) == 70
