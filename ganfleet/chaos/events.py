"""Which faults have happened so far, in a file that all ranks and all starts of a run share."""

import json
import os
import time
from pathlib import Path
from typing import Any

from ganfleet.errors import ConfigError

FOLDER = "GANFLEET_CHAOS"  # names the folder with both files
PLAN, EVENTS = "plan.yaml", "events.jsonl"
BEGIN = '{"event": '  # of each line


class Events:
    """A line for each: that a rank ``began``, or that a ``fault`` of the plan happens."""

    def __init__(self, folder: Path):
        self._path = folder / EVENTS

    def add(self, event: str, **facts: Any) -> None:
        # A line of its own, also behind one that a kill has cut short.
        line = "\n" + json.dumps({"event": event, "time": time.time(), "pid": os.getpid(), **facts}) + "\n"
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(handle, line.encode())  # in one piece, beside what other ranks write
        finally:
            os.close(handle)

    def read(self) -> list[dict[str, Any]]:
        """Those that are there whole: one may be being written, or its process was killed.

        Raises:
            ConfigError: a line is no event.
        """
        lines = self._path.read_text(errors="replace").splitlines() if self._path.exists() else []
        found = [self._parsed(number, line) for number, line in enumerate(lines, start=1) if line]
        return [event for event in found if event]

    def happened(self) -> set[tuple[int, int]]:
        """The faults that have happened, by their place in the plan, and at which step."""
        return {(each["fault"], each["step"]) for each in self.read() if each["event"] == "fault"}

    def _parsed(self, number: int, line: str) -> dict[str, Any] | None:
        try:
            event = json.loads(line)
            if event.keys() >= {"event", "time", "step"} and (event["event"] != "fault" or "fault" in event):
                return event
        except (ValueError, AttributeError):
            if line.startswith(BEGIN[: len(line)]):
                return None
        raise ConfigError(f"{self._path}:{number}: this is no event: choose another folder with --keep")
