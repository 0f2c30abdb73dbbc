"""The sum over the ranks of one host, in memory that all of them see: it is copied less often than by messages."""

import math
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from ganfleet.fleet.tree import tree_sum

ROUND = mmap.PAGESIZE  # values; vectors of nearly one length take the same memory


class SharedSum:
    """Adds up vectors of all ranks in the order of ``fleet.tree``; each rank adds one part, for all of them.

    The memory has no file and no name, takes nothing from /dev/shm, and is gone with the ranks.
    """

    def __init__(self, rank: int, ranks: int, gather: Callable[[Any], list], meet: Callable[[], None]):
        """``gather`` gives every rank's value to every rank, and ``meet`` returns when all ranks have called it."""
        self._rank, self._ranks, self._gather, self._meet = rank, ranks, gather, meet
        self._rows = np.empty((ranks + 1, 0), np.float32)  # of each rank its vector, and the sum
        self._refused = math.inf  # the size for which there was no memory

    def fits(self, size: int) -> bool:
        """Whether vectors of ``size`` values can be added up. All ranks ask together, and are told the same."""
        if self._rows.shape[1] < size < self._refused:
            rows = self._room(-(-size // ROUND) * ROUND)
            if rows is None:
                self._refused = size
            else:
                self._rows = rows
        return size <= self._rows.shape[1]

    def __call__(self, vector: np.ndarray) -> np.ndarray:
        """The sum of all ranks' ``vector``, float32 (P,), which fits. The next call writes over it."""
        given, total = self._rows[:-1, : vector.size], self._rows[-1, : vector.size]
        width = -(-vector.size // self._ranks)
        mine = slice(self._rank * width, (self._rank + 1) * width)
        given[self._rank] = vector
        self._meet()
        ranks, middle = range(self._ranks), self._ranks // 2
        first, second = (tree_sum(half, lambda rank: given[rank, mine]) for half in (ranks[:middle], ranks[middle:]))
        np.add(first, second, out=total[mine])
        self._meet()  # now all of it is there, and no rank reads what another one has given
        return total

    def _room(self, size: int) -> np.ndarray | None:
        """Rows of ``size`` values that all ranks see; None where there is no such memory."""
        length, handle, memory, sign = 4 * size * (self._ranks + 1), None, None, os.urandom(16)
        if self._rank == 0:
            with suppress(OSError, AttributeError):  # it is Linux that has such memory
                handle = os.memfd_create("ganfleet-sum")
                os.posix_fallocate(handle, 0, length)  # or a process would be killed where there is none left
                os.pwrite(handle, sign, 0)
        place, sign = self._gather((f"/proc/{os.getpid()}/fd/{handle}", sign))[0]
        with suppress(OSError, ValueError), open(place, "r+b") as file:  # ValueError: what is there is shorter
            memory = mmap.mmap(file.fileno(), length)
        # In another container the same path may be another file.
        is_there = all(self._gather(memory is not None and memory[: len(sign)] == sign))
        if handle is not None:
            os.close(handle)
        return np.frombuffer(memory, np.float32).reshape(-1, size) if is_there else None
