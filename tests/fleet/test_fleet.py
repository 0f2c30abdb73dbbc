"""Fleets without training: the tree, simulated ranks, what launchers say, and how a fleet's processes end."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path

import mindspore
import numpy as np
import pytest
from commands import tiny
from fleets import BIN, Ended, mpiexec, one_at_a_time, run, start, survivors, until, workers
from mindspore import Tensor

from ganfleet import fleet
from ganfleet.config import FleetConfig
from ganfleet.errors import ConfigError, DataError, PeerLost, Stopped
from ganfleet.fleet import Fleet, Launcher, SimulatedFleet, launcher, support
from ganfleet.fleet.tree import tree_sum

pytestmark = one_at_a_time
# In float32, 2**24 swallows each 1 that is added to it alone, so that the order of summation shows.
ROUGH = np.float32([2**24, 1, 1, 1, 1, 1, 1, -(2**24)])


def lane_values(lanes, size=1000):
    values = np.random.default_rng(5).standard_normal((lanes, size)) * 10.0 ** np.arange(lanes)[:, None]
    return values.astype(np.float32)


# ── The sum over lanes


def test_the_tree_is_the_balanced_one_and_not_a_running_sum():
    # ((2**24 + 1) + (1 + 1)) + ((1 + 1) + (1 - 2**24)) = (2**24 + 2) + (3 - 2**24)
    assert tree_sum(range(8), lambda i: ROUGH[i]) == 5
    assert reduce(add, ROUGH) == 0


@pytest.mark.parametrize("lanes, ranks", [(8, 1), (8, 2), (8, 4), (8, 8), (12, 2), (12, 4), (20, 4)])
def test_ranks_that_cut_the_tree_at_one_level_get_its_bits(lanes, ranks):
    values = lane_values(lanes)
    whole = tree_sum(range(lanes), lambda lane: values[lane])
    share = lanes // ranks
    partials = [tree_sum(range(r * share, (r + 1) * share), lambda lane: values[lane]) for r in range(ranks)]
    assert tree_sum(partials, lambda partial: partial).tobytes() == whole.tobytes()
    assert whole.tobytes() != reduce(add, values).tobytes()


@pytest.mark.parametrize("lanes, world_size", [(8, 1), (8, 2), (8, 4), (8, 8), (12, 4)])
def test_an_exact_simulated_fleet_has_the_bits_of_a_lone_process(lanes, world_size):
    values = [Tensor(row) for row in lane_values(lanes)]
    alone = Fleet(lanes, "exact").reduce(lambda lane: values[lane])
    simulated = SimulatedFleet(lanes, "exact", world_size).reduce(lambda lane: values[lane])
    assert simulated.asnumpy().tobytes() == alone.asnumpy().tobytes()


def test_a_fast_simulated_fleet_is_right_to_rounding():
    values = lane_values(12)
    fast = SimulatedFleet(12, "fast", 3).reduce(lambda lane: Tensor(values[lane])).asnumpy()
    np.testing.assert_allclose(fast, values.astype(np.float64).sum(0), rtol=0, atol=1e-6 * np.abs(values).sum(0).max())


@pytest.mark.parametrize("world_size, reduction", [(1, "exact"), (4, "exact"), (3, "fast")])
def test_auto_is_exact_where_the_ranks_are_a_power_of_two(world_size, reduction):
    assert Fleet(12, "auto", 0, world_size).reduction == reduction


def test_ranks_own_consecutive_lanes_and_together_all():
    assert [list(Fleet(6, "auto", rank, 3).lanes) for rank in range(3)] == [[0, 1], [2, 3], [4, 5]]


# ── What the launcher says


WORKER = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "16"}
HYDRA = {"PMI_SIZE": "4", "PMI_RANK": "3"}
OPENMPI = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}


@pytest.mark.parametrize(
    "environ, expected",
    [
        ({}, Launcher()),
        ({"RANK_ID": "3"}, Launcher()),
        (WORKER | {"MS_NODE_ID": "9", "RANK_ID": "9", "DEVICE_ID": "1"}, Launcher("msrun", 16, 9, 1)),
        # Of several nodes without --node_rank: RANK_ID is what the first node's scheduler has left to its workers.
        (WORKER | {"RANK_ID": "0", "DEVICE_ID": "1"}, Launcher("msrun", 16, None, 1)),
        (WORKER, Launcher("msrun", 16, None, None)),
        (WORKER | {"MS_ROLE": "MS_SCHED", "RANK_ID": "0"}, Launcher("msrun", 16, 0, 0, is_scheduler=True)),
        (HYDRA | {"MPI_LOCALRANKID": "1"}, Launcher("mpi", 4, 3, 1)),
        (HYDRA, Launcher("mpi", 4, 3, None)),
        (OPENMPI | {"OMPI_COMM_WORLD_LOCAL_RANK": "0"}, Launcher("mpi", 2, 1, 0)),
    ],
)
def test_the_launcher_is_read_from_its_variables(environ, expected):
    assert launcher.detect(environ) == expected


@pytest.mark.parametrize(
    "environ, told",
    [
        ({"MS_ROLE": "MS_WORKER"}, "MS_ROLE says .* but MS_WORKER_NUM is not set: .* unset MS_ROLE"),
        ({"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "two"}, "MS_ROLE says .* but MS_WORKER_NUM is 'two'"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE says .* but OMPI_COMM_WORLD_RANK is not set"),
        ({"PMI_SIZE": "4", "PMI_RANK": ""}, "PMI_SIZE says .* but PMI_RANK is ''"),
    ],
)
def test_variables_that_no_launcher_leaves_so_are_named(environ, told):
    with pytest.raises(ConfigError, match=told):
        launcher.detect(environ)


def test_what_every_rank_meets_is_told_by_the_first_rank_and_never_the_scheduler():
    assert [Launcher("mpi", 2, rank).speaks for rank in (0, 1)] == [True, False]
    assert [Launcher("msrun", 16, None, local).speaks for local in (0, 1)] == [True, False]
    assert not Launcher("msrun", 2, 0, is_scheduler=True).speaks


RANKS = [Launcher("msrun", 4, rank, rank % 2) for rank in range(4)]  # two on each of two nodes


@pytest.mark.parametrize(
    "error, ranks, told",
    [
        # Nobody can know yet who else meets it.
        (DataError, RANKS, ["what", None, "rank 2 on here: what", None]),
        # One that did not come to agree on it has met it alone.
        (
            DataError,
            [replace(rank, connected=True) for rank in RANKS],
            ["what", "rank 1 on here: what", "rank 2 on here: what", "rank 3 on here: what"],
        ),
        (PeerLost, RANKS, ["what", "rank 1 on here: what", "rank 2 on here: what", "rank 3 on here: what"]),
        (Stopped, RANKS, ["what", None, None, None]),
        (DataError, [Launcher("msrun", 4, None, 0), Launcher("msrun", 4, 0, 0, is_scheduler=True)], ["me: what", None]),
    ],
)
def test_whoever_may_be_alone_with_an_error_tells_it_with_rank_and_host(error, ranks, told, monkeypatch):
    monkeypatch.setattr(launcher, "host", lambda: "here")
    mine = f"process {os.getpid()} on here: "
    assert [rank.telling(error("what")) for rank in ranks] == [told and told.replace("me: ", mine) for told in told]


@pytest.mark.parametrize(
    "settings, started, chosen",
    [
        ({}, Launcher(), ("alone", 1)),
        ({"world_size": 4}, Launcher(), ("simulated", 4)),
        ({"backend": "simulated"}, Launcher(), ("simulated", 1)),
        ({}, Launcher("msrun", 8), ("mccl", 8)),
        ({"world_size": 2}, Launcher("mpi", 2), ("mpi", 2)),
    ],
)
def test_auto_chooses_what_was_started(settings, started, chosen):
    assert fleet.choose(FleetConfig(**settings), started) == chosen


@pytest.mark.parametrize(
    "settings, started, message",
    [
        ({"backend": "mpi"}, Launcher(), "this process was started by hand: start it as mpiexec -n N"),
        ({"backend": "mccl"}, Launcher("mpi", 2), r"started by mpi \(PMI_SIZE is set\): start it as msrun"),
        (
            {"backend": "alone"},
            Launcher("msrun", 2),
            r"by msrun \(MS_ROLE is set\): start it as ganfleet train",
        ),
        ({"backend": "simulated", "world_size": 2}, Launcher("msrun", 2), "this process was started by msrun"),
        ({"world_size": 4}, Launcher("mpi", 2), "fleet.world_size is 4, but 2 processes were started"),
    ],
)
def test_a_fleet_that_was_not_started_is_refused(settings, started, message, monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(ConfigError, match=message):
        fleet.choose(FleetConfig(**settings), started)


def test_lanes_that_do_not_divide_are_refused_with_the_numbers_that_do():
    with pytest.raises(ConfigError, match=r"train\.lanes is 12: 5 ranks cannot .*, but 1, 2, 3, 4, 6, 12 can"):
        fleet.check_lanes(12, 5, "auto")
    with pytest.raises(ConfigError, match="exact needs a power-of-two number of ranks, not 3"):
        fleet.check_lanes(12, 3, "exact")


def test_mpiexec_on_cards_is_refused_with_the_launcher_to_use(monkeypatch):
    for name, value in (HYDRA | {"MPI_LOCALRANKID": "3"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(mindspore, "get_context", {"device_target": "Ascend"}.get)
    for connect in (lambda: fleet.connect(FleetConfig(), 4), fleet.connect_for_sampling):
        with pytest.raises(ConfigError, match=r"would take card 0\. Start the cards with msrun --worker_num"):
            connect()


def test_a_process_that_mpiexec_has_not_started_finds_its_fleet_too_small(monkeypatch):
    for name, value in (HYDRA | {"MPI_LOCALRANKID": "3"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(fleet, "_open", lambda *_: Fleet(4))
    with pytest.raises(ConfigError, match=r"PMI_SIZE says that this is one of 4 processes, but 1 have connected"):
        fleet.connect(FleetConfig(), 4)


def test_the_settings_of_a_card_are_made_once_and_a_second_connection_may_follow():
    """MindSpore refuses to be told twice, on a CPU too."""
    twice = "from ganfleet.fleet import ascend; ascend.make_deterministic(); ascend.make_deterministic()"
    subprocess.run([sys.executable, "-c", twice], check=True)


def test_a_card_that_was_set_otherwise_is_refused():
    otherwise = """
