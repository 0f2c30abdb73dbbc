"""What ranks tell each other at the start: an error that one has met, and facts that all must see."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ganfleet.errors import ConfigError, DataError, GanfleetError, StorageError
from ganfleet.fleet import Fleet, Launcher, base

HOSTS = ["node0", "node0", "node1", "node1"]


class Rank(Fleet):
    """A rank that is a thread of this process."""

    def __init__(self, rank, mailbox, barrier):
        super().__init__(len(HOSTS), "fast", rank, len(HOSTS))
        self._mailbox, self._barrier = mailbox, barrier

    def gather(self, value):
        self._mailbox[self.rank] = pickle.dumps(value)  # as between processes
        self._barrier.wait(10)
        everyone = [pickle.loads(self._mailbox[rank]) for rank in range(self.world_size)]
        self._barrier.wait(10)
        return everyone


@pytest.fixture
def on_every_rank(monkeypatch):
    """Runs ``action(fleet)`` on four ranks of two hosts; what each raised, in rank order."""
    local = threading.local()
    monkeypatch.setattr(base, "host", lambda: local.host)
    mailbox, barrier = {}, threading.Barrier(len(HOSTS))

    def one(rank, action):
        local.host = HOSTS[rank]
        try:
            action(Rank(rank, mailbox, barrier))
        except GanfleetError as error:
            return error

    def run(action):
        with ThreadPoolExecutor(len(HOSTS)) as pool:
            return list(pool.map(one, range(len(HOSTS)), [action] * len(HOSTS)))

    return run


def told(raised):
    """What each rank prints."""
    return [Launcher("msrun", len(HOSTS), rank, rank % 2, connected=True).telling(e) for rank, e in enumerate(raised)]


def test_an_error_of_one_rank_is_raised_on_all_and_told_by_that_rank_and_rank_0(on_every_rank):
    raised = on_every_rank(lambda fleet: fleet.agree(DataError("no images in d") if fleet.rank == 3 else None))
    assert [(type(error), str(error)) for error in raised] == [(DataError, "rank 3 on node1: no images in d")] * 4
    message = "rank 3 on node1: no images in d"
    assert told(raised) == [message, None, None, message]


def test_an_error_of_one_node_is_told_once_there(on_every_rank):
    raised = on_every_rank(lambda fleet: fleet.agree(StorageError("disk full") if fleet.rank > 1 else None))
    message = "ranks 2, 3 on node1: disk full"
    assert told(raised) == [message, None, message, None]


def test_an_error_that_all_ranks_meet_is_told_by_rank_0_as_it_is(on_every_rank):
    assert told(on_every_rank(lambda fleet: fleet.agree(ConfigError("train.seed")))) == ["train.seed"] + [None] * 3


def test_different_errors_are_all_told_and_the_first_ranks_kind_decides(on_every_rank):
    errors = [None, DataError("a"), ConfigError("b"), DataError("a")]
    raised = on_every_rank(lambda fleet: fleet.agree(errors[fleet.rank]))
    assert {(type(error), str(error)) for error in raised} == {
        (DataError, "rank 1 on node0 and rank 3 on node1: a; rank 2 on node1: b")
    }


def test_ranks_without_an_error_go_on(on_every_rank):
    def action(fleet):
        fleet.agree(None)
        with fleet.agreeing():
            pass
        fleet.same({"images": 40, "names": ("image",)})

    assert on_every_rank(action) == [None] * 4


def test_what_a_block_raises_on_one_rank_is_raised_on_all(on_every_rank):
    def action(fleet):
        with fleet.agreeing():
            if fleet.rank == 2:
                raise DataError("damaged")

    assert {str(error) for error in on_every_rank(action)} == {"rank 2 on node1: damaged"}


def test_a_lone_process_raises_its_own_error_unchanged():
    with pytest.raises(DataError, match=r"^damaged$"), Fleet(4).agreeing():
        raise DataError("damaged")


def test_facts_that_differ_are_named_with_all_values_ranks_and_hosts(on_every_rank):
    def action(fleet):
        facts = {"number of images": 40 - (fleet.rank == 3), "MindSpore": "2.10.0", "channels": 3}
        fleet.same(facts, DataError)

    raised = on_every_rank(action)
    assert {type(error) for error in raised} == {DataError}
    message = (
        "the ranks do not see the same: number of images is 40 on ranks 0, 1 on node0 and rank 2 on node1, "
        "but 39 on rank 3 on node1. Make these equal, then start again"
    )
    assert told(raised) == [message, None, None, message]


def test_a_fact_that_one_rank_does_not_have_differs(on_every_rank):
    raised = on_every_rank(lambda fleet: fleet.same({"classes": 10, **({"labels": "a"} if fleet.rank == 0 else {})}))
    assert all("labels is 'a' on rank 0 on node0, but None on rank 1 on node0 and" in str(error) for error in raised)
