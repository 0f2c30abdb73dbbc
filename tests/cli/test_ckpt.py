"""``ganfleet ckpt`` as a user types it."""

import hashlib

import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner

from ganfleet.cli.ckpt import command
from ganfleet.store import weights
from ganfleet.store.checkpoint import Snapshot, digest, load, save


def snapshot(step, scale=1.0):
    weights = {"w": np.full(3, scale, np.float32), "b": np.zeros(2, np.float32)}
    return Snapshot({"G.weights": weights}, {"clock": {"step": step, "nimg": 150 * step}}, {})


@pytest.fixture
def run(tmp_path):
    """A run directory with the steps 10 and 20."""
    for step in (10, 20):
        save(tmp_path / "run" / "checkpoints", snapshot(step), step, keep=3)
    return tmp_path / "run"


def damage(run, step):
    (run / "checkpoints" / f"step-{step:08d}" / "G.weights.safetensors").write_bytes(b"")


def ckpt(*args):
    return CliRunner().invoke(command, [str(arg) for arg in args])


def test_ls_shows_step_kimg_size_and_validity(run):
    damage(run, 20)
    for path in (run, run / "checkpoints"):
        result = ckpt("ls", path)
        header, first, second = result.stdout.splitlines()
        assert result.exit_code == 0
        assert header.split() == ["name", "step", "kimg", "size", "valid"]
        assert first.split() == ["step-00000010", "10", "1.5", "0.0", "MiB", "yes"]
        assert second.split()[:3] == ["step-00000020", "-", "-"]
        assert "no: " in second
        assert "G.weights.safetensors is damaged" in second


def test_digest_of_a_run_is_that_of_its_newest_valid_checkpoint_and_says_so_on_stderr(run):
    damage(run, 20)
    newest = run / "checkpoints" / "step-00000010"
    result = ckpt("digest", run)
    assert result.exit_code == 0
    assert result.stdout == ckpt("digest", newest).stdout
    assert result.stdout.splitlines() == [f"{name} {sha256}" for name, sha256 in digest(load(newest)).items()]
    assert str(newest) in result.stderr
    assert "step-00000020/G.weights.safetensors is damaged" in result.stderr
    assert ckpt("digest", newest).stderr == ""


def test_the_total_is_the_hash_of_the_lines_above_it(run):
    *lines, total = ckpt("digest", run).stdout.splitlines(keepends=True)
    assert total == f"total {hashlib.sha256(''.join(lines).encode()).hexdigest()}\n"


def test_verify_passes_a_sound_run_and_fails_with_65_on_any_damage_naming_the_file(run):
    assert ckpt("verify", run).exit_code == 0
    damage(run, 10)
    result = ckpt("verify", run)
    assert result.exception.exit_code == 65
    assert "step-00000010/G.weights.safetensors" in str(result.exception)
    assert "step-00000020 valid" in result.stdout
    assert ckpt("verify", run / "checkpoints" / "step-00000010").exception.exit_code == 65
    assert ckpt("verify", run / "checkpoints" / "step-00000020").exit_code == 0


def test_digest_of_a_damaged_checkpoint_fails_with_65(run):
    damage(run, 20)
    assert ckpt("digest", run / "checkpoints" / "step-00000020").exception.exit_code == 65


def test_diff_shows_the_largest_first_and_cuts_at_most(run, tmp_path):
    save(tmp_path / "other", snapshot(20, scale=1.25), 20, keep=1)
    assert ckpt("diff", run, tmp_path / "other").stdout == "G.weights/w  max abs 0.25  max rel 0.2\n"
    save(tmp_path / "other", snapshot(30, scale=1.25), 30, keep=1)
    clock, hidden = ckpt("diff", "--most", 1, run, tmp_path / "other").stdout.splitlines()
    assert clock == 'clock  {"nimg":3000,"step":20} → {"nimg":4500,"step":30}'
    assert hidden == "and 1 more (--most 2 shows all)"
    assert ckpt("diff", run, run).stdout == "no difference\n"


@pytest.mark.parametrize("verb", ["ls", "verify", "digest", "diff"])
def test_a_path_without_checkpoints_is_a_usage_error(verb, tmp_path):
    for path in (tmp_path, tmp_path / "typo"):
        result = ckpt(verb, path, *([path] if verb == "diff" else []))
        assert result.exception.exit_code == 2
        assert str(path) in str(result.exception)


# Export


@pytest.fixture
def averaged(tmp_path):
    """A run whose G has an EMA, and whose D has none."""
    tensors = {
        "G.weights": {"G.w": np.zeros(2, np.float32)},
        "G.ema": {"G.w": np.ones(2, np.float32)},
        "G.buffers": {"G.moments.value": np.full((2, 1), 3, np.float32)},
        "D.weights": {"D.w": np.full(2, 2, np.float32)},
    }
    save(tmp_path / "averaged" / "checkpoints", Snapshot(tensors, {}, {}), 10, keep=1)
    return tmp_path / "averaged"


@pytest.mark.parametrize("options, w", [((), 1), (("--ema",), 1), (("--no-ema",), 0)])
def test_export_writes_the_players_networks_for_any_safetensors_reader(averaged, tmp_path, options, w):
    out = tmp_path / "G.safetensors"
    result = ckpt("export", averaged, "--player", "G", "--out", out, *options)
    assert result.exit_code == 0
    tensors = safetensors.numpy.load_file(out)
    assert {name: array.flat[0] for name, array in tensors.items()} == {"G.w": w, "G.moments.value": 3}
    assert result.stdout == f"{out}: 2 tensors, sha256 {weights.sha256(tensors)}\n"


def test_export_of_a_player_without_ema_takes_its_weights(averaged, tmp_path):
    out = tmp_path / "D.safetensors"
    assert ckpt("export", averaged, "--player", "D", "--out", out).exit_code == 0
    assert safetensors.numpy.load_file(out)["D.w"].tolist() == [2, 2]


@pytest.mark.parametrize(
    "options, told",
    [
        (("--player", "E", "--out", "a.safetensors"), "no player E: its players are D, G"),
        (("--player", "D", "--ema", "--out", "a.safetensors"), "player D has no EMA"),
        (("--player", "G", "--out", "a.ckpt"), "a .safetensors file"),
        (
            ("--player", "G", "--out", "no/a.safetensors"),
            "--out no/a.safetensors: there is no folder no, make it first",
        ),
        (("--player", "G", "--out", "."), "--out . is a folder: name a file in it"),
    ],
)
def test_export_refuses_what_is_not_there_and_writes_nothing(averaged, tmp_path, monkeypatch, options, told):
    monkeypatch.chdir(tmp_path)
    result = ckpt("export", averaged, *options)
    assert result.exception.exit_code == 2
    assert told in str(result.exception)
    assert [each.name for each in tmp_path.iterdir()] == ["averaged"]
