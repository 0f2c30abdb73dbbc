"""What a user gets wrong, or finds damaged: one clear message, the right exit code, on one process and on a fleet."""

import json
import re
import shutil
from pathlib import Path

import click
import numpy as np
import pytest
from commands import ganfleet, one_error, tiny
from fleets import digest, mpiexec, msrun, one_at_a_time, run, workers
from PIL import Image

from ganfleet.cli import main


@pytest.fixture(params=["alone", pytest.param("2 workers", marks=pytest.mark.slow)])
def train(request, tmp_path, monkeypatch):
    """Trains with the tiny config and overrides, in this process or through msrun."""
    monkeypatch.chdir(tmp_path)
    path = tiny(tmp_path)
    if request.param == "alone":
        return lambda *overrides: ganfleet("train", "--config", path, *overrides)
    return lambda *overrides: run(workers(2, "--config", path, *overrides), tmp_path)


# A test in tests/promises/test_faults.py, or one with raw msrun, shows that ranks end alike then.
in_one_process = pytest.mark.parametrize("train", ["alone"], indirect=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A directory whose runs/stopped ended after 12 steps, with checkpoints of steps 4, 8 and 12."""
    directory = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        assert ganfleet("train", "--config", tiny(directory), "run.name=stopped").code == 0
    return directory


@pytest.fixture
def stopped(finished, tmp_path):
    """A copy of that run in the test's own directory."""
    return Path(shutil.copytree(finished / "runs" / "stopped", tmp_path / "runs" / "stopped"))


# ── Config


@one_at_a_time
@pytest.mark.parametrize(
    "override, told",
    [
        ("train.lanes=1", "train.lanes is 1: 2 ranks cannot share them equally, but 1 can"),
        pytest.param("strategy.name=dcgam", "unknown strategy 'dcgam', did you mean dcgan?", marks=pytest.mark.slow),
    ],
)
def test_what_the_config_alone_shows_is_told_once_and_leaves_no_run(override, told, tmp_path):
    assert told in one_error(run(workers(2, "--config", tiny(tmp_path), override), tmp_path), 2)
    assert not (tmp_path / "runs").exists()


def test_more_workers_than_the_memory_has_room_for_are_refused(tmp_path):
    message = one_error(ganfleet("train", "--workers", "1000000", "--config", tiny(tmp_path)), 2)
    room = int(re.search(r"--workers 1000000: this machine has memory for (\d+) ranks", message)[1])
    assert 0 < room < 100_000


def test_a_log_directory_without_workers_is_refused(tmp_path):
    ended = ganfleet("train", "--log-dir", str(tmp_path / "logs"), "--config", tiny(tmp_path))
    assert "--log-dir keeps what the ranks print that --workers starts" in one_error(ended, 2)


@pytest.mark.parametrize(
    "options, told",
    [
        (["--nodes", "2"], "--nodes needs --master-addr"),
        (["--nodes", "2", "--master-addr", "h", "--node-rank", "2"], "--node-rank is 2, and must be below --nodes"),
        (["--nodes", "2", "--master-addr", "h", "--backend", "mpi"], "--backend mpi is for one node"),
        (["--min-workers", "3"], "--min-workers is 3, and must not be above -n"),
    ],
)
def test_options_of_launch_that_do_not_go_together_are_refused(options, told, tmp_path):
    assert told in one_error(ganfleet("launch", "-n", "2", *options, "--", "--config", tiny(tmp_path)), 2)


def test_what_starts_ranks_has_no_place_behind_the_dashes(tmp_path):
    ended = ganfleet("launch", "-n", "2", "--", "--config", tiny(tmp_path), "--workers", "2")
    assert "--workers and --log-dir do not belong behind the --" in one_error(ended, 2)


def test_networks_that_no_memory_holds_are_refused(train):
    error = one_error(train("strategy.hidden=[99999999999]"), 2)
    assert "asks for more memory than there is" in error


@one_at_a_time
def test_lanes_that_mpiexecs_ranks_cannot_share_are_told_once(tmp_path):
    ended = run(mpiexec(2, "--config", tiny(tmp_path), "train.lanes=1"), tmp_path)
    assert "train.lanes is 1: 2 ranks cannot share them equally" in one_error(ended, 2)


# ── Files that are missing or cannot be written


@in_one_process
def test_a_missing_data_path_is_named(train):
    message = one_error(train("data.source=folder", "data.path=no/such"), 2)
    assert "data.path: there is nothing at no/such" in message


@one_at_a_time
@pytest.mark.slow
def test_what_an_earlier_fleet_left_in_the_log_directory_is_not_shown_again(tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "worker_0.log").write_text("long ago\n" * 500)
    overrides = ("--log-dir", str(logs), "data.source=folder", "data.path=no/such")
    ended = run(workers(2, "--config", tiny(tmp_path), *overrides), tmp_path)
    assert "data.path: there is nothing at no/such" in one_error(ended, 2)
    assert "long ago" not in ended.output


@one_at_a_time
@pytest.mark.slow
def test_a_missing_data_path_is_named_once_under_raw_msrun(tmp_path):
    command = msrun(2, tmp_path / "logs", "--config", tiny(tmp_path), "data.source=folder", "data.path=no/such")
    ended = run(command, tmp_path)
    assert ended.code != 0  # msrun's own: 1 whatever the ranks ended with
    assert ended.output.count("ganfleet: error: data.path: there is nothing at no/such") == 1


@in_one_process
def test_a_run_directory_that_cannot_be_written_ends_with_74(train, tmp_path):
    (tmp_path / "file").touch()
    message = one_error(train("run.dir=file/runs"), 74)
    assert "cannot write file/runs" in message and "choose another run.dir" in message


# ── Images


@pytest.fixture
def folder(tmp_path):
    """Forty grey images, the twelfth of them damaged."""
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "images" / f"{number:02}.png")
    (tmp_path / "images" / "11.png").write_bytes((tmp_path / "images" / "10.png").read_bytes()[:60])
    return ["data.source=folder", "data.path=images", "data.channels=1"]


