"""A fleet's processes end when they should, with the code that says why. The ranks are small scripts."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from ganfleet.fleet.launcher import ECHO_SECONDS

LAUNCH = """
import sys
import click
from ganfleet import cli
from ganfleet.fleet import processes
cli.run(click.Command("launch", callback=lambda: processes.launch(2, [sys.executable, "-c", sys.argv[1]])), [])
"""
# The scheduler and the ranks run this, and then what a test has them do.
MEMBER = """
import os, signal, time
rank = "scheduler" if os.environ["MS_ROLE"] == "MS_SCHED" else int(os.environ["RANK_ID"])
def leave(code):
    os.write(int(os.environ["GANFLEET_REPORT_FD"]), f"{rank} {code}\\n".encode())
    os._exit(code)
if rank != "scheduler":
    signal.signal(signal.SIGTERM, lambda *_: leave(75))
print("ready", flush=True)
"""
WAIT = "time.sleep(600)"


@pytest.fixture
def launch():
    """Starts a fleet of two that runs the code given; returns the launcher's process once rank 0 is ready."""
    started = []

    def start(code: str) -> subprocess.Popen:
        command = [sys.executable, "-c", LAUNCH, MEMBER + code]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.stdout.close()


def member(process, role, rank=0):
    for child in psutil.Process(process.pid).children():
        environment = child.environ()
        if (environment["MS_ROLE"], environment["RANK_ID"]) == (role, str(rank)):
            return child
    raise AssertionError(f"no {role} {rank}")


def end_of(process, seconds=60):
    """(exit code, what it printed), once no process of the fleet is left."""
    family = psutil.Process(process.pid).children(recursive=True)
    output = process.communicate(timeout=seconds)[0]
    assert "Traceback" not in output, output
    assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    return process.returncode, output


def stopped(child):
    child.suspend()
    while child.status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_second_signal_ends_a_fleet_of_which_a_rank_is_frozen(launch, frozen):
    process = launch(WAIT)
    stopped(member(process, "MS_WORKER", frozen))
    process.send_signal(signal.SIGTERM)
    time.sleep(2 * ECHO_SECONDS)
    assert process.poll() is None  # one signal lets ranks end their step, however long it takes
    process.send_signal(signal.SIGTERM)
    code, output = end_of(process)
    assert code == 130
    assert output == f"ganfleet: error: interrupted twice; rank {frozen} did not answer and was killed\n"


def test_a_signal_that_follows_at_once_is_no_second_one(launch):
    process = launch("signal.signal(signal.SIGTERM, lambda *_: (time.sleep(7), leave(75)))\n" + WAIT)
    process.send_signal(signal.SIGTERM)
    time.sleep(ECHO_SECONDS / 5)
    process.send_signal(signal.SIGTERM)
    assert end_of(process) == (75, "")


def test_ranks_do_not_outlive_their_scheduler(launch):
    process = launch(WAIT)
    member(process, "MS_SCHED").kill()
    code, output = end_of(process, seconds=10)
    assert code == 69
    assert "scheduler" in output and "(killed by SIGKILL)" in output and output.count("error:") == 1


def test_a_scheduler_that_ends_after_the_ranks_have_is_not_lost(launch):
    process = launch("if rank == 'scheduler': time.sleep(1); os._exit(1)\nleave(0)")
    assert end_of(process) == (0, "")
