"""Start a fleet on this machine through msrun, pass signals on, and end with the exit code of the rank that failed.

msrun itself ends with 1 whatever a rank's code was, waits up to a minute for its scheduler after a failure, takes a
rank that leaves early for one that is done, and leaves its processes behind when it is terminated; here none of that
reaches the user.
"""

import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

from ganfleet.errors import PeerLost, Stopped
from ganfleet.fleet.launcher import EXIT_DIR

POLL_SECONDS = 0.2
GRACE_SECONDS = 5  # for the others to fail alike, once a rank has failed
TAIL_LINES = 60


def launch(workers: int, script: str, args: list[str], log_dir: Path) -> int:
    """Run ``script args`` on ``workers`` ranks of this machine, showing rank 0's output; the fleet's exit code.

    Each rank's whole output is in ``log_dir/worker_N.log``; where a rank fails alone, the end of it is shown. SIGTERM
    and SIGINT go on to the ranks, which stop after their step; no process is left when this returns.

    Raises:
        PeerLost: a rank ended without an exit code of its own, killed for instance.
        Stopped: a signal came before the ranks could take it.
    """
    for earlier in log_dir.glob("worker_*.log"):  # of an earlier fleet: not to be shown as this one's
        earlier.unlink()
    with tempfile.TemporaryDirectory() as exit_dir:
        with _Family() as family:
            with open(log_dir / "msrun.log", "wb") as log:
                family.start(
                    _command(workers, script, args, log_dir),
                    env={**os.environ, EXIT_DIR: exit_dir, "PATH": _path()},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            with open(log_dir / "worker_0.log", "a+b") as output:
                output.seek(0)
                lost = _watch(family, workers, Path(exit_dir), output)
        codes = _exit_codes(Path(exit_dir))
    failed = [rank for rank, code in codes.items() if code]
    if failed:
        if not codes.get(0):
            log = log_dir / f"worker_{failed[0]}.log"
            _show_end(log, f"rank {failed[0]} ended with {codes[failed[0]]}")
        return codes[failed[0]]
    lost = sorted(lost or set(range(workers)) - codes.keys())
    if lost and family.received:
        raise Stopped("stopped by a signal; start again")
    if lost:
        log = log_dir / (f"worker_{lost[0]}.log" if family.ranks else "msrun.log")
        if lost[0] and log.exists():
            _show_end(log, f"rank {lost[0]} was lost")
        raise PeerLost(
            f"rank {', '.join(map(str, lost))} ended without an exit code, see {log}; "
            "start the run again to go on from its last checkpoint"
        )
    return 0


def _watch(family: "_Family", workers: int, exit_dir: Path, output) -> set[int]:
    """Show ``output`` until every rank has ended, or one has failed and the others had their time.

    Returns the ranks that were the first to end, if they left no exit code.
    """
    deadline, lost = math.inf, set()
    while family.running() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        family.update()
        _show(output)
        ended = family.ended()  # before the codes are read: a rank leaves its code, then ends
        codes = _exit_codes(exit_dir)
        lost = ended - codes.keys()
        if lost or len(ended) == workers or (family.received and not family.ranks):
            break
        if any(codes.values()):
            deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
    _show(output)
    return lost


def _command(workers: int, script: str, args: list[str], log_dir: Path) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    msrun = [sys.executable, "-m", "mindspore.parallel.cluster.run", f"--worker_num={workers}"]
    msrun += [f"--local_worker_num={workers}", f"--master_port={port}", f"--log_dir={log_dir}", "--join=True"]
    return [*msrun, "--cluster_time_out=120", script, *args]


def _path() -> str:
    """PATH with this Python first: msrun starts ranks with whatever ``python`` it finds."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _exit_codes(exit_dir: Path) -> dict[int, int]:
    """The exit codes by rank, in the order in which they came."""
    left = sorted(exit_dir.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return {int(path.name): int(text) for path in left if (text := path.read_text())}


def _show(output) -> None:
    """Pass on what rank 0 has printed since the last time, without what MindSpore's libraries say as they unload."""
    sys.stdout.buffer.writelines(line for line in output.readlines() if not line.startswith(b"[INFO] DISTRIBUTED("))
    sys.stdout.flush()


def _show_end(log: Path, ending: str) -> None:
    """What a rank other than 0 had to say at its end."""
    lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    print(*lines, f"ganfleet: {ending}; all it printed is in {log}", sep="\n", file=sys.stderr)


class _Family:
    """msrun and everything it started, found while it lives so that none outlives it.

    ``ranks`` are the processes of the ranks by number. SIGTERM and SIGINT that reach this process are in ``received``
    and go on to every rank, and to nothing else.
    """

    def __init__(self):
        self.ranks: dict[int, psutil.Process] = {}
        self.received: list[int] = []
        self._msrun: psutil.Popen | None = None
        self._members: dict[int, psutil.Process] = {}
        self._delivered: Counter[int] = Counter()  # signals, by rank

    def __enter__(self):
        numbers = (signal.SIGTERM, signal.SIGINT)
        self._handlers = {n: signal.signal(n, lambda number, _: self.received.append(number)) for n in numbers}
        return self

    def __exit__(self, *_):
        if self._msrun:
            with suppress(psutil.NoSuchProcess):
                self._msrun.suspend()  # so that it starts nothing more
            self.update()
            family = [self._msrun, *self._members.values()]
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, timeout=10)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def start(self, command: list[str], **options) -> None:
        """Start msrun, in a session of its own: a terminal's Ctrl-C must reach the ranks only through here."""
        self._msrun = psutil.Popen(command, start_new_session=True, **options)

    def running(self) -> bool:
        return self._msrun.poll() is None

    def update(self) -> None:
        """Look for new members, and give the ranks the signals they have not had yet."""
        with suppress(psutil.NoSuchProcess):
            self._members |= {process.pid: process for process in self._msrun.children(recursive=True)}
        for process in self._members.values():
            rank = _rank_of(process, self._msrun.pid)
            if rank is not None:
                self.ranks.setdefault(rank, process)
        for rank, process in self.ranks.items():
            for number in self.received[self._delivered[rank] :]:
                self._delivered[rank] += 1
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def ended(self) -> set[int]:
        """The ranks whose processes have ended."""
        return {rank for rank, process in self.ranks.items() if _has_ended(process)}


def _rank_of(process: psutil.Process, msrun: int) -> int | None:
    """The rank that ``process`` is; None for msrun's scheduler and helpers, and for what a rank itself starts.

    The latter have a rank's environment too, and live for moments: one of them taken for the rank looks like its end.
    """
    with suppress(psutil.Error):
        environ = process.environ()
        if environ.get("MS_ROLE") == "MS_WORKER" and process.name() != "tail" and process.ppid() == msrun:
            return int(environ["RANK_ID"])
    return None


def _has_ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