import mindspore
from ganfleet.errors import ConfigError
from ganfleet.fleet import ascend
mindspore.set_deterministic(False)
try:
    ascend.make_deterministic()
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", otherwise], check=True, capture_output=True, text=True)
    assert "leave mindspore.set_deterministic and conv_allow_hf32 to ganfleet" in done.stdout


@pytest.mark.parametrize("version", ["2.7.2", "2.7.0rc1", "1.10.1"])
def test_a_mindspore_that_is_too_old_is_refused_with_the_reason(version):
    with pytest.raises(ConfigError, match=rf"this is {version}, which has no mint\.split on CPUs"):
        support.check_version(version)
    for newer in ("2.8.0", "2.10.0", "3.0.0"):
        support.check_version(newer)


VERBS = (
    ["train", "--config", "any.yaml"],
    ["plan", "--config", "any.yaml"],
    ["sample", "--checkpoint", "any", "--out", "any.png"],
    ["translate", "--checkpoint", "any", "--direction", "A2B", "--input", "any", "--output", "any"],
    ["strategies"],
)


def test_a_mindspore_that_another_package_broke_is_told_with_the_cure(tmp_path, monkeypatch):
    """As protobuf does, whose error is of a kind of its own, where SwanLab has brought an older one."""
    told = "Detected incompatible Protobuf versions: gencode 7.34.1 runtime 6.33.6"
    (tmp_path / "mindspore.py").write_text(f"class VersionError(Exception): pass\nraise VersionError({told!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mindspore", raising=False)
    with pytest.raises(ConfigError, match=r"cannot start: VersionError.*Run pip install --upgrade protobuf"):
        support.start_mindspore()


