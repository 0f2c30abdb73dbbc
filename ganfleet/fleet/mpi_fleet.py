"""Fleets over MPI: for CPU clusters and machines without msrun. Started by ``mpiexec -n N python -m mpi4py``."""

import time

import numpy as np
from mindspore import Tensor

from ganfleet.errors import ConfigError
from ganfleet.fleet.base import Fleet

SPIN_SECONDS = 200e-6  # how long a rank that waits keeps its core: as long as a few exchanges of small vectors take
NAP_SECONDS = 50e-6


class MpiFleet(Fleet):
    """The ranks mpiexec started.

    Raises:
        ConfigError: mpi4py or the MPI library is missing.
    """

    backend = "mpi"
    scatters = True

    def __init__(self, lanes: int, reduction: str):
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise ConfigError(
                f"fleet.backend mpi needs mpi4py and an MPI library ({error}): pip install 'ganfleet[mpi]'"
            ) from error
        self._comm = MPI.COMM_WORLD
        self._room = np.empty(0, np.float32)  # for what comes from a partner; new memory costs as much as the sum
        super().__init__(lanes, reduction, self._comm.rank, self._comm.size)

    def _gather(self, value):
        return self._comm.allgather(value)

    def _combine(self, partial):
        if self.reduction == "fast":
            total = np.empty_like(partial.asnumpy())
            _wait(self._comm.Ibarrier())
            self._comm.Allreduce(partial.asnumpy(), total)
            return Tensor.from_numpy(total)
        # Recursive doubling climbs the tree a level per exchange; a + b has the bits of b + a, so partners agree.
        total, distance = partial, 1
        while distance < self.world_size:
            mine = total.asnumpy()  # waits for it, and so for the last sum to be done with what came from a partner
            if self._room.size < mine.size:
                self._room = np.empty(mine.size, mine.dtype)
            theirs = self._room[: mine.size]
            self._exchange(mine, theirs, self.rank ^ distance)
            total = total + Tensor.from_numpy(theirs)
            distance *= 2
        return total

    def _scatter(self, partial, size):
        partial = partial.asnumpy()
        rows = np.zeros((self.world_size, -(-size // self.world_size)), np.float32)  # the part of each rank
        rows.reshape(-1)[:size] = partial[:size]
        return Tensor.from_numpy(np.concatenate((self._own_row(rows), self._combine(Tensor(partial[size:])).asnumpy())))

    def _own_row(self, rows):
        """This rank's row of the sum over all ranks."""
        if self.reduction == "fast":
            own = np.empty_like(rows[0])
            _wait(self._comm.Ibarrier())
            self._comm.Reduce_scatter_block(rows, own)
            return own
        # Recursive halving climbs the same tree: of two partners, one goes on with the even rows, one with the odd.
        distance = 1
        while len(rows) > 1:
            partner, odd = self.rank ^ distance, self.rank // distance % 2
            mine, given = rows[odd::2].copy(), rows[1 - odd :: 2].copy()
            rows = np.empty_like(mine)
            self._exchange(given, rows, partner)
            np.add(mine, rows, out=rows)
            distance *= 2
        return rows[0]

    def _join(self, part):
        mine = part.asnumpy()
        joined = np.empty(self.world_size * mine.size, mine.dtype)
        _wait(self._comm.Ibarrier())
        self._comm.Allgather(mine, joined)
        return Tensor.from_numpy(joined)

    def _exchange(self, given, taken, partner: int) -> None:
        """Send ``given`` to ``partner``, and receive ``taken``. MPI's own Sendrecv would keep the core meanwhile."""
        coming, going = self._comm.Irecv(taken, partner), self._comm.Isend(given, partner)
        _wait(coming)
        _wait(going)


def _wait(request) -> None:
    """Wait, and give the core away after a while, which MPI itself keeps: ranks may be more than cores."""
    end = time.perf_counter() + SPIN_SECONDS
    while not request.Test():
        if time.perf_counter() > end:
            time.sleep(NAP_SECONDS)
