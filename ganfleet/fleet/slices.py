"""How long a thread computes before another one on its core does.

Each change costs what the cache held. Linux changes after 3 ms by default, by which ranks that share a core lose a
twentieth of their time.
"""

import ctypes
import os
import platform
import struct
import sys

SECONDS = 0.1  # the most that Linux gives
SET = {"x86_64": 314, "aarch64": 274}  # the number of sched_setattr, which Python does not have
ATTRIBUTES = "IIQiIQQQ"  # size, policy, flags, niceness, priority, and runtime, deadline and period in ns


def lengthen() -> None:
    """Have this thread, and those that it starts, compute for ``SECONDS`` at a time, where Linux can do that (6.12).

    Everyone's share of the core stays as it is, and who computes less at a time still comes first.
    """
    number = SET.get(platform.machine())
    if sys.platform != "linux" or number is None or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = (struct.calcsize(ATTRIBUTES), os.SCHED_OTHER, 0, niceness, 0, int(SECONDS * 1e9), 0, 0)
    ctypes.CDLL(None).syscall(number, 0, struct.pack(ATTRIBUTES, *attributes), 0)
