"""What the launcher (msrun, mpiexec, or none) says through the environment, before anything connects."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

EXIT_DIR = "GANFLEET_EXIT_DIR"  # where ranks started by fleet.msrun leave their exit codes
MPI_VARIABLES = (  # size, rank, rank within the node
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID"),
)


@dataclass(frozen=True)
class Launcher:
    """``kind`` is msrun, mpi or none. ``rank`` is None where msrun assigns it only when the fleet connects."""

    kind: str = "none"
    world_size: int = 1
    rank: int | None = 0
    local_rank: int = 0
    is_scheduler: bool = False

    @property
    def speaks(self) -> bool:
        """Whether this process is the one to report an error that every process meets alike."""
        return not self.is_scheduler and self.rank in (0, None)

    @property
    def prefix(self) -> str:
        """What goes before a message of this rank alone."""
        return "" if self.world_size == 1 else f"rank {self.rank}: "

    def report_exit(self, code: int) -> None:
        """Leave this rank's exit code for ``ganfleet train --workers``, if that is what started it."""
        if EXIT_DIR in os.environ and not self.is_scheduler:
            Path(os.environ[EXIT_DIR], str(self.rank)).write_text(str(code))


def detect(environ: Mapping[str, str] = os.environ) -> Launcher:
    """Read the launcher's variables; a process started by hand is a fleet of one."""
    if "MS_ROLE" in environ:
        rank = environ.get("RANK_ID")
        return Launcher(
            kind="msrun",
            world_size=int(environ["MS_WORKER_NUM"]),
            rank=int(rank) if rank else None,
            local_rank=int(environ.get("DEVICE_ID", 0)),
            is_scheduler=environ["MS_ROLE"] == "MS_SCHED",
        )
    for size, rank, local_rank in MPI_VARIABLES:
        if size in environ:
            rank = int(environ[rank])
            return Launcher("mpi", int(environ[size]), rank, int(environ.get(local_rank, rank)))
    return Launcher()
