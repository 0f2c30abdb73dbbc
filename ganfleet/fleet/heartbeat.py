"""Where each rank is, told to the launcher that watches it through memory which both share.

A rank writes its step, its phase, its collectives and its exit code there; this costs it a few microseconds. The
launcher reads them whatever the rank is doing, also when it hangs in a kernel or is stopped. A process that no launcher
watches tells nobody, at no cost.
"""

import ctypes
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

RECENT = 16  # collectives whose names are kept
STEPS = 32  # whose seconds of work are kept
NO_CODE = -1
STARTING, WORKING, IN_COLLECTIVE, COMPILING = range(4)


class _Record(ctypes.Structure):
    """What one rank tells."""

    _fields_ = (
        ("pid", ctypes.c_int64),
        ("beats", ctypes.c_int64),
        ("state", ctypes.c_int64),
        ("step", ctypes.c_int64),
        ("steps", ctypes.c_int64),
        ("collectives", ctypes.c_int64),
        ("code", ctypes.c_int64),
        ("phase", ctypes.c_char * 48),
        ("recent", (ctypes.c_char * 80) * RECENT),
        ("worked", ctypes.c_double * STEPS),
    )


_RunName = ctypes.c_char * 1024


@dataclass(frozen=True)
class Heartbeat:
    """What a rank has told.

    Attributes:
        beats: grows with everything that it tells.
        state: STARTING until its training loop begins, then one of the others.
        steps: how many steps it has finished since it started.
        collectives: how many it has begun; ``recent`` has their names by number, those of the last RECENT - 1.
        worked: the seconds that it was busy by itself in each of its last steps, without waiting for other ranks.
        code: its exit code; None before it has one.
    """

    pid: int
    beats: int
    state: int
    step: int
    steps: int
    phase: str
    collectives: int
    recent: dict[int, str]
    worked: list[float]
    code: int | None

    @property
    def place(self) -> str:
        """Where the rank is, for a message."""
        if self.state == STARTING:
            return "before its first step"
        doing = {WORKING: "", IN_COLLECTIVE: ", in a collective", COMPILING: ", compiling"}[self.state]
        return f"in step {self.step}, {self.phase}{doing}"


class Board:
    """The memory in which ``ranks`` tell the launcher, which makes it; it has no file, and is gone with its users."""

    def __init__(self, ranks: int):
        self.handle = os.memfd_create("ganfleet-heartbeat")
        os.ftruncate(self.handle, ctypes.sizeof(_RunName) + ranks * ctypes.sizeof(_Record))
        self._memory = mmap.mmap(self.handle, 0)
        for rank in range(ranks):
            _record(self._memory, rank).code = NO_CODE

    def close(self) -> None:
        os.close(self.handle)

    @property
    def run(self) -> str | None:
        """The run directory, once rank 0 has it."""
        return os.fsdecode(_RunName.from_buffer_copy(self._memory).value) or None

    def read(self, rank: int) -> Heartbeat:
        told = _Record.from_buffer_copy(self._memory, _place(rank))
        began, steps = told.collectives, told.steps
        # The oldest name of all may be on its way to being replaced.
        numbers = range(max(0, began - RECENT + 1), began)
        return Heartbeat(
            pid=told.pid,
            beats=told.beats,
            state=told.state,
            step=told.step,
            steps=steps,
            phase=told.phase.decode(errors="replace"),
            collectives=began,
            recent={number: told.recent[number % RECENT].value.decode(errors="replace") for number in numbers},
            worked=[round(told.worked[n % STEPS], 6) for n in range(max(0, steps - STEPS + 1), steps)],
            code=None if told.code == NO_CODE else told.code,
        )


def _place(rank: int) -> int:
    return ctypes.sizeof(_RunName) + rank * ctypes.sizeof(_Record)


def _record(memory: mmap.mmap, rank: int) -> _Record:
    return _Record.from_buffer(memory, _place(rank))


# ── Of a rank

_mine: _Record | None = None  # what this rank tells
_run: ctypes.Array | None = None
_began, _waited = 0.0, 0.0  # when this step began, and the seconds of it in which this rank was not busy by itself


def attach(path: str, rank: int) -> None:
    """Tell the launcher whose Board is at ``path`` from now on that this is ``rank``."""
    global _mine, _run
    with open(path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    _mine, _run = _record(memory, rank), _RunName.from_buffer(memory)
    _mine.pid = os.getpid()


def is_watched() -> bool:
    """Whether a launcher reads what this process tells."""
    return _mine is not None


def beat(step: int | None = None, phase: str | None = None) -> None:
    """Tell that this rank is alive, and in which ``step`` and ``phase`` of it, if these are new."""
    global _began, _waited
    if _mine is None:
        return
    if step is not None and (step != _mine.step or _mine.state == STARTING):
        now = time.perf_counter()
        if _mine.state != STARTING and step > _mine.step:
            _mine.worked[_mine.steps % STEPS] = now - _began - _waited
            _mine.steps += 1
        _began, _waited = now, 0.0
        _mine.step = step
        _mine.state = WORKING
    if phase is not None:
        _mine.phase = phase.encode()[:47]
    _mine.beats += 1


@contextmanager
def _waiting(state: int) -> Iterator[None]:
    """A block in which this rank is in ``state``; its time is no work of this rank's own."""
    global _waited
    if _mine is None or _mine.state == STARTING:
        yield
        return
    before, began = _mine.state, time.perf_counter()
    _mine.state = before if before == COMPILING else state
    _mine.beats += 1
    try:
        yield
    finally:
        _mine.state = before
        _mine.beats += 1
        if before == WORKING:  # others are in a block that counts already
            _waited += time.perf_counter() - began


@contextmanager
def collective(kind: str) -> Iterator[None]:
    """A block that needs all ranks. They must come to the same ones in the same order, which the launcher watches."""
    if _mine is not None:
        name = f"{kind} of step {_mine.step}, {_mine.phase.decode(errors='replace')}"
        _mine.recent[_mine.collectives % RECENT].value = name.encode()[:79]
        _mine.collectives += 1
    with _waiting(IN_COLLECTIVE):
        yield


def waiting():
    """A block that waits for the device, and so perhaps for other ranks."""
    return _waiting(IN_COLLECTIVE)


def compiling():
    """A block that compiles a graph. It may take long, and is no hang."""
    return _waiting(COMPILING)


def tell_run(path: str) -> None:
    """Tell in which directory the run is: a restart goes on there."""
    if _run is not None:
        _run.value = os.fsencode(path)


def tell_code(code: int) -> None:
    """Tell this rank's exit code."""
    if _mine is not None:
        _mine.code = code
