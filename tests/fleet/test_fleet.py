"""Fleets without training: the tree, simulated ranks, what launchers say, and how a fleet's processes end."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from functools import reduce
from operator import add

import mindspore
import numpy as np
import pytest
from fleets import free_port
from mindspore import Tensor

from ganfleet import fleet
from ganfleet.config import FleetConfig
from ganfleet.errors import ConfigError, DataError, PeerLost, Stopped
from ganfleet.fleet import Fleet, Launcher, SimulatedFleet, launcher, mindspore_fleet, support
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
    """MindSpore refuses to be told twice, on a CPU too, where it takes no note of HF32."""
    script = """
from mindspore.device_context.ascend import op_precision
from ganfleet.fleet import ascend
for name in ("conv_allow_hf32", "matmul_allow_hf32"):
    setattr(op_precision, name, lambda value, name=name: print(name, value))
ascend.make_deterministic(HF32)
ascend.make_deterministic()
ascend.make_deterministic(HF32)
"""
    for hf32 in (False, True):
        words = [sys.executable, "-c", script.replace("HF32", str(hf32))]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        assert done.stdout.split("\n") == [f"conv_allow_hf32 {hf32}", f"matmul_allow_hf32 {hf32}", ""], done


def test_hf32_is_refused_on_a_cpu():
    with pytest.raises(ConfigError, match=r"fleet\.hf32 is for Ascend cards.*set it to false"):
        fleet.connect(FleetConfig(hf32=True), 1)


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
    assert "leave mindspore.set_deterministic, conv_allow_hf32 and matmul_allow_hf32 to ganfleet" in done.stdout


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


# ── MindSpore's scheduler


@pytest.fixture
def rank_of(monkeypatch):
    """Makes this process look like a rank whose scheduler is at a port of this machine."""

    def make(port):
        names = {"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": 2, "MS_NODE_ID": 0, "MS_TOPO_TIMEOUT": 0.5}
        names |= {"MS_SCHED_HOST": "127.0.0.1", "MS_SCHED_PORT": port}
        for name, value in names.items():
            monkeypatch.setenv(name, str(value))

    return make


def test_a_rank_says_for_which_scheduler_it_waits_and_does_not_wait_for_ever(rank_of, monkeypatch, capsys):
    rank_of(free_port())
    monkeypatch.setattr(mindspore_fleet, "PATIENCE", 0.1)
    with pytest.raises(PeerLost, match=r"scheduler at 127.0.0.1:\d+, .* does not answer for 0.5 s: Connection refused"):
        mindspore_fleet._await_scheduler()
    assert capsys.readouterr().err.count("ganfleet: waiting for MindSpore's scheduler at 127.0.0.1:") == 1


def test_a_rank_goes_on_when_its_scheduler_listens(rank_of, capsys):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        rank_of(listening.getsockname()[1])
        mindspore_fleet._await_scheduler()
    assert capsys.readouterr().err == ""
