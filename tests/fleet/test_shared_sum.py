"""The sum in shared memory: its bits are those of the tree, and where there is no such memory all ranks know it."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ganfleet.fleet.shared_sum import SharedSum
from ganfleet.fleet.tree import tree_sum

SIZES = (3, 1, 5000, 4999, 70_000)  # it grows twice, and has parts of no value


class Ranks:
    """Threads in place of processes: each is a rank."""

    def __init__(self, count):
        self.count = count
        self.barrier, self.values = threading.Barrier(count, timeout=30), [None] * count

    def gathering(self, rank):
        def gather(value):
            self.values[rank] = value
            self.barrier.wait()
            everyone = list(self.values)
            self.barrier.wait()
            return everyone

        return gather

    def each(self, work):
        """What ``work(rank, its SharedSum)`` returns on each rank."""

        def run(rank):
            return work(rank, SharedSum(rank, self.count, self.gathering(rank), self.barrier.wait))

        with ThreadPoolExecutor(self.count) as threads:
            return list(threads.map(run, range(self.count)))


def vectors(count, size):
    scale = 10.0 ** np.arange(count)[:, None]
    return (np.random.default_rng(size).standard_normal((count, size)) * scale).astype(np.float32)


@pytest.mark.parametrize("count", [2, 4, 8])
def test_every_rank_gets_the_bits_of_the_tree(count):
    def sums(rank, add):
        found = []
        for size in SIZES:
            assert add.fits(size)
            found.append(add(vectors(count, size)[rank]).copy())
        return found

    for found in Ranks(count).each(sums):
        for size, total in zip(SIZES, found, strict=True):
            rows = vectors(count, size)
            assert total.tobytes() == tree_sum(range(count), lambda rank, rows=rows: rows[rank]).tobytes(), size


def refuse(*_):
    raise OSError("no memory")


@pytest.mark.parametrize("fault", ["no such memory", "no memory left", "another file", "a file cut short"])
def test_all_ranks_know_where_it_does_not_fit(fault, monkeypatch, tmp_path):
    """And a smaller vector, for which there was memory before, still has its sum."""
    asked, create, open_file, other = [], os.memfd_create, open, tmp_path / "other"
    other.write_bytes(bytes(1 << 20))

    def asking(name):
        asked.append(name)
        return refuse() if fault == "no such memory" else create(name)

    def spoil():
        monkeypatch.setattr(os, "memfd_create", asking)
        if fault == "no memory left":
            monkeypatch.setattr(os, "posix_fallocate", refuse)
        if fault == "another file":
            monkeypatch.setattr("builtins.open", lambda place, mode: open_file(other, mode))
        if fault == "a file cut short":
            monkeypatch.setattr(os, "posix_fallocate", lambda handle, start, length: os.ftruncate(handle, 4096))

    ranks = Ranks(2)

    def sums(rank, add):
        assert add.fits(100)
        ranks.barrier.wait()
        if rank == 0:
            spoil()
        ranks.barrier.wait()
        fits = [add.fits(50_000), add.fits(60_000), add.fits(100)]
        return fits, add(np.full(100, rank + 1, np.float32)).tolist()

    for fits, total in ranks.each(sums):
        assert fits == [False, False, True]
        assert total == [3.0] * 100
    assert len(asked) == 1  # a larger one is not asked for again
    assert other.read_bytes() == bytes(1 << 20)
