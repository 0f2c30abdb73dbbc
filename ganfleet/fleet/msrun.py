"""Start a fleet on this machine through msrun, pass signals on, and end with the exit code of the rank that failed.

msrun itself ends with 1 whatever a rank's code was, waits up to a minute for its scheduler after a failure, and
leaves its processes behind when it is terminated; here none of that reaches the user.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from ganfleet.errors import PeerLost
from ganfleet.fleet.launcher import EXIT_DIR

POLL_SECONDS = 0.2


def launch(workers: int, script: str, args: list[str], log_dir: Path) -> int:
    """Run ``script args`` on ``workers`` ranks of this machine, showing rank 0's output; the fleet's exit code.

    Each rank's whole output is in ``log_dir/worker_N.log``. SIGTERM and SIGINT go on to the ranks, which stop after
    their step; no process is left when this returns.

    Raises:
        PeerLost: a rank ended without an exit code of its own, killed for instance.
    """
    with tempfile.TemporaryDirectory() as exit_dir:
        with open(log_dir / "msrun.log", "wb") as log:
            msrun = psutil.Popen(
                _command(workers, script, args, log_dir),
                env={**os.environ, EXIT_DIR: exit_dir, "PATH": _path()},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        with _Family(msrun) as family, open(log_dir / "worker_0.log", "a+b") as output:
            output.seek(0)
            family.pass_signals_on()
            while msrun.poll() is None and not any(_exit_codes(exit_dir).values()):
                family.update()
                _show(output)
                time.sleep(POLL_SECONDS)
            family.wait_for_ranks()
            _show(output)
        codes = _exit_codes(exit_dir)
    for rank, code in sorted(codes.items()):
        if code:
            if rank != 0:
                print(f"ganfleet: rank {rank} ended with {code}, see {log_dir}/worker_{rank}.log", file=sys.stderr)
            return code
    missing = sorted(set(range(workers)) - codes.keys())
    if missing:
        raise PeerLost(
            f"rank {', '.join(map(str, missing))} ended without an exit code, see {log_dir}/worker_{missing[0]}.log; "
            "start the run again to go on from its last checkpoint"
        )
    return 0


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


def _exit_codes(exit_dir: str) -> dict[int, int]:
    return {int(path.name): int(text) for path in Path(exit_dir).iterdir() if (text := path.read_text())}


def _show(output) -> None:
    sys.stdout.buffer.write(output.read())
    sys.stdout.flush()


class _Family:
    """msrun and everything it started, found while it lives so that none outlives it."""

    def __init__(self, msrun: psutil.Popen):
        self._msrun = msrun
        self._members: dict[int, psutil.Process] = {}
        self._handlers: dict[int, object] = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self.update()
        for process in [self._msrun, *self._members.values()]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs([self._msrun, *self._members.values()], timeout=10)

    def update(self) -> None:
        """Look for new members."""
        with suppress(psutil.NoSuchProcess):
            self._members |= {process.pid: process for process in self._msrun.children(recursive=True)}

    def pass_signals_on(self) -> None:
        """SIGTERM and SIGINT that reach this process go to every rank, and to nothing else."""
        self._handlers = {number: signal.signal(number, self._pass_on) for number in (signal.SIGTERM, signal.SIGINT)}

    def wait_for_ranks(self, seconds: float = 15) -> None:
        """Give ranks that are ending alike the time to do so."""
        psutil.wait_procs(self._ranks(), timeout=seconds)

    def _pass_on(self, number, _frame):
        self.update()
        for rank in self._ranks():
            with suppress(psutil.NoSuchProcess):
                rank.send_signal(number)

    def _ranks(self) -> list[psutil.Process]:
        return [process for process in self._members.values() if _is_rank(process)]


def _is_rank(process: psutil.Process) -> bool:
    try:
        return process.environ().get("MS_ROLE") == "MS_WORKER" and process.name() != "tail"
    except psutil.Error:
        return False
