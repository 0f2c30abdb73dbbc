"""Fix how many cores the kernels of one rank may use: the bits of a oneDNN weight gradient depend on that number."""

import errno
import itertools
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ganfleet.errors import ConfigError

NAME = "ganfleet/"  # of a socket, after a zero, which makes it a name of the kernel's, and no file's
CLAIM, CHOOSING = "core {core}/{turn}", "choosing"
PATIENCE = 5  # seconds for another process to choose
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
def unpinned(cores: set[int] | None = None) -> Iterator[None]:
    """Let this thread use ``cores``, by default all that the process had before it was pinned; threads and processes
    that it starts meanwhile keep them."""
    if not _pinned:
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or _pinned[0].before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


@contextmanager
def in_turn() -> Iterator[None]:
    """``unpinned``; and no thread that runs is interrupted so that this one, or one that it starts, may wake up."""
    other = getattr(os, "SCHED_OTHER", None)
    with unpinned():
        if other is None or os.sched_getscheduler(0) != other:
            yield
            return
        before = set(_threads())
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        try:
            yield
        finally:
            for thread in [0, *set(_threads()) - before]:
                with suppress(ProcessLookupError):  # a thread that has just ended
                    os.sched_setscheduler(thread, other, os.sched_param(0))


def own() -> set[int]:
    """The cores that this process is bound to by ``pin``, if it is."""
    return _pinned[-1].cores if _pinned else set()


def allowed() -> set[int]:
    """The cores that this process may use when it is not pinned."""
    return _pinned[0].before if _pinned else os.sched_getaffinity(0)


def free() -> set[int]:
    """The cores that this process may use and that no rank of this machine has claimed, if that can be known."""
    claims = _claims()
    if not _pinned or any(not claims[core] for core in _pinned[-1].cores):
        return set()
    return {core for core in allowed() if not claims[core]}


def count() -> int:
    """How many cores ``pin`` has to choose from."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else os.cpu_count()


def _claim(wanted: int, cores: list[int], first: int) -> dict[int, socket.socket]:
    """Claim so many of ``cores``, those with the fewest claims first; each with the socket that holds the claim.

    A claim is a name that the kernel gives to one socket of this machine at a time. It is there for all users, needs
    no file, and is gone with its process however that ends.
    """
    first %= len(cores)
    with _choosing():
        taken = _claims()
        chosen = sorted(cores[first:] + cores[:first], key=lambda core: taken[core])[:wanted]
        return {core: next(_free(core)) for core in chosen}


@contextmanager
def _choosing() -> Iterator[None]:
    """While it lasts, no other process chooses: two would see the same claims, and take the same cores."""
    end = time.monotonic() + PATIENCE
    while (lock := _claimed(CHOOSING)) is None and time.monotonic() < end:
        time.sleep(0.005)
    try:
        yield
    finally:
        if lock:
            lock.close()


def _claims() -> Counter[int]:
    """How many claims each core has."""
    try:
        names = Path("/proc/net/unix").read_text(errors="replace")
    except OSError:
        return Counter()
    return Counter(int(core) for core in re.findall(rf"@{re.escape(NAME)}core (\d+)/", names))


def _free(core: int) -> Iterator[socket.socket]:
    """Claims on ``core`` that nobody has."""
    for turn in itertools.count():
        if claim := _claimed(CLAIM.format(core=core, turn=turn)):
            yield claim


def _claimed(name: str) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0{NAME}{name}")
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            claim.close()
            return None
        # No name can be had here, so nobody claims: every rank takes its cores by its number.
    return claim


def _threads() -> list[int]:
    """The ids of this process's threads."""
    tasks = Path("/proc/self/task")
    return [int(task.name) for task in tasks.iterdir()] if tasks.exists() else [0]
