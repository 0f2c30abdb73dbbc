"""Fleets over MPI: for CPU clusters and machines without msrun. Started by ``mpiexec -n N python -m mpi4py``."""

import time

import numpy as np
from mindspore import Tensor

from ganfleet.errors import ConfigError
from ganfleet.fleet import cpu, slices
from ganfleet.fleet.base import Fleet
from ganfleet.fleet.launcher import host
from ganfleet.fleet.shared_sum import SharedSum

SPIN_SECONDS = 200e-6  # how long a rank keeps its own core while it waits: as long as a few exchanges of small vectors
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
        mine = (host(), cpu.own())
        places = self._gather(mine)
        shares_its_core = places.count(mine) > 1 and len(cpu.own()) == 1
        self._spin_seconds = 0 if shares_its_core else SPIN_SECONDS
        if shares_its_core:
            slices.lengthen()
        self._shared_sum = None
        if self.world_size > 1 and len({name for name, _ in places}) == 1:
            self._shared_sum = SharedSum(self.rank, self.world_size, self._gather, self._meet)

    def _gather(self, value):
        return self._comm.allgather(value)

    def _combine(self, partial):
        if self.reduction == "fast":
            total = np.empty_like(partial.asnumpy())
            self._meet()
            self._comm.Allreduce(partial.asnumpy(), total)
            return Tensor.from_numpy(total)
        if self.world_size == 1:
            return partial
        if self._fits_in_shared_memory(partial.size):
            return Tensor.from_numpy(self._shared_sum(partial.asnumpy()).copy())
        total, exchanges = self._sum_of_part(partial.asnumpy())
        for kept, given, partner in reversed(exchanges):
            self._exchange(total[kept], total[given], partner)
        return Tensor.from_numpy(total)

    def _scatter(self, partial, size):
        partial = partial.asnumpy()
        rows = np.zeros((self.world_size, -(-size // self.world_size)), np.float32)  # the part of each rank
        rows.reshape(-1)[:size] = partial[:size]
        return Tensor.from_numpy(np.concatenate((self._own_row(rows), self._combine(Tensor(partial[size:])).asnumpy())))

    def _own_row(self, rows):
        """This rank's row of the sum over all ranks."""
        if self.reduction == "fast":
            own = np.empty_like(rows[0])
            self._meet()
            self._comm.Reduce_scatter_block(rows, own)
            return own
        if self._fits_in_shared_memory(rows.size):
            return self._shared_sum(rows.reshape(-1)).reshape(rows.shape)[self.rank].copy()
        # Of a vector in parts, the part of a rank is the one whose number has the rank's bits in reverse.
        bits = self.world_size.bit_length() - 1
        order = [sum((number >> bit & 1) << bits - 1 - bit for bit in range(bits)) for number in range(len(rows))]
        total, exchanges = self._sum_of_part(rows[order].reshape(-1))
        return total[exchanges[-1][0]] if exchanges else total

    def _sum_of_part(self, vector: np.ndarray) -> tuple[np.ndarray, list[tuple[slice, slice, int]]]:
        """A vector of which one part is the sum over all ranks, and the exchanges that this took.

        Of each exchange: what this rank went on with, what it gave away, and to which partner.

        Recursive halving climbs the tree a level per exchange: of two partners, each goes on with one half of what both
        have. a + b has the bits of b + a.
        """
        mine, total, exchanges = vector, np.empty_like(vector), []
        start, stop, distance = 0, vector.size, 1
        while distance < self.world_size:
            middle, partner = (start + stop) // 2, self.rank ^ distance
            kept, given = slice(start, middle), slice(middle, stop)
            if self.rank & distance:
                kept, given = given, kept
            size = kept.stop - kept.start
            if self._room.size < size:
                self._room = np.empty(size, np.float32)
            theirs = self._room[:size]
            self._exchange(mine[given], theirs, partner)
            np.add(mine[kept], theirs, out=total[kept])
            exchanges.append((kept, given, partner))
            mine, start, stop, distance = total, kept.start, kept.stop, 2 * distance
        return mine, exchanges

    def _join(self, part):
        mine = part.asnumpy()
        joined = np.empty(self.world_size * mine.size, mine.dtype)
        self._wait(self._comm.Ibarrier())
        self._comm.Allgather(mine, joined)
        return Tensor.from_numpy(joined)

    def _exchange(self, given, taken, partner: int) -> None:
        """Send ``given`` to ``partner``, and receive ``taken``. MPI's own Sendrecv would keep the core meanwhile."""
        coming, going = self._comm.Irecv(taken, partner), self._comm.Isend(given, partner)
        self._wait(coming)
        self._wait(going)

    def _fits_in_shared_memory(self, size: int) -> bool:
        """Whether vectors of ``size`` values are added up in memory that the ranks share."""
        return self._shared_sum is not None and self._shared_sum.fits(size)

    def _meet(self) -> None:
        self._wait(self._comm.Ibarrier())

    def _wait(self, request) -> None:
        """Wait, and give the core away after a while, which MPI itself keeps: ranks may be more than cores."""
        end = time.perf_counter() + self._spin_seconds
        while not request.Test():
            if time.perf_counter() > end:
                time.sleep(NAP_SECONDS)
