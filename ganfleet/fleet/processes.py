"""Start a fleet's processes on this machine, pass signals on, and end with the exit code of the rank that failed.

The processes are started as msrun starts them, with the same variables; but msrun itself ends with 1 whatever a rank's
code was, waits up to a minute for its scheduler after a failure, takes a rank that leaves early for one that is done,
and leaves its processes behind when it is terminated.
"""

import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import psutil

from ganfleet.errors import INTERRUPTED, PeerLost, Stopped, StorageError
from ganfleet.fleet.launcher import ECHO_SECONDS, LAUNCHER_PID, REPORT_FD, TERMINAL

SCHEDULER = -1  # among ranks
POLL_SECONDS = 0.2
GRACE_SECONDS = 5  # for the others to fail alike once a rank has failed, and for ranks to end that have reported
SCHEDULER_SECONDS = 60  # for ranks to end by themselves that have no scheduler any more
CONNECT_SECONDS = 1800  # how long MindSpore lets a rank be late to connect; a rank that dies is noticed by other means
TAIL_LINES = 60
SHOW_CURSOR = b"\x1b[?25h"
PASSED_ON = {signal.SIGTERM: signal.SIGTERM, signal.SIGINT: signal.SIGINT, signal.SIGHUP: signal.SIGTERM}


def launch(workers: int, command: list[str], log_dir: Path | None = None) -> int:
    """Run ``command`` on ``workers`` ranks of this machine, showing rank 0's output; the fleet's exit code.

    Each rank's whole output goes to ``log_dir/worker_N.log``; where a rank fails alone, the end of it is shown. Without
    a ``log_dir`` it goes to files without a name, of which nothing is left. SIGTERM, SIGINT and SIGHUP go on to the
    ranks, which stop after their step; after a second one, those that have not ended in GRACE_SECONDS are killed. No
    process is left when this returns, or is killed.

    Raises:
        PeerLost: a rank or the scheduler ended without an exit code of its own, killed for instance.
        Stopped: a signal came before the ranks could take it.
        StorageError: there is no place for the output.
    """
    with _Family(workers, log_dir) as family:
        family.start(command)
        lost = _watch(family)
        unanswering = sorted(family.ranks.keys() - family.ended() - family.codes.keys())
    return _outcome(family, lost, unanswering)


def _outcome(family: "_Family", lost: set[int], unanswering: list[int]) -> int:
    """The fleet's exit code, after what there is to say about it. ``unanswering`` are the ranks that had to be killed
    before they had said anything."""
    codes, workers = family.codes, family.workers
    if family.interrupted_at is not None and unanswering:
        _tell(f"interrupted twice; rank {', '.join(map(str, unanswering))} did not answer and was killed")
        return INTERRUPTED
    failed = [rank for rank, code in codes.items() if code]
    if failed:
        if not codes.get(0):
            _show_end(family, failed[0], f"rank {failed[0]} ended with {codes[failed[0]]}")
        return codes[failed[0]]
    if SCHEDULER in lost:
        raise PeerLost(
            f"MindSpore's scheduler, the process by which the ranks find each other, ended"
            f"{family.killed_by(SCHEDULER) or ' before them'}; start the run again to go on from its last checkpoint"
        )
    lost = sorted(lost or set(range(workers)) - codes.keys())
    if lost and family.received:
        raise Stopped("stopped by a signal; start again")
    if lost:
        if lost[0]:
            _show_end(family, lost[0], f"rank {lost[0]} was lost")
        raise PeerLost(
            f"rank {', '.join(map(str, lost))} ended without an exit code{family.killed_by(lost[0])}, see "
            f"{family.log(lost[0]) or 'what it printed above'}; start the run again to go on from its last checkpoint"
        )
    return 0