@pytest.mark.slow
def test_a_damaged_image_is_named_once_and_skipped_alike_on_every_fleet_or_ends_it_past_the_budget(
    folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = tiny(tmp_path)
    fleets = {
        "alone": ganfleet("train", "--config", path, "run.name=alone", *folder),
        "simulated": ganfleet("train", "--config", path, "run.name=simulated", "fleet.world_size=2", *folder),
        "workers": run(workers(2, "--config", path, "run.name=workers", *folder), tmp_path),
    }
    for name, ended in fleets.items():
        assert ended.code == 0, ended.output
        assert len(re.findall(r"images/11\.png cannot be decoded: .*: replaced by another image", ended.output)) == 1
        last = json.loads((tmp_path / "runs" / name / "log.jsonl").read_text().splitlines()[-1])
        assert (last["step"], last["Progress/bad_images"]) == (12, 1)
        assert digest(tmp_path / "runs" / name) == digest(tmp_path / "runs" / "alone"), name
    too_many = run(workers(2, "--config", path, "run.name=too-many", *folder, "data.bad_budget=0"), tmp_path)
    told = one_error(too_many, 65)
    assert "1 images cannot be decoded, more than data.bad_budget 0" in told and "images/11.png" in told


def test_a_run_is_not_resumed_on_other_data(folder, train, tmp_path):
    assert ganfleet("train", "--config", tiny(tmp_path), *folder, "run.name=run", "train.steps=4").code == 0
    (tmp_path / "images" / "12.png").unlink()
    message = one_error(train(*folder, "run.name=run"), 85)
    assert "images was 40, is 39" in message


# ── Checkpoints


@in_one_process
def test_a_config_that_would_give_another_model_ends_with_85_and_both_values(train, stopped):
    message = one_error(train("run.name=stopped", "train.seed=4", "strategy.lr=1e-3", "log.every_steps=1"), 85)
    assert "train.seed was 3, is 4" in message
    assert "strategy.lr was 0.0002, is 0.001" in message
    assert "every_steps" not in message


@in_one_process
def test_a_named_run_that_must_not_be_resumed_is_not_begun_again(train, stopped):
    message = one_error(train("run.name=stopped", "checkpoint.resume=never"), 2)
    assert "runs/stopped has checkpoints and checkpoint.resume is never" in message


def options(command, words):
    """Every option of ``command`` and of its own commands that takes a number which may be no integer."""
    context = click.Context(command)
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        yield from options(command.get_command(context, name), [*words, name])
    for option in command.params:
        if isinstance(option.type, click.FloatRange | click.types.FloatParamType):
            yield [*words, option.opts[0]]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_number_that_is_not_finite_is_refused_by_every_option(value):
    """A limit that is nan is never reached."""
    found = list(options(main, []))
    assert ["launch", "--hang-after"] in found and ["pairs", "--psi"] in found
    for words in found:
        told = one_error(ganfleet(*words, value), 2)
        assert f"'{words[-1]}'" in told and value in told
