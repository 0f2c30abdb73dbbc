"""What must be right before a run can be. Each check is a process of its own, so that none can hang the others.

A check that has not ended in time is killed with all that it has started, and that it did not end is what was found.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import psutil

from ganfleet import __file__ as package
from ganfleet.doctor.finding import FAILURE, Finding, failure
from ganfleet.errors import ConfigError, GanfleetError, PeerLost, StorageError

__all__ = ["CHECKS", "Check", "Finding", "Settings", "alone", "environment", "examine", "worst"]

MAIN = str(Path(package).with_name("__main__.py"))


@dataclass(frozen=True)
class Settings:
    """``run_dir`` is where runs are, ``workers`` the ranks of the all-reduce, ``seconds`` what a check may take."""

    run_dir: Path = Path("runs")
    workers: int = 2
    seconds: float = 120


@dataclass(frozen=True)
class Check:
    """``where`` is the function, as ``module:function``; ``error`` is what a run ends with where it fails. One that
    ``measures`` runs when the others have ended."""

    where: str
    about: str
    error: type[GanfleetError] = ConfigError
    measures: bool = False
    takes: str | None = None  # the setting that is its argument

    def __call__(self, settings: Settings) -> Iterator[Finding]:
        module, _, function = self.where.partition(":")
        arguments = [getattr(settings, self.takes)] if self.takes else []
        yield from getattr(import_module(f"ganfleet.doctor.{module}"), function)(*arguments)


CHECKS = {
    "versions": Check("versions:check", "Python, MindSpore, numpy"),
    "device": Check("device:check", "cards, their driver, CANN"),
    "ranks": Check("ranks:check", "left-over variables of launchers, rank tables"),
    "hccl": Check("hccl:check", "HCCL's variables"),
    "ports": Check("machine:ports", "msrun's and HCCL's ports, proxies", PeerLost),
    "memory": Check("machine:memory", "memory and /dev/shm"),
    "limits": Check("machine:limits", "ulimit"),
    "folders": Check(
        "folders:check", "room, permissions and locks of what is written to", StorageError, takes="run_dir"
    ),
    "kernels": Check("machine:kernels", "a compiler and AVX2, for speed on CPUs"),
    "mpi": Check("allreduce:check_mpi", "mpi4py, mpiexec, and an all-reduce through them", measures=True),
    "allreduce": Check("allreduce:check", "an all-reduce between processes", PeerLost, measures=True, takes="workers"),
}


def examine(names: list[str], settings: Settings) -> Iterator[tuple[str, list[Finding]]]:
    """The findings of each check of ``names``, in their order: at least one each, and after ``settings.seconds`` at the
    latest for each that measures, and for all others together."""
    groups = [[name for name in names if not CHECKS[name].measures]]
    groups += [[name] for name in names if CHECKS[name].measures]
    for group in groups:
        started = {name: _start(name, settings) for name in group}
        deadline = time.monotonic() + settings.seconds
        try:
            for name, process in started.items():
                yield name, _found(process, deadline, settings)
        finally:  # Ctrl-C too
            for process in started.values():
                _end(process)


def alone(name: str, settings: Settings) -> list[dict]:
    """The findings of a check in this process, as it hands them to the one that has started it."""
    findings = []
    try:
        findings += CHECKS[name](settings)
    except GanfleetError as error:
        findings.append(failure(str(error), f"do what it says, then ganfleet doctor {name}"))
    return [asdict(finding) for finding in findings]


def _start(name: str, settings: Settings) -> subprocess.Popen:
    options = ["--alone", "--run-dir", str(settings.run_dir), "--workers", str(settings.workers), name]
    return subprocess.Popen(
        [sys.executable, MAIN, "doctor", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,  # a terminal's Ctrl-C is for the process that waits for it
    )


def _found(process: subprocess.Popen, deadline: float, settings: Settings) -> list[Finding]:
    name, again = process.args[-1], f"ganfleet doctor --timeout {2 * settings.seconds:g} {process.args[-1]}"
    try:
        printed, said = process.communicate(timeout=max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return [failure(f"the check did not end within {settings.seconds:g} s", f"{again} gives it more time")]
    with suppress(ValueError, TypeError, IndexError):
        return [Finding(**each) for each in json.loads(printed.splitlines()[-1])]
    code = process.returncode
    ending = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "nothing")
    return [failure(f"the check {ending} and said {last!r}", f"ganfleet doctor --alone {name} shows all of it")]


def _end(process: subprocess.Popen) -> None:
    """Kill a check that still runs, and what it has started. One that the kernel holds is left to it."""
    if process.poll() is not None:
        return
    family = []
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        root.suspend()  # so that it starts nothing more
        family = [root, *root.children(recursive=True)]
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(2)


def worst(found: dict[str, list[Finding]]) -> type[GanfleetError] | None:
    """What a run would end with: the error of the first check that has failed; None if none has."""
    return next(
        (CHECKS[name].error for name, findings in found.items() if any(f.status == FAILURE for f in findings)), None
    )


def environment() -> dict[str, str]:
    """The variables that the checks read, for whoever reads a report of another machine."""
    beginnings = ("HCCL_", "ASCEND_", "MS_", "RANK_", "GLOG_", "OMPI_", "PMI_", "GANFLEET_")
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(beginnings)}