@pytest.mark.parametrize("verb", VERBS, ids=lambda words: words[0])
def test_where_there_is_no_temporary_folder_that_is_what_is_told(verb):
    """It is the first thing that fails in a container whose disk is read-only."""
    nowhere = f"""
import tempfile
tempfile._get_default_tempdir = lambda: (_ for _ in ()).throw(FileNotFoundError(2, "No usable temporary directory"))
import sys
from ganfleet.cli import main
sys.exit(main({verb}))
"""
    done = subprocess.run([sys.executable, "-c", nowhere], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("error:")) == (74, 1), done.stderr
    assert "No usable temporary directory" in done.stderr and "set TMPDIR" in done.stderr


# ── How processes end. These ranks do not train, so that a fleet starts in seconds.

RANK = """\
import os, signal, sys, time
import click
from ganfleet.cli import run

@click.command()
def command():
    rank = os.environ["MS_NODE_ID"]
    print("rank", rank, "works", flush=True)
    if rank == "1":
        time.sleep(1)
        {fault}
    time.sleep({seconds})

run(command)
"""
LAUNCH = """\
import signal
import sys
from pathlib import Path
import click
from ganfleet.cli import run
from ganfleet.fleet import processes

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may have been started by nohup

@click.command()
def command():
    return processes.launch({workers}, [sys.executable, "rank.py"], {log_dir})

run(command)
"""


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """Gives the arguments of a tiny run with a fault on rank 1."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
    return lambda fault: [tiny(tmp_path), "strategy.name=faulty_gan:FaultyGAN", f"strategy.fault={fault}"]


def launch(directory, fault="pass", seconds=300, rank=RANK, workers=2, log_dir='Path(".")') -> list[str]:
    """The command that starts two ranks of which rank 1 has ``fault`` while rank 0 goes on for ``seconds``."""
    (directory / "rank.py").write_text(rank.format(fault=fault, seconds=seconds))
    (directory / "launch.py").write_text(LAUNCH.format(workers=workers, log_dir=log_dir))
    return [sys.executable, "launch.py"]


def printed(process: subprocess.Popen) -> str:
    """What a launcher prints until it ends, which it must."""
    try:
        return process.communicate(timeout=60)[0]
    finally:
        process.kill()  # and its ranks end with it


def test_a_killed_rank_ends_the_fleet_with_69(tmp_path):
    ended = run(launch(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)"), tmp_path, timeout=60)
    assert ended.code == 69
    assert "error: rank 1 ended without an exit code (killed by SIGKILL), see worker_1.log" in ended.output


@pytest.mark.parametrize(
    "fault, told",
    [("raise RuntimeError('this rank alone')", "RuntimeError: this rank alone"), ("sys.exit(0)", "SystemExit: 0")],
)
def test_a_rank_that_fails_alone_is_named_and_quoted(fault, told, tmp_path):
    ended = run(launch(tmp_path, fault), tmp_path, timeout=60)
    assert ended.code == 70
    assert ended.output.count(told) == 1
    assert "ganfleet: rank 1 ended with 70; all it printed is in worker_1.log" in ended.output


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


def test_what_a_rank_starts_may_use_ganfleet_and_is_no_rank(tmp_path):
    """It does not report an exit code for the rank, nor end because its parent is not the launcher."""
    nested = "__import__('subprocess').run([sys.executable, '-m', 'ganfleet', '-V'], check=True)"
    ended = run(launch(tmp_path, nested, seconds=0), tmp_path, timeout=60)
    assert ended.code == 0
    assert "ganfleet, version" in (tmp_path / "worker_1.log").read_text()


HANGUP = """\
import signal, time
import click
from ganfleet.cli import run
from ganfleet.errors import Stopped

