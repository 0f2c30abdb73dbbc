"""What older releases wrote is read under the names of today; checkpoints of commit a1bd39e stay readable for ever."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import yaml
from click.testing import CliRunner

from ganfleet.cli.ckpt import command
from ganfleet.store import checkpoint, migrate

A1BD39E = Path(__file__).parent / "a1bd39e"
NAMES = ("dcgan", "stylegan", "wgan", "cyclegan")


def path_of(name: str) -> Path:
    return A1BD39E / name / "checkpoints" / "step-00000004"


def on_disk(name: str) -> dict[str, dict[str, np.ndarray]]:
    """The files' tensors, as any safetensors reader gives them."""
    return {file.stem: safetensors.numpy.load_file(file) for file in path_of(name).glob("*.safetensors")}


def digest_lines(text: str) -> dict[str, str]:
    return dict(line.split() for line in text.splitlines())


# The checkpoints of a1bd39e


@pytest.mark.parametrize("name", NAMES)
def test_an_old_checkpoint_verifies_and_has_the_digest_it_had_then(name):
    assert CliRunner().invoke(command, ["verify", str(A1BD39E / name)]).exit_code == 0
    printed = CliRunner().invoke(command, ["digest", str(A1BD39E / name)]).stdout
    assert printed == (A1BD39E / name / "step-00000004.digest").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_an_old_checkpoint_has_its_bits_under_the_names_of_today(name):
    old, new = on_disk(name), checkpoint.load(path_of(name))
    expected = {component: dict(tensors) for component, tensors in old.items()}
    assert list(expected.pop("strategy")) == (["w_avg"] if name == "stylegan" else [])
    expected |= {"G.buffers": {}, "D.buffers": {}}
    if name == "dcgan":
        running = expected["G.weights"].pop("G.norms.0.running")
        expected["G.buffers"]["G.norms.0.moments.value"] = running
        assert running.shape == (2, 4) and (running[1] > 0).all()
    if name == "stylegan":
        expected["G.buffers"]["G.w_avg.value"] = old["strategy"]["w_avg"]
        assert old["strategy"]["w_avg"].shape == (8,) and old["strategy"]["w_avg"].any()
    assert new.tensors.keys() == expected.keys()
    for component, tensors in expected.items():
        assert new.tensors[component].keys() == tensors.keys()
        for tensor, array in tensors.items():
            np.testing.assert_array_equal(new.tensors[component][tensor], array)


@pytest.mark.parametrize("name", NAMES)
def test_an_old_checkpoint_keeps_its_facts_and_gets_those_that_are_new(name):
    old, new = checkpoint.load(path_of(name), as_written=True).facts, checkpoint.load(path_of(name)).facts
    assert new == {**old, "scaler": {}, "frozen": {}, "accepted": [], "form": "stock"}
    assert old["clock"]["step"] == 4 and old["data"]["position"] == old["clock"]["nimg"]


@pytest.mark.parametrize("name", NAMES)
def test_an_old_checkpoints_config_is_that_of_its_run(name):
    resolved = yaml.safe_load((A1BD39E / name / "config.yaml").read_text())
    assert checkpoint.load(path_of(name), as_written=True).config == resolved
    assert checkpoint.load(path_of(name)).config == migrate.config(resolved)


def test_what_is_saved_again_is_not_migrated_again(tmp_path):
    loaded = checkpoint.load(path_of("dcgan"))
    again = checkpoint.load(checkpoint.save(tmp_path, loaded, 4, keep=1))
    assert checkpoint.digest(again) == checkpoint.digest(loaded)
    assert checkpoint.diff(again, loaded) == []


def test_the_old_checkpoints_stay_small():
    assert sum(file.stat().st_size for file in A1BD39E.rglob("*") if file.is_file()) < 300_000


# The table


def test_state_of_a_strategy_from_elsewhere_is_kept_and_not_guessed_at():
    state = {"w_avg": np.ones(8, np.float32), "pool": np.zeros(3)}
    assert migrate.tensors({"strategy": state}, 2) == {"strategy": state}
    assert migrate.tensors({"strategy": {"w_avg": np.ones((2, 8))}}, 2).keys() == {"strategy"}


def test_a_weight_that_is_only_called_running_stays_a_weight():
    weights = {"G.running": np.ones(3), "G.pace.running": np.ones((3, 4)), "G.running.gain": np.ones((2, 4))}
    assert migrate.tensors({"G.weights": weights}, 2) == {"G.weights": weights, "G.buffers": {}}


def test_tensors_of_the_format_of_today_are_left_alone():
    tensors = {"strategy": {"w_avg": np.ones(8)}, "G.weights": {"G.norm.running": np.ones((2, 4))}}
    assert migrate.tensors(tensors, checkpoint.FORMAT) == tensors
    assert migrate.facts({"clock": 1}, checkpoint.FORMAT) == {"clock": 1}


def test_config_keys_are_renamed_moved_and_dropped(monkeypatch):
    table = {"train.rate": "train.lr", "data.cache": "source.cache", "log.colour": None, "gone": None, "a.b": "a.c"}
    monkeypatch.setattr(migrate, "CONFIG", table)
    old = {"train": {"rate": 0.1, "seed": 3}, "data": {"cache": None}, "log": {"colour": 1}, "a": {"b": 1, "c": 2}}
    assert migrate.config(old) == {
        "train": {"lr": 0.1, "seed": 3},
        "data": {},
        "source": {"cache": None},
        "log": {},
        "a": {"c": 2},
    }
    assert old["train"] == {"rate": 0.1, "seed": 3}
    assert migrate.config({"train": 3}) == {"train": 3}


def test_what_needs_a_migration_is_of_an_older_format():
    formats = [row[0] for table in (migrate.MOVED, migrate.ADDED, migrate.GONE, migrate.FACTS) for row in table]
    assert all(migrate.OLDEST <= format < checkpoint.FORMAT for format in formats)