def _watch(family: "_Family") -> set[int]:
    """Show rank 0's output until every rank has ended, or those that have not had their time.

    Returns the ranks that were the first to end, if they reported no exit code, or the scheduler, if it ended first.
    """
    output, deadline = family.outputs[0], math.inf
    while True:
        family.deliver()
        _show(output)
        ended = family.ended()  # before the codes are read: a rank reports its code, then ends
        family.read_reports()
        lost = ended - family.codes.keys()
        if not lost and not family.codes and family.lost_scheduler():
            lost = {SCHEDULER}
        if lost or len(ended) == len(family.ranks) or time.monotonic() > deadline:
            _show(output)
            return lost
        if family.interrupted_at is not None:
            deadline = min(deadline, family.interrupted_at + GRACE_SECONDS)
        if any(family.codes.values()) or len(family.codes) == family.workers:
            deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
        time.sleep(POLL_SECONDS)


def _show(output: BinaryIO) -> None:
    """Pass on what rank 0 has printed since the last time, without what MindSpore's libraries say as they unload."""
    _print(b"".join(line for line in output.readlines() if not line.startswith(b"[INFO] DISTRIBUTED(")))


def _print(text: bytes) -> None:
    with suppress(OSError):  # the terminal is closed; the ranks must not end for that
        sys.stdout.buffer.write(text)
        sys.stdout.flush()


def _tell(message: str) -> None:
    print(f"ganfleet: error: {message}", file=sys.stderr)


def _show_end(family: "_Family", rank: int, ending: str) -> None:
    """What a rank other than 0 had to say at its end."""
    log = family.log(rank)
    lines = family.printed(rank)[-TAIL_LINES:]
    where = f"all it printed is in {log}" if log else "--log-dir keeps all that it prints"
    print(*lines, f"ganfleet: {ending}; {where}", sep="\n", file=sys.stderr)


