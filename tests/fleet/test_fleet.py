"""Fleets without training: the tree, simulated ranks, what launchers say, and how a fleet's processes end."""

import re
import signal
import time
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest
from commands import tiny
from fleets import Ended, mpiexec, run, start, survivors, workers
from mindspore import Tensor

from ganfleet import fleet
from ganfleet.config import FleetConfig
from ganfleet.errors import ConfigError
from ganfleet.fleet import Fleet, Launcher, SimulatedFleet, launcher
from ganfleet.fleet.tree import tree_sum

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


@pytest.mark.parametrize(
    "environ, expected",
    [
        ({}, Launcher()),
        (
            {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "8", "RANK_ID": "5", "DEVICE_ID": "1"},
            Launcher("msrun", 8, 5, 1),
        ),
        ({"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "16", "DEVICE_ID": "1"}, Launcher("msrun", 16, None, 1)),
        ({"MS_ROLE": "MS_SCHED", "MS_WORKER_NUM": "2", "RANK_ID": "0"}, Launcher("msrun", 2, 0, 0, is_scheduler=True)),
        ({"PMI_SIZE": "4", "PMI_RANK": "3", "MPI_LOCALRANKID": "1"}, Launcher("mpi", 4, 3, 1)),
        (
            {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0"},
            Launcher("mpi", 2, 1, 0),
        ),
    ],
)
def test_the_launcher_is_read_from_its_variables(environ, expected):
    assert launcher.detect(environ) == expected


def test_of_all_processes_the_first_rank_speaks_and_never_the_scheduler():
    assert [Launcher("mpi", 2, rank).speaks for rank in (0, 1)] == [True, False]
    assert not Launcher("msrun", 2, 0, is_scheduler=True).speaks


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
        ({"backend": "mccl"}, Launcher("mpi", 2), "this process was started by mpi: start it as msrun"),
        ({"backend": "alone"}, Launcher("msrun", 2), "this process was started by msrun: start it as python"),
        ({"backend": "simulated", "world_size": 2}, Launcher("msrun", 2), "this process was started by msrun"),
        ({"world_size": 4}, Launcher("mpi", 2), "fleet.world_size is 4, but 2 processes were started"),
    ],
)
def test_a_fleet_that_was_not_started_is_refused(settings, started, message):
    with pytest.raises(ConfigError, match=message):
        fleet.choose(FleetConfig(**settings), started)


def test_lanes_that_do_not_divide_are_refused_with_the_numbers_that_do():
    with pytest.raises(ConfigError, match=r"train\.lanes is 12: 5 ranks cannot .*, but 1, 2, 3, 4, 6, 12 can"):
        fleet.check_lanes(12, 5, "auto")
    with pytest.raises(ConfigError, match="exact needs a power-of-two number of ranks, not 3"):
        fleet.check_lanes(12, 3, "exact")


# ── How processes end. These ranks do not train, so that a fleet starts in seconds.

RANK = """\
import os, signal, sys, time
import click
from ganfleet.cli import run

@click.command()
def command():
    rank = os.environ["RANK_ID"]
    print("rank", rank, "works", flush=True)
    if rank == "1":
        time.sleep(1)
        {fault}
    time.sleep({seconds})

run(command)
"""
LAUNCH = """\
import sys
from pathlib import Path
import click
from ganfleet.cli import run
from ganfleet.fleet import msrun

@click.command()
def command():
    return msrun.launch(2, "rank.py", [], Path("."))

run(command)
"""


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """Gives the arguments of a tiny run with a fault on rank 1."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    return lambda fault: [tiny(tmp_path), "strategy.name=faulty_gan:FaultyGAN", f"strategy.fault={fault}"]


def launch(directory, fault="pass", seconds=300) -> list[str]:
    """The command that starts two ranks of which rank 1 has ``fault`` while rank 0 goes on for ``seconds``."""
    (directory / "rank.py").write_text(RANK.format(fault=fault, seconds=seconds))
    (directory / "launch.py").write_text(LAUNCH)
    return [workers(2)[0].replace("ganfleet", "python"), "launch.py"]


def test_a_killed_rank_ends_the_fleet_with_69(tmp_path):
    ended = run(launch(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)"), tmp_path, timeout=60)
    assert ended.code == 69
    assert "error: rank 1 ended without an exit code, see worker_1.log" in ended.output


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


def test_what_a_rank_starts_is_not_taken_for_the_rank(tmp_path):
    # Many at once, the last one to start being the next to end.
    children = "[__import__('subprocess').Popen(['sleep', str(3 - i / 200)]) for i in range(400)]; time.sleep(4)"
    assert run(launch(tmp_path, children, seconds=0), tmp_path, timeout=60).code == 0


@pytest.mark.parametrize("sign", ["msrun.log", "worker_1.log"])
def test_a_signal_before_ranks_can_take_it_ends_the_fleet_with_75(sign, tmp_path):
    process = start(launch(tmp_path), tmp_path)
    while not (tmp_path / sign).exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, survivors(tmp_path)) == (75, []), output
    assert output.count("stopped by a signal; start again") == 1
    assert "Traceback" not in output


def test_a_rank_of_mpiexec_that_fails_alone_ends_them_all(tmp_path, faulty):
    ended = run(mpiexec(2, "--config", *faulty("raise")), tmp_path)
    assert ended.code == 70
    assert ended.output.count("RuntimeError: this rank alone") == 1
    assert "ganfleet: rank 1: internal error" in ended.output


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
