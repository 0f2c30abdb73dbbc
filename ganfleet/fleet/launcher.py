"""What the launcher (msrun, mpiexec, or none) says through the environment, and which process tells an error."""

import ctypes
import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ganfleet.errors import ConfigError, GanfleetError
from ganfleet.fleet import heartbeat

LAUNCHER_PID = "GANFLEET_LAUNCHER_PID"  # the process in which fleet.processes has started this one
HEARTBEAT = "GANFLEET_HEARTBEAT"  # where this one tells it what it is doing, and its exit code; see fleet.heartbeat
TERMINAL = "GANFLEET_TERMINAL"  # 1 if that process shows this one's output on a terminal
STACKS = signal.SIGUSR2  # has a rank print what each of its threads is doing
ECHO_SECONDS = 0.5  # a second signal that follows so soon is an echo of the first one, not a second wish
MPI_VARIABLES = (("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"), ("PMI_SIZE", "PMI_RANK"))  # size, rank
MPI_LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")


@dataclass(frozen=True)
class Launcher:
    """``kind`` is msrun, mpi or none. A rank that only the connecting fleet will know, and a rank within the node that
    nobody tells, are None."""

    kind: str = "none"
    world_size: int = 1
    rank: int | None = 0
    local_rank: int | None = 0
    is_scheduler: bool = False
    connected: bool = False

    @property
    def sign(self) -> str:
        """The variable that says that there is a launcher."""
        return "MS_ROLE" if self.kind == "msrun" else next(size for size, _ in MPI_VARIABLES if size in os.environ)

    @property
    def speaks(self) -> bool:
        """Whether this process is the one to tell what every rank meets."""
        if self.is_scheduler:
            return False
        return self.rank == 0 if self.rank is not None else not self.local_rank

    @property
    def prefix(self) -> str:
        """What goes before a message that is this rank's alone; nothing for rank 0."""
        if self.rank == 0:
            return ""
        name = f"rank {self.rank}" if self.rank is not None else f"process {os.getpid()}"
        return f"{name} on {host()}: "

    def telling(self, error: GanfleetError) -> str | None:
        """``error`` in the words of this process; None where it leaves the telling to another.

        Until the fleet has connected nobody knows who else met the error: one rank of each node tells it. Afterwards
        it is told by rank 0 if every rank must have met it, by those that agreed on it (see ``Fleet.agree``), and else
        by whoever met it.
        """
        if self.is_scheduler:
            return None
        if error.told_by is not None:
            return str(error) if self.rank in error.told_by else None
        if error.met_by_all:
            return str(error) if self.speaks else None
        if error.met_by_all is None and not self.connected and self.local_rank:
            return None
        return f"{self.prefix}{error}"

    def report_exit(self, code: int) -> None:
        """Tell ``ganfleet launch`` this rank's exit code, if that is what started it."""
        if heartbeat.is_watched():
            sys.stdout.flush()  # a rank that does not end by itself is ended
            heartbeat.tell_code(code)


def host() -> str:
    """The name of this machine, as messages give it."""
    return socket.gethostname()


_rank: int | None = None  # in the connected fleet
_has_connected = False
_followed: int | None = None  # the launcher that this process ends with
_is_waited_for = False  # by msrun, which tells its ranks nothing
_PR_SET_PDEATHSIG = 1


def follow() -> None:
    """End when the launcher ends, however that happens, if it waits for this process; to be called first.

    ``fleet.processes`` waits, and msrun with --join=True, which would leave its processes behind. What this process
    starts is no rank, and does not find the variables.
    """
    parent, board = (os.environ.pop(name, None) for name in (LAUNCHER_PID, HEARTBEAT))
    if board is not None:
        heartbeat.attach(board, _read(os.environ).rank)
        faulthandler.register(STACKS, chain=False)
    if parent is not None:
        end_with(int(parent), signal.SIGKILL)
    elif "MS_ROLE" in os.environ and _is_waiting_msrun(parent := os.getppid()):
        global _is_waited_for
        _is_waited_for = True
        end_with(parent, signal.SIGKILL)