def stop(number, _):
    raise Stopped(f"got {{signal.Signals(number).name}}")

@click.command()
def command():
    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    time.sleep({seconds})

run(command)
"""


def test_a_closed_terminal_stops_the_ranks_as_sigterm_does(tmp_path):
    process = start(launch(tmp_path, rank=HANGUP), tmp_path)
    for number in range(2):
        log = tmp_path / f"worker_{number}.log"
        until(lambda log=log: log.exists() and "ready" in log.read_text())
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
import numpy as np
from mindspore import Tensor
from ganfleet import fleet
from ganfleet.config import FleetConfig
from ganfleet.fleet import Fleet

values = (np.random.default_rng(5).standard_normal((8, 1000)) * 10.0 ** np.arange(8)[:, None]).astype(np.float32)
expected = Fleet(8, "exact").reduce(lambda lane: Tensor(values[lane])).asnumpy()
for reduction in ("exact", "fast"):
    with fleet.connect(FleetConfig(reduction=reduction), 8) as connected:
        own = [Tensor(values[lane]) for lane in connected.lanes]
        first = connected.lanes.start
        totals = [connected.reduce(lambda lane: own[lane - first]).asnumpy() for _ in range(2)]
        assert all(own[lane - first].asnumpy().tobytes() == values[lane].tobytes() for lane in connected.lanes)
    if reduction == "exact":
        assert all(total.tobytes() == expected.tobytes() for total in totals)
    else:
        np.testing.assert_allclose(totals[0], expected, rtol=1e-5, atol=1e-6 * np.abs(values).max())
"""


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_the_ranks_of_mpiexec_sum_to_the_bits_of_one_process_and_change_no_lane(ranks, tmp_path):
    (tmp_path / "reduce.py").write_text(REDUCE)
    command = [str(BIN / "mpiexec"), "-n", str(ranks), sys.executable, "-m", "mpi4py", "reduce.py"]
    ended = run(command, tmp_path, timeout=120)
    assert ended.code == 0, ended.output


# ── And in training, with collectives


@pytest.mark.slow
def test_a_rank_may_be_late_as_when_it_compiles_longer_than_the_others(tmp_path, faulty):
    """MindSpore's CPU collectives would give up after 30 seconds."""
    ended = run(workers(2, "--config", *faulty("late")), tmp_path)
    assert ended.code == 0, ended.output


@pytest.mark.slow
@pytest.mark.parametrize("fault, code", [("raise", 70), ("exit", 70), ("kill", 69)])
def test_a_rank_that_fails_in_training_ends_the_fleet(fault, code, tmp_path, faulty):
    ended = run(workers(2, "--config", *faulty(fault)), tmp_path)
    assert ended.code == code
    # Rank 0 may die of the lost peer before anyone looks.
    assert re.search("rank (0, )?1 ended with", ended.output)
    if fault == "raise":
        assert ended.output.count("RuntimeError: this rank alone") == 1
