"""What every thread that decodes images does first."""

import contextlib
import os

from ganfleet.fleet import cpu


def leave_pinned_core() -> None:
    """Let this thread run on any core that the process was given: a rank's main thread is pinned to some of them, and
    its threads inherit that."""
    with contextlib.suppress(AttributeError, OSError):  # not Linux, or not allowed: then it stays where it is
        os.sched_setaffinity(0, cpu.allowed())