def end_with_msrun_by(number: signal.Signals) -> None:
    """Have this process get the signal ``number`` when the msrun that waits for it ends; nothing under other launchers.

    SIGTERM leaves a rank time for a checkpoint, once all of them can agree on a step. Before and after, a rank that
    has left by itself would be waited for in a collective, where Python sees no signal: only SIGKILL ends that.
    """
    if _is_waited_for and not is_abandoned():
        end_with(_followed, number)


def is_abandoned() -> bool:
    """Whether the launcher that this process follows has ended."""
    return _followed is not None and os.getppid() != _followed


def end_with(parent: int, number: signal.Signals) -> None:
    """Have this process get the signal ``number`` when the process ``parent`` ends, or at once if it has."""
    global _followed
    _followed = parent
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it has ended before this took effect
        os.kill(os.getpid(), number)


def _is_waiting_msrun(pid: int) -> bool:
    """Whether this process is an msrun that ends after its ranks; without --join=True it ends before them."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:  # it is gone, or there is no /proc
        return False
    return any(Path(word).name == "msrun" for word in words[:2]) and "--join=True" in " ".join(words).replace(
        "--join True", "--join=True"
    )


def on_terminal() -> bool:
    """Whether what this rank prints goes through ``ganfleet launch`` to a terminal."""
    return os.environ.get(TERMINAL) == "1"


def connected(rank: int | None) -> None:
    """Remember this process's rank in the fleet that has connected; None once it has left it."""
    global _rank, _has_connected
    _rank = rank
    _has_connected = True


def has_connected() -> bool:
    """Whether this process is or was one of several that a launcher has started and that have found each other."""
    return _has_connected


def detect(environ: Mapping[str, str] | None = None) -> Launcher:
    """Read the launcher's variables; a process started by hand is a fleet of one.

    By default they are this process's own, and what the fleet has told since it connected counts too.

    Raises:
        ConfigError: variables that no launcher leaves so; it names them.
    """
    if environ is not None:
        return _read(environ)
    found = _read(os.environ)
    return found if _rank is None else replace(found, rank=_rank, connected=True)


def contradiction() -> ConfigError | None:
    """What is wrong with the variables by which ``detect`` would tell the launcher, if something is."""
    try:
        detect()
    except ConfigError as error:
        return error
    return None


def _read(environ: Mapping[str, str]) -> Launcher:
    if "MS_ROLE" in environ:
        world_size = _number(environ, "MS_WORKER_NUM", "MS_ROLE")
        # RANK_ID is no help: without --node_rank, msrun's workers on the first node inherit its scheduler's 0.
        rank = _number(environ, "MS_NODE_ID", "MS_ROLE") if environ.get("MS_NODE_ID", "").isdigit() else None
        local_rank = _number(environ, "DEVICE_ID", "MS_ROLE") if "DEVICE_ID" in environ else None
        started = Launcher("msrun", world_size, rank, local_rank, is_scheduler=environ["MS_ROLE"] == "MS_SCHED")
        return replace(started, rank=0, local_rank=0) if started.is_scheduler else started
    for size, rank in MPI_VARIABLES:
        if size in environ:
            local = [name for name in MPI_LOCAL_RANKS if name in environ]
            local_rank = _number(environ, local[0], size) if local else None
            return Launcher("mpi", _number(environ, size, size), _number(environ, rank, size), local_rank)
    return Launcher()


def _number(environ: Mapping[str, str], name: str, sign: str) -> int:
    """The number in the variable ``name``, which must be there because ``sign`` is."""
    if environ.get(name, "").isdecimal():
        return int(environ[name])
    found = f"{name} is {environ[name]!r}" if name in environ else f"{name} is not set"
    raise ConfigError(
        f"the variable {sign} says that a launcher has started this process, but {found}: start it through msrun or "
        f"mpiexec, or unset {sign}"
    )
