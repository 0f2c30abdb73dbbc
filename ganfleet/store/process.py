"""Which process is meant by a number: whether it lives, since when, and where its number counts."""

import os
import socket
from contextlib import suppress
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether there is a process ``pid`` here, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        pass
    return True


def started(pid: int) -> str | None:
    """When process ``pid`` started, in ticks since the boot, which no change of the clock moves; None if unknown.

    A process that has died and that nobody has waited for yet has no such time, but "ended".
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return "ended" if fields[0] in "ZX" else fields[19]


def namespace() -> str:
    """Where a process number counts: this host, since this boot, and in a container this container."""
    text = socket.gethostname()
    with suppress(OSError):  # hosts may share a name
        text += Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    return text
