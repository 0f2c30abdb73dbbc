"""``history.jsonl``: a line when a process begins a run or goes on with it, and one when it ends it.

A start that no end follows was killed, or still runs. Unlike the log, nothing in it is taken back on a resume.
"""

import os
import platform
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from ganfleet import __version__
from ganfleet.clock import Clock
from ganfleet.errors import GanfleetError
from ganfleet.observe.log import JsonLog

FILE = "history.jsonl"


class History:
    """That of the run in the folder ``directory``. Only rank 0 has it.

    Both methods raise StorageError where the file cannot be written.
    """

    def __init__(self, directory: Path):
        self._log = JsonLog(Path(directory) / FILE)
        self._began = time.monotonic()

    def started(self, clock: Clock, **facts: Any) -> None:
        """This process begins at ``clock``; ``facts`` are what the caller knows of the fleet, plain values by name."""
        self._write("start", clock, ganfleet=__version__, **facts, **environment())

    def ended(self, clock: Clock, error: BaseException | None) -> None:
        """This process ends at ``clock``: because of ``error``, or because the run is done."""
        how = {"exit_code": 0}
        if error is not None:
            code = error.exit_code if isinstance(error, GanfleetError) else GanfleetError.exit_code
            how = {"exit_code": code, "error": type(error).__name__, "message": str(error)}
        self._write("end", clock, seconds=round(time.monotonic() - self._began, 1), **how)

    def _write(self, event: str, clock: Clock, **facts: Any) -> None:
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        self._log.append({"event": event, "time": now, "step": clock.step, "kimg": clock.kimg, **facts})


def environment() -> dict[str, Any]:
    """What this process runs on."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": platform.platform(),
        "host": platform.node(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def processor() -> str:
    """The processor's name, as its maker sells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
