"""How a fleet's processes end. Most ranks here do not train, so that a fleet starts in seconds."""

import os
import platform
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from commands import tiny
from fake_fleet import GRACE, HANGUP, launch, member, printed, ready
from fleets import BIN, Ended, mpiexec, one_at_a_time, run, start, survivors, until, workers

from ganfleet.fleet import launcher
from ganfleet.fleet.launcher import ECHO_SECONDS

pytestmark = one_at_a_time
LINUX = tuple(map(int, re.findall(r"\d+", platform.release())[:2])) if sys.platform == "linux" else (0, 0)


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """Gives the arguments of a tiny run with a fault on rank 1."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
    return lambda fault: [tiny(tmp_path), "strategy.name=faulty_gan:FaultyGAN", f"strategy.fault={fault}"]


def test_a_killed_rank_ends_the_fleet_with_69(tmp_path):
    ended = run(launch(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)"), tmp_path, timeout=60)
    assert ended.code == 69
    told = "rank 1 ended without an exit code (killed by SIGKILL) before its first step, see worker_1.log"
    assert f"error: {told}" in ended.output


@pytest.mark.parametrize(
    "fault, told",
    [("raise RuntimeError('this rank alone')", "RuntimeError: this rank alone"), ("sys.exit(0)", "SystemExit: 0")],
)
def test_a_rank_that_fails_alone_is_named_and_quoted(fault, told, tmp_path):
    ended = run(launch(tmp_path, fault), tmp_path, timeout=60)
    assert ended.code == 70
    assert ended.output.count(told) == 1
    first = "rank 1 ended first, with 70, before its first step; all it printed is in worker_1.log"
    assert f"ganfleet: {first}" in ended.output


def test_ranks_that_end_well_end_the_fleet_with_0(tmp_path):
    assert run(launch(tmp_path, seconds=0), tmp_path, timeout=60) == Ended(0, "rank 0 works\n")


def test_a_rank_that_has_reported_its_end_is_not_waited_for_without_end(tmp_path):
    hangs = "__import__('atexit').register(time.sleep, 300)"
    assert run(launch(tmp_path, hangs, seconds=0), tmp_path, timeout=60) == Ended(0, "rank 0 works\n")


def test_what_a_rank_starts_is_not_taken_for_the_rank(tmp_path):
    # Many at once, the last one to start being the next to end.
    children = "[__import__('subprocess').Popen(['sleep', str(3 - i / 200)]) for i in range(400)]; time.sleep(4)"
    assert run(launch(tmp_path, children, seconds=0), tmp_path, timeout=60).code == 0


@pytest.mark.parametrize("log_dir", ["None", 'Path("logs")'])
def test_a_fleet_that_ends_well_leaves_only_the_logs_that_were_asked_for(log_dir, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    assert run(launch(tmp_path, seconds=0, log_dir=log_dir), tmp_path, timeout=60).code == 0
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (tmp_path / "logs" / "worker_1.log").exists() == (log_dir != "None")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder of its own for what a fleet puts into /tmp."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.mark.parametrize("fault, code", [("raise RuntimeError('alone')", 70), ("os.kill(os.getpid(), 9)", 69)])
def test_a_fleet_that_ends_badly_shows_the_end_of_what_a_rank_printed_and_leaves_nothing(
    fault, code, tmp_path, temporary
):
    ended = run(launch(tmp_path, fault, log_dir="None"), tmp_path, timeout=60)
    assert ended.code == code
    assert "rank 1 works\n" in ended.output and "--log-dir keeps all that it prints" in ended.output
    assert list(temporary.iterdir()) == []


def test_a_place_for_logs_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    ended = run(launch(tmp_path, log_dir='Path("file/logs")'), tmp_path, timeout=60)
    assert ended.code == 74 and "cannot write file/logs" in ended.output and "--log-dir" in ended.output


def test_no_process_and_no_file_outlives_a_launcher_that_was_killed(tmp_path, temporary):
    process = start(launch(tmp_path, "__import__('subprocess').run(['sleep', '2'])", log_dir="None"), tmp_path)
    while process.stdout.readline() != "rank 0 works\n":
        pass
    process.kill()
    process.communicate()
    assert survivors(tmp_path, seconds=5) == []
    assert list(temporary.iterdir()) == []


MSRUN = """\
import os, subprocess, sys
started = []
for role, node in (("MS_SCHED", None), ("MS_WORKER", "0")):
    own = {"MS_ROLE": role, "MS_WORKER_NUM": "1"} | ({"MS_NODE_ID": node} if node else {})
    with open(f"{role}.log", "w") as log:
        started.append(subprocess.Popen([sys.executable, "rank.py"], stdout=log, env=os.environ | own))
