"""Process groups that end with this process, however it ends: what a rank has started may not know that it should."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress

import psutil

# A process that reads the groups' numbers until whoever writes them says that it is done, or is gone.
KEEPER = """
import os, signal, sys
groups = []
for line in sys.stdin:
    if line == "done\\n":
        sys.exit()
    groups.append(int(line))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


class Groups:
    """The groups of processes that were started as leaders of their own, killed if this process is."""

    def __init__(self):
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", KEEPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def add(self, leader: int) -> None:
        self._say(f"{leader}\n")

    def close(self) -> None:
        """They have ended, or may live on."""
        self._say("done\n")
        with suppress(OSError):
            self._keeper.stdin.close()
        self._keeper.wait()

    def _say(self, line: str) -> None:
        with suppress(OSError):  # somebody has killed it: then nobody looks after the groups
            self._keeper.stdin.write(line.encode())
            self._keeper.stdin.flush()


def end(leaders: Iterable[psutil.Popen]) -> None:
    """Kill what is left of the groups of ``leaders``."""
    for leader in leaders:
        if leader.poll() is not None and psutil.pid_exists(leader.pid):
            continue  # another process has its number by now
        with suppress(OSError):
            os.killpg(leader.pid, signal.SIGKILL)
