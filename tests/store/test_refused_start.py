"""``ganfleet train`` that is refused leaves its run directory byte for byte as it was, and no new one."""

from pathlib import Path

import pytest
from commands import ganfleet, one_error, tiny

from ganfleet.store import checkpoint, rundir
from ganfleet.store.checkpoint import Snapshot


def content(root: Path) -> dict[str, bytes | None]:
    return {str(each.relative_to(root)): each.read_bytes() if each.is_file() else None for each in root.rglob("*")}


def train(*overrides: str):
    return ganfleet("train", "--config", "tiny.yaml", *overrides)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """runs/mine, as a run of another seed left it, with the tiny config in the working directory."""
    monkeypatch.chdir(tmp_path)
    tiny(tmp_path)
    with rundir.plan("runs", "mine", "gan") as made:
        made.create()
        made.write_config("the config of before\n")
    other = {"strategy": {"name": "gan"}, "train": {"seed": 4}}
    checkpoint.save(made.checkpoints, Snapshot({}, {"clock": {"step": 1, "nimg": 16}}, other), 1, keep=1)
    return made.path


def test_a_run_in_use_is_refused_with_73(run):
    with rundir.plan("runs", "mine", "gan"):
        before = content(Path("runs"))
        assert "runs/mine is in use: process" in one_error(train("run.name=mine"), 73)
        assert content(Path("runs")) == before


def test_another_config_is_refused_with_85_and_the_run_as_before(run):
    before = content(Path("runs"))
    assert "train.seed was 4, is 3" in one_error(train("run.name=mine"), 85)
    assert content(Path("runs")) == before


def test_a_damaged_checkpoint_is_refused_with_65_and_the_run_as_before(run):
    (run / "checkpoints" / "step-00000001" / "state.json").write_bytes(b"")
    before = content(Path("runs"))
    assert "None of the 1 checkpoints" in one_error(train("run.name=mine"), 65)
    assert content(Path("runs")) == before


@pytest.mark.parametrize("name", [(), ("run.name=new",)])
def test_a_new_run_that_is_refused_makes_no_directory(run, name):
    before = content(Path("runs"))
    one_error(train("checkpoint.resume=nowhere", *name), 2)
    one_error(train("checkpoint.resume=runs/mine", *name), 85)
    assert content(Path("runs")) == before
