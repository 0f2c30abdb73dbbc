"""What a fleet's heartbeats say: hangs, collectives left out, slow ranks. No processes here, and no clock."""

import pytest

from ganfleet.fleet import heartbeat
from ganfleet.fleet.heartbeat import COMPILING, IN_COLLECTIVE, STARTING, WORKING, Board, Heartbeat
from ganfleet.fleet.supervisor import fewer
from ganfleet.fleet.watchdog import Seen, Watchdog, skipped, slow


def seen(beats=1, state=WORKING, collectives=7, recent=(), worked=(), stopped=False, code=None, host="node0"):
    told = Heartbeat(1, beats, state, 5, 4, "phase D", collectives, dict(recent), list(worked), code)
    return Seen(host, told, stopped)


@pytest.fixture
def telling(monkeypatch):
    """This process tells as a rank does; gives what the launcher reads."""
    board = Board(4)
    for name in ("_mine", "_run"):
        monkeypatch.setattr(heartbeat, name, None)
    heartbeat.attach(f"/dev/fd/{board.handle}", 2)
    yield lambda: board.read(2)
    board.close()


def test_what_a_rank_tells_is_what_its_launcher_reads(telling):
    assert (telling().state, telling().code, telling().place) == (STARTING, None, "before its first step")
    heartbeat.beat(3, "phase D")
    with heartbeat.collective("sum"):
        assert telling().place == "in step 3, phase D, in a collective"
    with heartbeat.compiling():
        assert telling().state == COMPILING
        with heartbeat.collective("sum"):
            assert telling().state == COMPILING
    heartbeat.beat(4, "phase G")
    heartbeat.tell_code(65)
    told = telling()
    assert (told.step, told.steps, told.place, told.code) == (4, 1, "in step 4, phase G", 65)
    assert told.recent == {0: "sum of step 3, phase D", 1: "sum of step 3, phase D"}
    assert Seen.from_json(Seen("node1", told).as_json()) == Seen("node1", told)


def test_only_the_newest_collectives_are_kept_and_none_is_half_written(telling):
    heartbeat.beat(1, "phase D")
    for _ in range(40):
        with heartbeat.collective("sum"):
            pass
    assert list(telling().recent) == list(range(25, 40))
    for step in range(2, 100):
        heartbeat.beat(step)
    assert len(telling().worked) == 31


def test_waiting_for_others_and_compiling_are_no_work(telling, monkeypatch):
    now = iter([0, 1, 11, 12, 52, 53])  # begins; waits from 1 to 11; compiles from 12 to 52; the next step
    monkeypatch.setattr(heartbeat.time, "perf_counter", lambda: next(now))
    heartbeat.beat(1, "phase D")
    with heartbeat.waiting():
        pass
    with heartbeat.compiling():
        pass
    heartbeat.beat(2)
    assert telling().worked == [3.0]


def test_a_fleet_hangs_when_no_rank_gives_a_sign_of_life():
    dog = Watchdog(hang_after=3)
    for beats in range(20):
        assert dog.hang({0: seen(beats, IN_COLLECTIVE), 1: seen()}, 1) is None
    hanging = {0: seen(20, IN_COLLECTIVE, collectives=8), 1: seen(host="node1")}
    told = [dog.hang(hanging, 1) for _ in range(5)]
    assert told[:4] == [None] * 4
    assert told[4] == "rank 1 on node1 hangs in step 5, phase D; rank 0 waits for it. No sign of life for 3 s"


@pytest.mark.parametrize("state", [COMPILING, STARTING])
def test_a_rank_that_compiles_or_starts_may_take_an_hour_but_not_be_stopped(state):
    dog = Watchdog(hang_after=3)
    told = [dog.hang({0: seen(state=state), 1: seen(state=state, stopped=True)}, 1) for _ in range(4)]
    assert told[:3] == [None] * 3 and "rank 1 on node0 is stopped by a signal" in told[3]
    dog = Watchdog(hang_after=3)
    for beats in range(3):  # it begins anew with each sign of life
        ranks = {0: seen(state=IN_COLLECTIVE), 1: seen(beats, state=state)}
        assert not any(dog.hang(ranks, 1) for _ in range(3600))
    assert "rank 0 on node0 hangs" in dog.hang(ranks, 2) and "No sign of life for 3600 s" in dog.hang(ranks, 1)
    patient = Watchdog(hang_after=5000)
    assert not any(patient.hang(ranks, 1) for _ in range(5000)) and patient.hang(ranks, 2)


def test_a_rank_that_has_ended_is_not_waited_for():
    dog = Watchdog(hang_after=3)
    assert not any(dog.hang({0: seen(code=0), 1: seen(code=0)}, 1) for _ in range(10))


def test_a_collective_that_one_rank_leaves_out_is_named():
    there = {0: {5: "sum of D", 6: "sum of G"}, 1: {5: "sum of D", 6: "audit"}, 2: {6: "sum of G", 7: "sum of D"}}
    ranks = {rank: seen(recent=recent) for rank, recent in there.items()}
    told = "a rank has left one out: rank 0, 2 is at the sum of G, but rank 1 is at the audit"
    assert told in skipped(ranks)
    assert skipped({rank: each for rank, each in ranks.items() if rank != 1}) is None
    dog = Watchdog(hang_after=3)
    assert dog.skipped(ranks) is None  # a rank may have been writing it just then
    assert told in dog.skipped(ranks)


def test_a_rank_that_takes_three_times_as_long_is_slow_and_told_once():
    ranks = {0: seen(worked=[0.1] * 12), 1: seen(worked=[0.1, 0.3] + [0.3] * 10), 2: seen(worked=[0.11] * 12)}
    dog = Watchdog(hang_after=3)
    [told] = dog.slow(ranks)
    assert told == "rank 1 on node0 is slow: it works for 0.3 s in a step, the others for 0.105 s, and wait for it"
    assert dog.slow(ranks) == []


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param([0.1, 3.0] * 6, id="a checkpoint now and then"),
        pytest.param([0.15] * 12, id="half as much again"),
        pytest.param([0.3] * 5, id="too few steps to tell"),
    ],
)
def test_what_is_no_slow_rank(odd):
    assert slow({0: [0.1] * 12, 1: odd}) == {}
    assert slow({0: [0.001] * 12, 1: [0.003] * 12}) == {}  # two thousandths of a second


def test_fewer_ranks_are_so_many_that_lanes_can_still_be_shared():
    assert [fewer(8, 1), fewer(8, 3), fewer(8, 5), fewer(6, 1), fewer(2, 2), fewer(1, 1)] == [4, 4, 8, 3, 2, 1]
