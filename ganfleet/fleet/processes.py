"""The processes of one attempt to run a fleet on this machine: started, given signals, read, and ended.

They are started as msrun starts them, with the same variables; but msrun itself ends with 1 whatever a rank's code was,
waits up to a minute for its scheduler after a failure, takes a rank that leaves early for one that is done, and leaves
its processes behind when it is terminated. With ``mpi`` they are started by mpiexec.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from ganfleet.errors import ConfigError, StorageError
from ganfleet.fleet import groups
from ganfleet.fleet.heartbeat import STARTING, Board
from ganfleet.fleet.launcher import ECHO_SECONDS, HEARTBEAT, LAUNCHER_PID, STACKS, TERMINAL, end_with, host
from ganfleet.fleet.output import Output
from ganfleet.fleet.screen import screen
from ganfleet.fleet.watchdog import Seen

SCHEDULER_SECONDS = 60  # for ranks to end by themselves that have no scheduler any more
CONNECT_SECONDS = 1800  # how long MindSpore lets a rank be late to connect; a rank that dies is noticed by other means
SHOW_CURSOR = b"\x1b[?25h"
STOPS = {signal.SIGTERM: signal.SIGTERM, signal.SIGINT: signal.SIGINT, signal.SIGHUP: signal.SIGTERM}
PASSED_ON = STOPS | {signal.SIGUSR1: signal.SIGUSR1}


class Signals:
    """The signals that reach this process in a ``with`` block, instead of ending it.

    ``stops`` are those that ask it to stop, as the ranks shall get them; the second one came ``interrupted_at``.
    ``saves`` counts those that ask for a checkpoint.
    """

    def __init__(self):
        self.stops: list[int] = []
        self.saves = 0
        self.interrupted_at: float | None = None
        self._stopped_at = 0.0
        self._stack = ExitStack()

    def __enter__(self) -> "Signals":
        for number in PASSED_ON:
            before = signal.getsignal(number)
            if number != signal.SIGHUP or before != signal.SIG_IGN:  # as nohup asks for
                signal.signal(number, self._receive)
                self._stack.callback(signal.signal, number, before)
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    def _receive(self, number, _frame):
        if number not in STOPS:
            self.saves += 1
            return
        now = time.monotonic()
        if not self.stops:
            self._stopped_at = now
        elif self.interrupted_at is None and now - self._stopped_at > ECHO_SECONDS:
            self.interrupted_at = now
        self.stops.append(STOPS[number])


@dataclass(frozen=True)
class Place:
    """Where the processes of one machine stand in their fleet.

    Attributes:
        world_size: ranks on all nodes.
        workers: ranks on this one; ``first`` is the first of them.
        address, port: of MindSpore's scheduler, which is started here if ``has_scheduler``.
        run: the run that an attempt before has begun, which this one goes on with.
    """

    world_size: int
    workers: int
    address: str
    port: int
    first: int = 0
    has_scheduler: bool = True
    run: str | None = None

    @property
    def ranks(self) -> range:
        return range(self.first, self.first + self.workers)


class Family:
    """The ranks of this machine and MindSpore's scheduler, none of which outlives a ``with`` block."""

    def __init__(self, place: Place, command: list[str], log_dir: Path | None, backend: str, again: bool = False):
        """``again``: it is not the first in this ``log_dir``, whose files then grow."""
        self.place, self._log_dir, self._again = place, log_dir, again
        self._command, self._is_mpi = command, backend == "mpi"
        self._ranks: dict[int, psutil.Process] = {}
        self._outputs: dict[int, Output] = {}  # of ranks; under mpiexec it is one
        self._all_outputs: list[Output] = []
        self._scheduler: psutil.Popen | None = None
        self._scheduler_failed_at: float | None = None
        self._processes: list[psutil.Popen] = []
        self._stops: Counter[int] = Counter()  # given to ranks
        self._saves: Counter[int] = Counter()

    def __enter__(self) -> "Family":
        """Start them.

        Raises:
            StorageError: there is no place for their output.
            ConfigError: there is no mpiexec.
        """
        with ExitStack() as stack:
            self._stack = stack
            self._board = Board(self.place.world_size)
            stack.callback(self._board.close)
            stack.callback(self._close_outputs)
            self._groups = groups.Groups()
            stack.callback(self._groups.close)
            stack.callback(_end, self._processes)
            if self._log_dir:
                self._clear_logs()
            if self._is_mpi:
                self._start_mpi()
            else:
                self._start_as_msrun()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    # ── Starting

    def _start_as_msrun(self) -> None:
        place = self.place
        common = {
            "MS_WORKER_NUM": place.world_size,
            "RANK_SIZE": place.world_size,
            "MS_SCHED_HOST": place.address,
            "MS_SCHED_PORT": place.port,
            "MS_TOPO_TIMEOUT": CONNECT_SECONDS,
            LAUNCHER_PID: os.getpid(),
        }
        if place.has_scheduler:
            log = self._log_dir and self._log_dir / "scheduler.log"
            own = {"MS_ROLE": "MS_SCHED", "RANK_ID": 0}
            self._scheduler, _ = self._start(self._command, log, {**common, **own})
        common[HEARTBEAT] = f"/dev/fd/{self._board.handle}"
        if not self._log_dir and sys.stdout.isatty():
            common |= {TERMINAL: 1, "COLUMNS": shutil.get_terminal_size().columns}
            self._stack.callback(screen.show, SHOW_CURSOR)  # the bar of a rank that is killed hides it
        for rank in place.ranks:
            own = {"MS_ROLE": "MS_WORKER", "MS_NODE_ID": rank, "RANK_ID": rank, "DEVICE_ID": rank - place.first}
            self._ranks[rank], self._outputs[rank] = self._start(self._command, self.log(rank), {**common, **own})

    def _start_mpi(self) -> None:
        beside = Path(sys.executable).with_name("mpiexec")
        mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
        if mpiexec is None:
            raise ConfigError(
                "--backend mpi needs mpiexec, which is not on the PATH: pip install 'ganfleet[mpi]' mpich"
            )
        python, *words = self._command
        command = [mpiexec, "-n", str(self.place.world_size), python, "-m", "mpi4py", *words]
        # They are no children of this process, so that no handle of its own reaches them.
        variables = {HEARTBEAT: f"/proc/{os.getpid()}/fd/{self._board.handle}"}
        process, output = self._start(command, self.log(0), variables, ends_with_this=True)
        self._outputs = dict.fromkeys(self.place.ranks, output)  # all that they print is one output
        self._ranks = dict.fromkeys(self.place.ranks, process)

    def _start(
        self, command: list[str], log: Path | None, variables: dict[str, object], ends_with_this: bool = False
    ) -> tuple[psutil.Popen, Output]:
        """Start a process in a session of its own: a terminal's Ctrl-C must reach it only through here."""
        inherited = {name: value for name, value in os.environ.items() if name not in ("MS_NODE_ID", TERMINAL)}
        with _storing(log or "the workers' output"):
            output = Output(log)
        self._all_outputs.append(output)
        try:
            process = psutil.Popen(
                command,
                env=inherited | {name: str(value) for name, value in variables.items()},
                stdout=output.handle,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                pass_fds=[self._board.handle],
                start_new_session=True,
                preexec_fn=partial(end_with, os.getpid(), signal.SIGKILL) if ends_with_this else None,
            )
        finally:
            output.started()
        self._processes.append(process)
        self._groups.add(process.pid)
        return process, output

    def _clear_logs(self) -> None:
        with _storing(self._log_dir):
            self._log_dir.mkdir(parents=True, exist_ok=True)
            if not self._again:
                # Not to be added to, and those of a larger fleet not to be taken for this one's.
                for earlier in self._log_dir.glob("*.log"):
                    if earlier.stem == "scheduler" or earlier.stem.startswith("worker_"):
                        earlier.unlink()

    # ── What they say

    @property
    def run(self) -> str | None:
        """The run directory, once it is known."""
        return self._board.run

    def log(self, rank: int) -> Path | None:
        """The file that keeps what a rank prints, if one does."""
        return self._log_dir and self._log_dir / f"worker_{rank}.log"

    def seen(self) -> dict[int, Seen]:
        """Each rank of this machine."""
        return {rank: self._seen(rank) for rank in self.place.ranks}

    def _seen(self, rank: int) -> Seen:
        process = self._process(rank)
        code = process.poll() if isinstance(process, psutil.Popen) else None if process.is_running() else 1
        killed = signal.Signals(-code).name if code is not None and code < 0 else None
        stopped = False
        if code is None:
            with suppress(psutil.NoSuchProcess):
                stopped = process.status() == psutil.STATUS_STOPPED
        # Read last: a rank tells its code, then ends.
        return Seen(host(), self._board.read(rank), stopped, code is not None, killed)

    def _process(self, rank: int) -> psutil.Process:
        """The process of a rank; that of mpiexec until its rank has told which it is."""
        if self._is_mpi and isinstance(self._ranks[rank], psutil.Popen):
            pid = self._board.read(rank).pid
            with suppress(psutil.NoSuchProcess):
                self._ranks[rank] = psutil.Process(pid) if pid else self._ranks[rank]
        return self._ranks[rank]

    def listen(self) -> list[str]:
        """Take what the processes have printed, which they wait for once much of it has not been taken; warnings."""
        for output in self._all_outputs:
            output.read()
        return [warning for output in self._all_outputs if (warning := output.warning())]

    def news(self, rank: int) -> bytes:
        """What a rank has printed since the last time, without what MindSpore's libraries say as they unload."""
        lines = self._outputs[rank].news().splitlines(keepends=True)
        return b"".join(line for line in lines if not line.startswith(b"[INFO] DISTRIBUTED("))

    def printed(self, rank: int) -> list[str]:
        """The last lines that a rank has printed."""
        return self._outputs[rank].lines()

    def _close_outputs(self) -> None:
        self.listen()  # to what came while the processes ended
        for output in self._all_outputs:
            output.close()

    def lost_scheduler(self) -> str | None:
        """What ended the scheduler, if it was killed, or failed and the ranks have had time to say why: they meet the
        same."""
        code = self._scheduler.poll() if self._scheduler else None
        if not code:  # it ends with 0 once the ranks have left
            return None
        self._scheduler_failed_at = self._scheduler_failed_at or time.monotonic()
        if code < 0:
            return f" (killed by {signal.Signals(-code).name})"
        return " before them" if time.monotonic() > self._scheduler_failed_at + SCHEDULER_SECONDS else None

    # ── What they are told

    def deliver(self, signals: Signals) -> None:
        """Give the ranks the signals they have not had yet."""
        for rank in self.place.ranks:
            for number in signals.stops[self._stops[rank] :]:
                self._stops[rank] += 1
                self._send(rank, number)
                self._send(rank, signal.SIGCONT)  # it may be stopped, and would not see the other one
            if self._board.read(rank).state != STARTING:  # before, the signal would end it
                if signals.saves > self._saves[rank]:
                    self._send(rank, signal.SIGUSR1)
                self._saves[rank] = signals.saves

    def stacks(self, seconds: float) -> dict[int, list[str]]:
        """What each rank is doing, line by line. Ranks that a signal has stopped go on for this: they shall end."""
        self.listen()
        before = {rank: self._outputs[rank].size for rank in self.place.ranks}
        for rank in self.place.ranks:
            if self._board.read(rank).pid:  # before, the signal would end it
                self._send_to_main_thread(rank, STACKS)
                self._send(rank, signal.SIGCONT)
        time.sleep(seconds)
        self.listen()
        return {rank: self._outputs[rank].lines(since=before[rank]) for rank in self.place.ranks}

    def _send(self, rank: int, number: int) -> None:
        with suppress(psutil.NoSuchProcess):
            self._process(rank).send_signal(number)

    def _send_to_main_thread(self, rank: int, number: int) -> None:
        """So that it shows where it was stopped: when a stopped process goes on, any of its threads may take a signal
        to the whole of it, and the main one may be somewhere else by then."""
        process, tgkill = self._process(rank), getattr(ctypes.CDLL(None), "tgkill", None)
        if tgkill is None:  # glibc before 2.30
            self._send(rank, number)
        elif process.is_running():
            tgkill(process.pid, process.pid, int(number))


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
    """Kill ``processes`` and what they have started, and what those had started that have ended."""
    family = [*processes]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.suspend()  # so that it starts nothing more
            family += process.children(recursive=True)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    groups.end(processes)
    psutil.wait_procs(family, timeout=10)  # one that the kernel holds for longer ends later
