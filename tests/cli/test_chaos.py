"""``ganfleet chaos``, and with it: what a run does about faults of its disk, its checkpoints and its numbers."""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from commands import ganfleet, one_error, small_disk, tiny
from fleets import digest, one_at_a_time, run, workers

import ganfleet as library
from ganfleet.chaos import plan
from ganfleet.chaos.events import EVENTS, Events
from ganfleet.errors import ConfigError, StorageError
from ganfleet.store import checkpoint

pytestmark = one_at_a_time
FULL = "No space left on device"
SKIPPED = "phase D are not finite, every rank skips the update (1 of 10 allowed)"


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
    return tmp_path


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The digest of the tiny run when nothing goes wrong."""
    folder = tmp_path_factory.mktemp("straight")
    ended = ganfleet("train", "--config", tiny(folder), f"run.dir={folder}", "run.name=straight")
    assert ended.code == 0, ended.output
    return digest(folder / "straight")


def faults(*lines):
    """Write a plan; its path."""
    Path("plan.yaml").write_text("\n".join(["faults:", *(f"  - {{{line}}}" for line in lines)]) + "\n")
    return "plan.yaml"


def chaos(directory, lines, *overrides):
    words = ["chaos", "--plan", faults(*lines), "--keep", "kept", "--", "--config", tiny(directory), "run.name=run"]
    return ganfleet(*words, *overrides)


def train(directory, *overrides):
    return ganfleet("train", "--config", tiny(directory), "run.name=run", *overrides)


def saved():
    return [path.name for path in checkpoint.checkpoints(Path("runs/run/checkpoints"))]


# ── The plan


def test_every_mistake_in_a_plan_is_told_with_its_line():
    Path("plan.yaml").write_text(
        "faults:\n"
        "  - {do: kill, rank: 1, step: 30}\n"
        "  - {do: kil, step: 30}\n"
        "  - {do: flip, step: 3, tensor: G.weights/G.last.bias, bit: 32}\n"
        "  - do: nan\n"
        "    step: 5\n"
        "    until: 4\n"
        "  - {do: stop, step: 2, ranks: 1}\n"
        "  - {do: slow, step: one}\n"
    )
    with pytest.raises(ConfigError) as caught:
        plan.read("plan.yaml")
    told = str(caught.value).splitlines()[1:]
    assert [line.split(": ")[0] for line in told] == [f"plan.yaml:{n}" for n in (3, 4, 5, 8, 9, 9)]
    for line, words in zip(
        told,
        ["do must be one of kill, stop", "bit: must be less", "until is 4", "unknown key", "an integer", "missing"],
        strict=True,
    ):
        assert words in line


@pytest.mark.parametrize(
    "text, told",
    [
        ("faults: []\n", "plan.yaml:1: faults: list at least one, such as"),
        ("faults:\n  - {do: kill, step: 0}\n", "plan.yaml:2: faults.0.step: must be greater than or equal to 1, got 0"),
        ("train\n", "plan.yaml:1: expected `faults:` with keys under them"),
        (None, "plan.yaml: cannot read the plan: No such file"),
    ],
)
def test_a_plan_that_is_refused_is_told_as_one_and_starts_nothing(text, told, directory):
    if text:
        Path("plan.yaml").write_text(text)
    assert told in one_error(ganfleet("chaos", "--plan", "plan.yaml", "--", "--config", tiny(directory)), 2)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "keep, code, told",
    [
        ("plan.yaml", 74, "cannot write plan.yaml: File exists"),
        ("notes", 2, "notes/events.jsonl:2: this is no event: choose another folder"),
        ("other", 2, "other keeps which faults of another plan have happened"),
    ],
)
def test_a_folder_that_cannot_keep_the_faults_is_refused(keep, code, told, directory):
    event = '{"event": "fault", "time": 1.5, "step": 3, "fault": 0}\n'
    for name, text in (("notes", event + "mine\n"), ("other", event)):
        Path(name).mkdir()
        Path(name, "plan.yaml").write_text("faults: [{do: kill, step: 5}]\n")
        Path(name, "events.jsonl").write_text(text)
    words = ["--plan", faults("do: kill, step: 3"), "--keep", keep, "--", "--config", tiny(directory)]
    assert told in one_error(ganfleet("chaos", *words), code)
    assert not Path("runs").exists()


def test_an_event_that_a_kill_has_cut_short_costs_no_other(tmp_path):
    events = Events(tmp_path)
    events.add("fault", rank=0, step=3, fault=0)
    whole = (tmp_path / EVENTS).read_text()
    for length in range(1, len(whole)):
        (tmp_path / EVENTS).write_text(whole + whole[:length])
        assert events.happened() == {(0, 3)}, whole[:length]  # while it is being written
        events.add("fault", rank=1, step=4, fault=1)
        assert events.happened() == {(0, 3), (1, 4)}, whole[:length]


def test_a_plan_in_the_folder_that_keeps_it_is_left_there(directory):
    Path("kept").mkdir()
    path = Path("kept", "plan.yaml")
    path.write_text("faults: [{do: kill, step: 50}]\n")
    assert ganfleet("chaos", "--plan", str(path), "--keep", "kept", "--", "--config", tiny(directory)).code == 0
    assert path.read_text() == "faults: [{do: kill, step: 50}]\n"


def test_a_file_to_be_damaged_that_no_checkpoint_has_is_told(directory):
    told = one_error(chaos(directory, ["do: damage, step: 4, file: G.last"]), 2)
    assert "damages runs/run/checkpoints/step-00000004/G.last, and there is no such file: name one of D.buffers" in told


def test_faults_happen_once_however_often_the_run_is_started(directory, straight):
    """And the report says when, or that they have not."""
    lines = ["do: raise, step: 6", "do: exit, rank: 0, step: 7", "do: kill, rank: 3, step: 8"]
    first = chaos(directory, lines)
    assert (first.code, saved()) == (70, ["step-00000004"])
    assert "RuntimeError: a fault on purpose: raise on rank 0 at step 6" in first.output
    assert "chaos: raise on rank 0 at step 6: step 6 at " in first.output
    assert "chaos: exit on rank 0 at step 7 code=0: has not happened" in first.output
    second = chaos(directory, lines)
    assert second.code == 70 and "SystemExit" in second.output
    assert "chaos: exit on rank 0 at step 7 code=0: step 7 at " in second.output
    third = chaos(directory, lines)
    assert third.code == 0 and "chaos: kill on rank 3 at step 8: has not happened" in third.output
    assert digest(Path("runs/run")) == straight
    assert "GANFLEET_CALLBACKS" not in os.environ


# ── The disk


def test_a_disk_that_is_full_for_a_while_costs_one_checkpoint_where_the_run_shall_go_on(directory, straight):
    ended = chaos(directory, ["do: full, step: 8"], "checkpoint.on_full=continue")
    assert ended.code == 0, ended.output
    [alarm] = [line for line in ended.output.splitlines() if line.startswith("alarm: ")]
    assert "step 8 " in alarm and FULL in alarm and "Still there: step-00000004" in alarm
    assert saved() == ["step-00000004", "step-00000012"]
    assert digest(Path("runs/run")) == straight


def test_a_full_disk_ends_the_run_within_a_step_where_it_shall_stop(directory, straight):
    message = one_error(chaos(directory, ["do: full, step: 4"], "log.every_steps=1"), 74)
    assert FULL in message and "Still there: no checkpoint" in message
    steps = [json.loads(line)["step"] for line in Path("runs/run/log.jsonl").read_text().splitlines()]
    assert steps[-1] < 8  # not only when the next checkpoint is due
    assert train(directory).code == 0
    assert digest(Path("runs/run")) == straight


SIGNAL = "do: signal, step: 7, to: rank"
LATE = "do: slow, step: 7, seconds: 0.5"  # so that the checkpoint of step 4 is there before step 8


@pytest.mark.parametrize(
    "when", [["do: full, step: 12"], [SIGNAL, "do: full, step: 8"], [LATE, SIGNAL, "do: full, step: 8"]]
)
def test_the_last_checkpoint_of_a_process_must_be_written_whatever_the_config_says(directory, when):
    assert FULL in one_error(chaos(directory, when, "checkpoint.on_full=continue"), 74)


class Fills(library.Callback):
    """Fills the disk after step 6, and frees it after step 10."""

    def __init__(self):
        self.alarms = []

    def after_step(self, run, stats):
        filler = run.directory.parent / "filler"
        if run.clock.step == 6:
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(512)):
                    pass
        if run.clock.step == 10:
            filler.unlink()

    def on_alarm(self, run, message):
        self.alarms.append(message)


def test_a_small_disk_that_is_full_keeps_its_checkpoints_and_takes_more_once_there_is_room(directory, straight):
    """Log, TensorBoard and grids are on it too."""
    with small_disk(directory / "disk", "2m") as disk:
        fills = Fills()
        arguments = [tiny(directory), f"run.dir={disk}", "run.name=run", "log.every_steps=1"]
        library.train(*arguments, "checkpoint.on_full=continue", callbacks=[fills])
        assert any("step 8 " in alarm and FULL in alarm for alarm in fills.alarms)
        names = [path.name for path in checkpoint.checkpoints(disk / "run/checkpoints")]
        assert names == ["step-00000004", "step-00000012"]
        assert digest(disk / "run") == straight
        shutil.rmtree(disk / "run")
        with pytest.raises(StorageError, match=FULL):
            library.train(*arguments, callbacks=[fills])
        found, damaged = checkpoint.newest_valid(disk / "run/checkpoints")
        assert (found.name, damaged) == ("step-00000004", [])


# ── Checkpoints


def test_a_checkpoint_that_is_damaged_once_written_is_not_gone_on_from(directory, straight):
    """tests/store damages every byte, and every file in every way."""
    lines = ["do: damage, step: 8, file: D.optimizer.safetensors, how: flip", "do: raise, step: 11"]
    assert chaos(directory, lines).code == 70
    again = train(directory)
    assert again.code == 0 and "SHA-256 differs" in again.output
    assert "resumed from runs/run/checkpoints/step-00000004" in again.output
    assert digest(Path("runs/run")) == straight


@pytest.mark.slow
def test_a_kill_while_a_checkpoint_is_written_leaves_a_run_that_goes_on(directory, straight):
    """tests/store kills at every system call; this is the whole run's part of it, under a fleet."""
    for call in (20, 34):  # in the middle of its files, and after the last of them
        lines = [f"do: kill_writer, step: 8, call: {call}"]
        words = ["chaos", "--plan", faults(*lines), "--", "--workers", "2", "--config", tiny(directory)]
        ended = run([workers(1)[0], *words, "run.name=run"], directory)
        assert ended.code == 69, ended.output
        assert checkpoint.newest_valid(Path("runs/run/checkpoints"))[0] is not None
        again = train(directory)
        assert again.code == 0 and "resumed from" in again.output
        assert digest(Path("runs/run")) == straight
        shutil.rmtree("runs")


