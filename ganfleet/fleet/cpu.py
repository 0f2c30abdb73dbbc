"""Fix how many cores the kernels of one rank may use: the bits of a oneDNN weight gradient depend on that number."""

import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ganfleet.errors import ConfigError

CLAIM = "\0ganfleet/core {core}/{turn}"  # the zero makes it a name of the kernel's, and no file's
_pinned: list["Pinned"] = []  # the pins that hold now, the first one first


class Pinned:
    """A process that is bound to ``cores`` until ``release``, or the end of a ``with`` block."""

    def __init__(self, cores: set[int], before: set[int], claims: list[socket.socket]):
        self.cores, self.before, self._claims = cores, before, claims
        if cores:
            _pinned.append(self)

    def __enter__(self) -> "Pinned":
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def release(self) -> None:
        """Give this thread, and those that were started since, the cores that the process had before."""
        if self not in _pinned:
            return
        _pinned.remove(self)
        for claim in self._claims:
            claim.close()
        for thread in _threads():
            with suppress(ProcessLookupError):  # a thread that has just ended
                if os.sched_getaffinity(thread) == self.cores:
                    os.sched_setaffinity(thread, self.before)


def pin(threads: int, local_rank: int = 0) -> Pinned:
    """Bind this process to ``threads`` of the cores it may use, and to those that fewest other ranks are bound to.

    MindSpore sizes its thread pools by the cores a process may run on when the first kernel runs, so call this
    before. Threads started earlier keep their cores. Does nothing where the system has no affinity calls.

    Args:
        local_rank: where to begin to look for cores, so that the ranks of one node come in order.

    Raises:
        ConfigError: whoever started this process (taskset, numactl, msrun) allows it fewer cores.
    """
    if not hasattr(os, "sched_setaffinity"):
        return Pinned(set(), set(), [])
    before = os.sched_getaffinity(0)
    if threads > len(before):
        raise ConfigError(f"fleet.cpu_threads is {threads}, but this process may use {len(before)} cores: lower it")
    claims = _claim(threads, sorted(before), local_rank * threads)
    os.sched_setaffinity(0, claims.keys())
    return Pinned(set(claims), before, list(claims.values()))


@contextmanager
def unpinned() -> Iterator[None]:
    """Let this thread use all cores that the process had before it was pinned; threads it starts keep them."""
    if not _pinned:
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _pinned[0].before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def allowed() -> set[int]:
    """The cores that this process may use when it is not pinned."""
    return _pinned[0].before if _pinned else os.sched_getaffinity(0)


def count() -> int:
    """How many cores ``pin`` has to choose from."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else os.cpu_count()


def _claim(wanted: int, cores: list[int], first: int) -> dict[int, socket.socket]:
    """Claim so many of ``cores``, those with the fewest claims first; each with the socket that holds the claim.

    A claim is a name that the kernel gives to one socket of this machine at a time. It is there for all users, needs
    no file, and is gone with its process however that ends.
    """
    claims: dict[int, socket.socket] = {}
    for turn in itertools.count():
        for i in range(len(cores)):
            core = cores[(first + i) % len(cores)]
            if core not in claims and (claim := _claimed(CLAIM.format(core=core, turn=turn))):
                claims[core] = claim
                if len(claims) == wanted:
                    return claims


def _claimed(name: str) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(name)
    except OSError:  # another process has it
        claim.close()
        return None
    return claim


def _threads() -> list[int]:
    """The ids of this process's threads."""
    tasks = Path("/proc/self/task")
    return [int(task.name) for task in tasks.iterdir()] if tasks.exists() else [0]
