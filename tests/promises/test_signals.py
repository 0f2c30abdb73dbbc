"""A signal ends a run after its step, with a checkpoint from which it goes on as if nothing had been."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import ganfleet, tiny
from fleets import BIN, digest, one_at_a_time, start, survivors, workers

from ganfleet.fleet.launcher import ECHO_SECONDS

pytestmark = one_at_a_time

GANFLEET = str(BIN / "ganfleet")
FAULTY = "strategy.name=faulty_gan:FaultyGAN"


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
    return tmp_path


def interrupted(command, cwd, sign, *signals):
    """Start ``command`` and send it the signals a second apart once it prints ``sign``; its exit code and output."""
    process = start(command, cwd)
    output = ""
    while sign not in output and (line := process.stdout.readline()):
        output += line
    for i, number in enumerate(signals):
        if i:
            time.sleep(2 * ECHO_SECONDS)  # a signal that follows at once is taken for the same one
        process.send_signal(number)
    try:
        output += process.communicate(timeout=60)[0]
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{command} does not end; it printed:\n{output}") from None
    finally:
        left = survivors(cwd)
        for survivor in left:
            survivor.kill()
    assert not left
    assert "Traceback" not in output, output
    return process.returncode, output


@pytest.mark.slow
def test_a_run_stopped_by_any_signal_ends_with_the_bits_of_one_straight_through(directory):
    arguments = ["--config", tiny(directory), FAULTY, "strategy.seconds=0.5", "log.every_steps=1"]
    straight = ganfleet("train", *arguments, "run.name=straight")
    assert straight.code == 0, straight.output
    arguments.append("run.name=stopped")
    for command, sign, number in [
        ([GANFLEET, "train", *arguments], "step 2 ", signal.SIGTERM),
        (workers(2, *arguments), "step 6 ", signal.SIGINT),
        (workers(2, *arguments), "step 9 ", signal.SIGHUP),
    ]:
        code, output = interrupted(command, directory, sign, number)
        assert code == 75, output
        assert output.count("ganfleet: error: stopped by a signal after step") == 1
    assert "step 12 " not in output
    ended = ganfleet("train", *arguments)
    assert ended.code == 0 and "resumed from runs/stopped/checkpoints/step-" in ended.output
    assert digest(Path("runs/stopped")) == digest(Path("runs/straight"))


@pytest.mark.slow
@pytest.mark.parametrize("command", [[GANFLEET, "train"], workers(2)])
def test_under_nohup_a_run_outlives_its_terminal(command, directory):
    arguments = ["--config", tiny(directory), FAULTY, "strategy.seconds=0.3", "log.every_steps=1"]
    code, output = interrupted(["nohup", *command, *arguments], directory, "step 2 ", signal.SIGHUP)
    assert code == 0 and "step 12 " in output, output


@pytest.mark.parametrize("command", [[GANFLEET, "train"], pytest.param(workers(2), marks=pytest.mark.slow)])
def test_a_second_ctrl_c_ends_at_once_with_130(command, directory):
    arguments = ["--config", tiny(directory), FAULTY, "strategy.seconds=30", "run.name=twice"]
    code, output = interrupted([*command, *arguments], directory, "sleeping", signal.SIGINT, signal.SIGINT)
    assert code == 130, output
    assert output.count("interrupted twice, stopping without a checkpoint") == 1
    assert not list(Path("runs/twice/checkpoints").iterdir())


@pytest.mark.parametrize("command", [[GANFLEET, "train"], pytest.param(workers(2), marks=pytest.mark.slow)])
def test_a_signal_before_the_first_step_ends_at_once_with_75(command, directory):
    arguments = ["--config", tiny(directory), FAULTY, "strategy.fault=terminated at start"]
    code, output = interrupted([*command, *arguments], directory, "stopped by a signal; start again")
    assert code == 75
    assert output.count("error:") == 1