@dataclass
class _Family:
    """The ranks and MindSpore's scheduler, none of which outlives a ``with`` block.

    ``codes`` are the exit codes that ranks have reported, in the order in which they came. Signals that reach this
    process are in ``received`` as the ranks shall get them, and go on to every rank, and to nothing else; the second
    came ``interrupted_at``. ``outputs`` has what each rank prints, to be read.
    """

    workers: int
    log_dir: Path | None
    ranks: dict[int, psutil.Popen] = field(default_factory=dict)
    codes: dict[int, int] = field(default_factory=dict)
    received: list[int] = field(default_factory=list)
    interrupted_at: float | None = None
    outputs: dict[int, BinaryIO] = field(default_factory=dict)
    _scheduler_failed_at: float | None = None
    _processes: list[psutil.Popen] = field(default_factory=list)
    _delivered: Counter[int] = field(default_factory=Counter)  # signals, by rank

    def __enter__(self):
        self._stack = ExitStack()
        self._reports, self._reporting = os.pipe()
        os.set_blocking(self._reports, False)
        self._stack.callback(os.close, self._reports)
        self._stack.callback(os.close, self._reporting)
        for number in PASSED_ON:
            before = signal.getsignal(number)
            if number != signal.SIGHUP or before != signal.SIG_IGN:  # as nohup asks for
                signal.signal(number, self._receive)
                self._stack.callback(signal.signal, number, before)
        return self

    def _receive(self, number, _frame):
        now = time.monotonic()
        if not self.received:
            self._received_at = now
        elif self.interrupted_at is None and now - self._received_at > ECHO_SECONDS:
            self.interrupted_at = now
        self.received.append(PASSED_ON[number])

    def __exit__(self, *_):
        _end(self._processes)
        self._stack.close()

    def log(self, rank: int) -> Path | None:
        """The file that keeps what a rank prints, if one does."""
        return self.log_dir and self.log_dir / f"worker_{rank}.log"

    def printed(self, rank: int) -> list[str]:
        """The lines that a rank has printed."""
        self.outputs[rank].seek(0)
        return self.outputs[rank].read().decode(errors="replace").splitlines()

    def killed_by(self, rank: int) -> str:
        """The signal that ended a rank, or the SCHEDULER, for a message."""
        code = (self._scheduler if rank == SCHEDULER else self.ranks[rank]).returncode
        return f" (killed by {signal.Signals(-code).name})" if code is not None and code < 0 else ""

    def start(self, command: list[str]) -> None:
        """Start the scheduler and the ranks.

        Raises:
            StorageError: there is no place for their output.
        """
        if self.log_dir:
            with _storing(self.log_dir):
                self.log_dir.mkdir(parents=True, exist_ok=True)
                for earlier in self.log_dir.glob("worker_*.log"):  # of a larger fleet: not to be taken for this one's
                    earlier.unlink()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {
            "MS_WORKER_NUM": self.workers,
            "RANK_SIZE": self.workers,
            "MS_SCHED_HOST": "127.0.0.1",
            "MS_SCHED_PORT": port,
            "MS_TOPO_TIMEOUT": CONNECT_SECONDS,
            LAUNCHER_PID: os.getpid(),
            REPORT_FD: self._reporting,
        }
        if not self.log_dir and sys.stdout.isatty():
            common |= {TERMINAL: 1, "COLUMNS": shutil.get_terminal_size().columns}
            self._stack.callback(_print, SHOW_CURSOR)  # the bar of a rank that is killed hides it
        scheduler_log = self.log_dir and self.log_dir / "scheduler.log"
        self._scheduler, _ = self._start(command, scheduler_log, {**common, "MS_ROLE": "MS_SCHED", "RANK_ID": 0})
        for rank in range(self.workers):
            own = {"MS_ROLE": "MS_WORKER", "MS_NODE_ID": rank, "RANK_ID": rank, "DEVICE_ID": rank}
            self.ranks[rank], self.outputs[rank] = self._start(command, self.log(rank), {**common, **own})

    def _start(
        self, command: list[str], log: Path | None, variables: dict[str, object]
    ) -> tuple[psutil.Popen, BinaryIO]:
        """Start a process in a session of its own: a terminal's Ctrl-C must reach it only through here.

        Returns the process, and what it prints.
        """
        inherited = {name: value for name, value in os.environ.items() if name not in ("MS_NODE_ID", TERMINAL)}
        with _storing(log or "the workers' output"):
            written, read = _output(log)
        with written:
            process = psutil.Popen(
                command,
                env=inherited | {name: str(value) for name, value in variables.items()},
                stdout=written,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                pass_fds=[self._reporting],
                start_new_session=True,
            )
        self._processes.append(process)
        return process, read

    def deliver(self) -> None:
        """Give the ranks the signals they have not had yet."""
        for rank, process in self.ranks.items():
            for number in self.received[self._delivered[rank] :]:
                self._delivered[rank] += 1
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def ended(self) -> set[int]:
        """The ranks whose processes have ended."""
        return {rank for rank, process in self.ranks.items() if process.poll() is not None}

    def lost_scheduler(self) -> bool:
        """Whether the scheduler was killed, or failed and the ranks have had time to say why: they meet the same."""
        code = self._scheduler.poll()
        if not code:  # it ends with 0 once the ranks have left
            return False
        self._scheduler_failed_at = self._scheduler_failed_at or time.monotonic()
        return code < 0 or time.monotonic() > self._scheduler_failed_at + SCHEDULER_SECONDS

    def read_reports(self) -> None:
        """Look for exit codes that have come since the last time."""
        with suppress(BlockingIOError):
            for line in os.read(self._reports, 1 << 16).splitlines():
                rank, code = map(int, line.split())
                self.codes[rank] = code


def _output(log: Path | None) -> tuple[BinaryIO, BinaryIO]:
    """A file to write and to read at once: ``log``, or one that has no name any more, and so needs no removal."""
    if log:
        return open(log, "wb"), open(log, "rb")
    handle, name = tempfile.mkstemp(prefix="ganfleet-")
    try:
        return open(handle, "wb"), open(name, "rb")
    finally:
        os.unlink(name)


@contextmanager
def _storing(place: object):
    """Turns an OSError into one that says what to do.

    Raises:
        StorageError: nothing can be written there.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write {place}: {error.strerror or error}. Choose another --log-dir") from error


def _end(processes: list[psutil.Popen]) -> None:
    """Kill ``processes`` and what they have started."""
    family = [*processes]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()  # so that it starts nothing more
            family += process.children(recursive=True)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=10)  # one that the kernel holds for longer ends later