if "--join=True" in sys.argv:
    [process.wait() for process in started]
"""


@pytest.mark.parametrize("join, left", [("--join=True", 0), ("--join=False", 2)])
def test_the_ranks_of_an_msrun_that_waits_for_them_stop_when_it_is_killed(join, left, tmp_path):
    launch(tmp_path, rank=HANGUP)
    (tmp_path / "msrun").write_text(MSRUN)
    logs = [tmp_path / "MS_SCHED.log", tmp_path / "MS_WORKER.log"]
    process = start([sys.executable, "msrun", join], tmp_path)
    until(lambda: all(log.exists() and "ready" in log.read_text() for log in logs))
    process.kill()
    living = survivors(tmp_path, seconds=1 if left else 5)
    for each in living:
        each.kill()
    process.communicate()
    assert len(living) == left


DEAF = """\
import os, signal, time
import click
from ganfleet.cli import run
from ganfleet.engine.signals import StopSignal, stopping_at_once

@click.command()
def command():
    if "MS_NODE_ID" not in os.environ:  # MindSpore's scheduler
        print("ready", flush=True)
        time.sleep(300)
    with stopping_at_once():
        with StopSignal() as signals:
            while {trains} and not signals.received:
                print("ready", flush=True)
                time.sleep(0.05)
            time.sleep(0.5)  # the step's end, the checkpoint
        if {trains}:
            print("saved", flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # Python sees none in a collective either
        print("ready", flush=True)
        time.sleep(0 if {trains} else 300)

run(command)
"""


@pytest.mark.parametrize("trains", [True, False])
def test_when_msrun_is_killed_a_rank_that_trains_may_save_and_one_that_cannot_hear_ends(trains, tmp_path):
    (tmp_path / "rank.py").write_text(DEAF.format(trains=trains))
    (tmp_path / "msrun").write_text(MSRUN)
    logs = [tmp_path / "MS_SCHED.log", tmp_path / "MS_WORKER.log"]
    process = start([sys.executable, "msrun", "--join=True"], tmp_path)
    until(lambda: all(log.exists() and "ready" in log.read_text() for log in logs))
    process.kill()
    living = survivors(tmp_path)
    for each in living:
        each.kill()
    process.communicate()
    assert not living
    assert ("saved" in logs[1].read_text()) == trains


def test_what_a_rank_starts_may_use_ganfleet_and_is_no_rank(tmp_path):
    """It does not report an exit code for the rank, nor end because its parent is not the launcher."""
    nested = "__import__('subprocess').run([sys.executable, '-m', 'ganfleet', '-V'], check=True)"
    ended = run(launch(tmp_path, nested, seconds=0), tmp_path, timeout=60)
    assert ended.code == 0
    assert "ganfleet, version" in (tmp_path / "worker_1.log").read_text()


def test_a_closed_terminal_stops_the_ranks_as_sigterm_does(tmp_path):
    process = start(launch(tmp_path, rank=HANGUP), tmp_path)
    ready(tmp_path)
    process.send_signal(signal.SIGHUP)
    output = printed(process)
    assert (process.returncode, survivors(tmp_path)) == (75, []), output
    assert output == "ready\nganfleet: error: got SIGTERM\n"


def test_a_fleet_whose_terminal_is_gone_stops_as_it_should(tmp_path):
    terminal, shown = os.openpty()
    process = subprocess.Popen(launch(tmp_path, rank=HANGUP, log_dir="None"), cwd=tmp_path, stdout=shown, stderr=shown)
    os.close(shown)
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 1000)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 75
    assert survivors(tmp_path) == []


def test_a_rank_that_a_signal_has_stopped_ends_with_the_others(tmp_path):
    process = start(launch(tmp_path, rank=HANGUP), tmp_path)
    ready(tmp_path)
    rank = member(process, "MS_WORKER", 1)
    rank.suspend()
    until(lambda: rank.status() == psutil.STATUS_STOPPED)
    process.send_signal(signal.SIGTERM)
    output = printed(process)
    assert (process.returncode, survivors(tmp_path)) == (75, []), output


@pytest.mark.parametrize("deaf", [0, 1])
def test_a_second_signal_ends_a_fleet_of_which_a_rank_does_not_answer(deaf, tmp_path):
    fault = f"__import__('os').environ['MS_NODE_ID'] == '{deaf}' and time.sleep(300)"
    process = start(launch(tmp_path, fault, rank=HANGUP), tmp_path)
    ready(tmp_path)
    process.send_signal(signal.SIGTERM)
    time.sleep(2 * ECHO_SECONDS)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    output = printed(process)
    assert (process.returncode, survivors(tmp_path)) == (130, []), output
    assert f"error: interrupted twice; killed rank {deaf} without an answer\n" in output


def test_a_signal_that_follows_at_once_is_no_second_one(tmp_path):
    process = start(launch(tmp_path, f"time.sleep({GRACE + 1})", rank=HANGUP), tmp_path)
    ready(tmp_path)
    process.send_signal(signal.SIGTERM)
    time.sleep(ECHO_SECONDS / 5)
    process.send_signal(signal.SIGTERM)
    output = printed(process)
    assert process.returncode == 75, output


def test_ranks_do_not_outlive_their_scheduler(tmp_path):
    process = start(launch(tmp_path, rank=HANGUP), tmp_path)
    ready(tmp_path)
    member(process, "MS_SCHED").kill()
    output = printed(process)
    assert (process.returncode, survivors(tmp_path)) == (69, []), output
    assert "scheduler" in output and "(killed by SIGKILL)" in output and output.count("error:") == 1


BAR = """\
import click
from ganfleet.cli import run
from ganfleet.observe.progress import Progress

@click.command()
def command():
    progress = Progress()
    progress.advance(38400, goal_nimg=100_000)
    progress.close()

run(command)
"""


@pytest.mark.parametrize("log_dir", ["None", 'Path(".")'])
def test_a_terminal_gets_rank_0s_bar_and_a_log_gets_none(log_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal, shown = os.openpty()
    process = subprocess.Popen(launch(tmp_path, rank=BAR, log_dir=log_dir), cwd=tmp_path, stdout=shown)
    os.close(shown)
    seen = b""
    with suppress(OSError):  # what a terminal says that nobody writes to any more
        while more := os.read(terminal, 1000):
            seen += more
    os.close(terminal)
    assert process.wait(60) == 0
    assert (b"kimg 38.4/100.0" in seen) == (log_dir == "None")


@pytest.mark.parametrize("sign", ["scheduler.log", "worker_1.log"])
def test_a_signal_before_ranks_can_take_it_ends_the_fleet_with_75(sign, tmp_path):
    process = start(launch(tmp_path), tmp_path)
    until((tmp_path / sign).exists)
    process.send_signal(signal.SIGTERM)
    output = printed(process)
    assert (process.returncode, survivors(tmp_path)) == (75, []), output
    assert output.count("stopped by a signal; start again") == 1
    assert "Traceback" not in output


@pytest.mark.slow
def test_a_rank_of_mpiexec_that_fails_alone_ends_them_all(tmp_path, faulty):
    ended = run(mpiexec(2, "--config", *faulty("raise")), tmp_path)
    assert ended.code == 70
    assert ended.output.count("RuntimeError: this rank alone") == 1
    assert f"ganfleet: error: rank 1 on {launcher.host()}: FaultyGAN.hyper() failed at faulty_gan.py" in ended.output


# ── Real collectives, without training

TOGETHER = """\
import ctypes
import sys
import click
from ganfleet import fleet
from ganfleet.cli import run
from ganfleet.config import FleetConfig
from ganfleet.errors import DataError

@click.command()
def command():
    libc = ctypes.CDLL(None)
    with fleet.connect_for_sampling(cpu_threads=64) as first:
        libc.on_exit(libc.abort, None)  # as some destructor of MindSpore's does once in a hundred runs
        print("sampling", first.gather(first.rank), flush=True)
    with fleet.connect(FleetConfig(), 6) as second:
        print("training", second.gather([*second.lanes]), flush=True)
        second.same({{"images": 40}})
        with second.agreeing():
            if second.rank == 2:
                raise DataError("no images in d")

run(command)
"""


@pytest.mark.slow
def test_three_ranks_sample_then_connect_again_and_end_alike_when_one_meets_an_error(tmp_path):
    """Of one process on its own: a checkpoint of an exact run is sampled on three ranks."""
    ended = run(launch(tmp_path, rank=TOGETHER, workers=3), tmp_path, timeout=120)
    error = f"ganfleet: error: rank 2 on {launcher.host()}: no images in d\n"
    assert ended == Ended(65, f"sampling [0, 1, 2]\ntraining [[0, 1], [2, 3], [4, 5]]\n{error}")
    assert error in (tmp_path / "worker_2.log").read_text()
    assert error not in (tmp_path / "worker_1.log").read_text()


REDUCE = """\
import os
import numpy as np
from mindspore import Tensor
from ganfleet import fleet
from ganfleet.config import FleetConfig
from ganfleet.fleet import Fleet

scales = 10.0 ** np.arange(8)[:, None] * np.where(np.arange(1000) < 900, 1, 1e-43)  # the last are subnormal, or nearly
values = (np.random.default_rng(5).standard_normal((8, 1000)) * scales).astype(np.float32)
for reduction in ("exact", "fast", "by messages"):
    if reduction == "by messages":
        del os.memfd_create  # so that ranks have no memory in common
        reduction = "exact"
    with fleet.connect(FleetConfig(reduction=reduction), 8) as connected:
        own = [Tensor(values[lane]) for lane in connected.lanes]
        first = connected.lanes.start
        expected = Fleet(8, "exact").reduce(lambda lane: Tensor(values[lane])).asnumpy()
        totals = [connected.reduce(lambda lane: own[lane - first]) for _ in range(2)]
        connected.reduce(lambda lane: Tensor(np.zeros(1000, np.float32)))  # it changes no sum that somebody holds
        totals = [total.asnumpy() for total in totals]
        assert all(own[lane - first].asnumpy().tobytes() == values[lane].tobytes() for lane in connected.lanes)
    if reduction == "exact":
        assert all(total.tobytes() == expected.tobytes() for total in totals)
    else:
        np.testing.assert_allclose(totals[0], expected, rtol=1e-5, atol=1e-6 * np.abs(values).max())
"""


@pytest.mark.slow
def test_the_ranks_of_mpiexec_sum_to_the_bits_of_one_process_and_change_no_lane(tmp_path):
    (tmp_path / "reduce.py").write_text(REDUCE)
    command = [str(BIN / "mpiexec"), "-n", "4", sys.executable, "-m", "mpi4py", "reduce.py"]
    ended = run(command, tmp_path, timeout=120)
    assert ended.code == 0, ended.output


SLICES = """\
import ctypes
import os
import platform
import sys
from ganfleet import fleet
from ganfleet.config import FleetConfig
from ganfleet.fleet import cpu

def slice_of(thread):
    number, attributes = {"x86_64": 315, "aarch64": 275}[platform.machine()], bytearray(48)
    ctypes.CDLL(None).syscall(number, thread, (ctypes.c_char * 48).from_buffer(attributes), 48, 0)
    return int.from_bytes(attributes[24:32], "little") / 1e6

cpu.NAME = sys.argv[1]  # what other fleets of this machine have claimed does not count
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
before, nice = slice_of(0), os.nice(0)
with fleet.connect(FleetConfig(), 4):
    assert os.nice(0) == nice
    found = "as before" if slice_of(0) == before else slice_of(0)
    os.write(1, f"slice: {found}\\n".encode())  # print may write a line in two pieces
"""


@pytest.mark.slow
@pytest.mark.skipif(LINUX < (6, 12), reason="needs Linux 6.12, where a thread can ask for it")
@pytest.mark.parametrize("ranks, milliseconds", [(2, "as before"), (4, "100.0")])
def test_ranks_of_mpiexec_compute_longer_at_a_time_where_they_share_cores(ranks, milliseconds, tmp_path):
    (tmp_path / "slices.py").write_text(SLICES)
    command = [str(BIN / "mpiexec"), "-n", str(ranks), sys.executable, "-m", "mpi4py", "slices.py", str(tmp_path)]
    ended = run(command, tmp_path, timeout=120)
    assert ended.code == 0, ended.output
    assert ended.output.count(f"slice: {milliseconds}\n") == ranks, ended.output


# ── And in training, with collectives


@pytest.mark.slow
def test_a_rank_may_be_late_as_when_it_compiles_longer_than_the_others(tmp_path, faulty):
    """MindSpore's CPU collectives would give up after 30 seconds."""
    ended = run(workers(2, "--config", *faulty("late")), tmp_path)
    assert ended.code == 0, ended.output


@pytest.mark.slow
def test_a_rank_that_calls_exit_in_training_ends_the_fleet(tmp_path, faulty):
    """One that raises or is killed is a row of tests/promises/test_faults.py."""
    ended = run(workers(2, "--config", *faulty("exit")), tmp_path)
    assert ended.code == 70, ended.output
    # Rank 0 may die of the lost peer before anyone looks.
    assert re.search(r"ranks? (0, )?1 ended first, with 70", ended.output), ended.output
