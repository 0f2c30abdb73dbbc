"""The most memory in use at once: on a card what MindSpore has allocated there, on a CPU the whole process's."""

from contextlib import suppress
from pathlib import Path

import mindspore as ms

PROCESS = Path("/proc/self")


def begin() -> None:
    """Forget the peak there has been."""
    if ms.get_context("device_target") != "CPU":
        ms.runtime.reset_peak_memory_stats()
        return
    with suppress(OSError):  # where that is not allowed, the peak is the process's since its start
        (PROCESS / "clear_refs").write_text("5")


def size() -> int | None:
    """Bytes at the peak since ``begin``; None where the system does not tell."""
    if ms.get_context("device_target") != "CPU":
        return ms.runtime.max_memory_allocated()
    with suppress(OSError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None
