"""Start real fleets from a test: msrun, mpiexec, or a lone process, and what they leave behind."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from ganfleet.store import checkpoint

REPOSITORY = Path(__file__).parent.parent
# For tests that start a fleet: on one worker, none waits for another's.
one_at_a_time = pytest.mark.xdist_group("fleets")
SCRIPT = str(REPOSITORY / "launch" / "train.py")
BIN = Path(sys.executable).parent


@dataclass
class Ended:
    """An ended command: its exit code and everything it printed."""

    code: int
    output: str


def alone(*arguments: str) -> list[str]:
    return [sys.executable, SCRIPT, *arguments]


def workers(count: int, *arguments: str) -> list[str]:
    """Through ``ganfleet train --workers``, which starts msrun and ends with the failing rank's code."""
    return [str(BIN / "ganfleet"), "train", "--workers", str(count), *arguments]


def msrun(count: int, logs: Path, *arguments: str) -> list[str]:
    fleet = [f"--worker_num={count}", f"--local_worker_num={count}", f"--master_port={free_port()}"]
    fleet += [f"--log_dir={logs}", "--join=True", "--cluster_time_out=180"]
    return [str(BIN / "msrun"), *fleet, SCRIPT, *arguments]


def mpiexec(count: int, *arguments: str) -> list[str]:
    return [str(BIN / "mpiexec"), "-n", str(count), sys.executable, "-m", "mpi4py", SCRIPT, *arguments]


def run(command: list[str], cwd: Path, timeout: float = 300) -> Ended:
    """Run ``command`` to its end and fail if it leaves a process behind."""
    process = start(command, cwd)
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"{command} hangs; it printed:\n{process.communicate()[0]}") from None
    finally:
        left = survivors(cwd)
        for survivor in left:
            survivor.kill()
    assert not left, f"{command} left {left}"
    return Ended(process.returncode, output)


_started: list[subprocess.Popen] = []


def start(command: list[str], cwd: Path) -> subprocess.Popen:
    """Start ``command`` in ``cwd``, in a session of its own, free to use all cores.

    Waits until no other worker's tests run a fleet: two would take each other's cores, and time limits are for one.
    """
    with open(Path(tempfile.gettempdir(), f"ganfleet-tests-{os.getuid()}.lock"), "w") as lock:
        # The command inherits the lock, and gives it back when it ends, however that is.
        alone_here = all(process.poll() is not None for process in _started)
        if alone_here:
            fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},  # msrun starts ranks with this python
            preexec_fn=_as_from_a_terminal,
            pass_fds=[lock.fileno()] if alone_here else [],
        )
    _started.append(process)
    return process


def _as_from_a_terminal() -> None:
    """Free to use all cores, and with SIGHUP at work, which nohup around the tests would have switched off."""
    os.sched_setaffinity(0, range(os.cpu_count()))
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for ``condition``; fail where it does not come about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} seconds in vain"
        time.sleep(0.01)


def survivors(cwd: Path, seconds: float = 5) -> list[psutil.Process]:
    """The processes still at work in ``cwd`` after a moment's grace."""
    found = [process for process in psutil.process_iter() if _works_in(process, cwd)]
    return psutil.wait_procs(found, timeout=seconds)[1]


def digest(run_dir: Path) -> dict[str, str]:
    """The digests of a run's newest checkpoint, by component."""
    return checkpoint.digest(newest(run_dir))


def newest(run_dir: Path) -> checkpoint.Snapshot:
    """A run's newest checkpoint."""
    path, damaged = checkpoint.newest_valid(run_dir / "checkpoints")
    assert not damaged
    return checkpoint.load(path)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _works_in(process: psutil.Process, cwd: Path) -> bool:
    try:
        return process.pid != os.getpid() and Path(process.cwd()) == cwd and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False