# ── Going back


def test_a_run_that_diverges_goes_back_to_its_last_checkpoint_with_lower_learning_rates(directory):
    lines = ["do: nan, step: 6, until: 7"]
    options = ["train.nonfinite_budget=1", "train.rollbacks=1", "train.rollback_lr=0.25", "log.every_steps=1"]
    ended = chaos(directory, lines, *options)
    assert ended.code == 0, ended.output
    [alarm] = [line for line in ended.output.splitlines() if line.startswith("alarm: ")]
    assert "step 7: the gradients" in alarm and "step-00000004 (1 of 1 times), learning rates are 0.25" in alarm
    lines = [json.loads(line) for line in Path("runs/run/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [*range(1, 13)]
    assert [line["Schedule/lr/D"] for line in lines] == [2e-4] * 4 + [5e-5] * 8
    facts = checkpoint.load(Path("runs/run/checkpoints/step-00000012")).facts
    assert facts["guard"] == {"nonfinite": 0, "rollbacks": 1}


def test_a_run_goes_back_no_more_often_than_it_may(directory):
    lines = ["do: nan, step: 6, until: 12"]
    ended = chaos(directory, lines, "train.nonfinite_budget=0", "train.rollbacks=2")
    message = one_error(ended, 80)
    assert ended.output.count("goes back to") == 2 and "more than train.nonfinite_budget 0" in message
    # A NaN of the plan happens once, and a step is read a step late: the attempts meet those of 6 and 7, 8, and 9.
    assert "step 9: " in message and saved() == ["step-00000004", "step-00000008"]


def test_a_run_that_has_gone_back_and_is_stopped_ends_with_the_bits_of_one_that_is_not(directory):
    lines, options = ["do: nan, step: 6"], ["train.nonfinite_budget=0", "train.rollbacks=1"]
    assert chaos(directory, lines, *options).code == 0
    whole = digest(Path("runs/run"))
    shutil.rmtree("runs")
    shutil.rmtree("kept")
    assert chaos(directory, lines, *options, "train.steps=9").code == 0
    assert train(directory, *options).code == 0
    assert digest(Path("runs/run")) == whole


@pytest.mark.slow
def test_faults_reach_ranks_that_share_out_the_optimizer(directory):
    """MPI's ranks get their part of the sum only. A NaN on one rank skips the update of all."""
    alone = chaos(directory, ["do: nan, step: 6, phase: D"], "run.name=alone")
    assert alone.code == 0 and SKIPPED in alone.output, alone.output
    launch = [
        workers(1)[0],
        "chaos",
        "--plan",
        faults("do: nan, rank: 1, step: 6, phase: D"),
        "--",
        "launch",
        "-n",
        "2",
    ]
    words = ["--backend", "mpi", "--", "--config", tiny(directory), "fleet.shard_optimizer=true"]
    ended = run([*launch, *words, "run.name=run"], directory)
    assert ended.code == 0 and SKIPPED in ended.output, ended.output
    assert digest(Path("runs/run")) == digest(Path("runs/alone"))
    faults("do: skip, rank: 1, step: 6, phase: D")
    ended = run([*launch, *words, "run.name=skips"], directory)
    assert ended.code == 83, ended.output


@pytest.mark.slow
def test_one_flipped_bit_in_a_rank_is_found_and_repaired_stopped_or_undone_as_configured(directory, straight):
    flip = "do: flip, rank: 1, step: 5, tensor: D.weights/D.last.weight, element: 3, bit: 20"

    def on(ranks, *overrides):
        words = ["chaos", "--plan", faults(flip), "--", "--workers", str(ranks), "--config", tiny(directory)]
        return run([workers(1)[0], *words, "run.name=run", "train.audit_every=3", *overrides], directory)

    stopped = on(2)
    message = one_error(stopped, 82)
    assert "D.weights/D.last.weight on ranks 0, 1" in message and "D.layers" not in message
    shutil.rmtree("runs")

    undone = on(2, "train.on_diverged=rollback", "train.rollbacks=1")
    assert undone.code == 0, undone.output
    assert "alarm: " in undone.output and digest(Path("runs/run")) == straight
    shutil.rmtree("runs")

    repaired = on(4, "train.on_diverged=repair")
    assert repaired.code == 0, repaired.output
    [alarm] = [line for line in repaired.output.splitlines() if line.startswith("alarm: ")]
    assert "step 6: " in alarm and "D.weights/D.last.weight on rank 1" in alarm and "what rank 0 holds" in alarm
    tensors = checkpoint.load(Path("runs/run/checkpoints/step-00000012")).tensors
    assert all(np.isfinite(array).all() for component in tensors.values() for array in component.values())
