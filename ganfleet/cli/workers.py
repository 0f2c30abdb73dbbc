"""What ``--workers`` and ``ganfleet launch`` do: start a fleet, whose ranks run a command of ganfleet's."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ganfleet.errors import ConfigError

if TYPE_CHECKING:
    from ganfleet.fleet.supervisor import Settings

BYTES_PER_RANK = 2**30 // 4  # of a rank's own, before it has a network: Python and MindSpore


def start(workers: int, words: list[str], log_dir: Path | None = None) -> int:
    """Run ``ganfleet`` with ``words`` in ``workers`` processes, which say what is wrong with these; the exit code.

    Raises:
        GanfleetError: as ``launch`` does.
    """
    from ganfleet.fleet.supervisor import Settings

    return launch(Settings(workers, log_dir=log_dir), words, "--workers")


def launch(settings: "Settings", words: list[str], what: str) -> int:
    """Run ``ganfleet`` with ``words`` in the processes of a fleet; the exit code. ``what`` asks for it.

    Raises:
        ConfigError: a launcher has started this process as one rank already, or there is no memory for so many.
        GanfleetError: see ``supervisor.launch``.
    """
    import psutil

    from ganfleet import __file__ as package
    from ganfleet.fleet import launcher, supervisor

    started = launcher.detect()
    if started.kind != "none":
        raise ConfigError(
            f"{what} starts ranks of its own, but {started.sign} says that a launcher has started this process as "
            f"one: leave out {what}, or unset {started.sign}"
        )
    room = psutil.virtual_memory().available // BYTES_PER_RANK
    if settings.workers > max(room, 1):
        raise ConfigError(
            f"{what} {settings.workers}: this machine has memory for {room} ranks, of which each takes "
            f"{BYTES_PER_RANK / 2**30:g} GiB or more: start so many at most"
        )
    script = str(Path(package).with_name("__main__.py"))
    return supervisor.launch(settings, [sys.executable, script, *words])
