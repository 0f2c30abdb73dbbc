"""``log.jsonl``: one JSON object per line, for programs that read a run. What is in a line is left to the caller."""

import json
import math
import os
from pathlib import Path

from ganfleet.store.publish import writing


class JsonLog:
    """Appends lines to ``path``; each is on disk (as far as the system's cache) when ``append`` returns.

    JSON has no NaN and no infinity: both are written as ``null``.
    """

    def __init__(self, path: Path):
        self._path = Path(path)
        with writing(self._path, "another run.dir"):
            self._path.touch()

    def append(self, record: dict) -> None:
        """Writes ``record``, numbers and strings by name, as one line.

        Raises:
            StorageError: the line could not be written; the file is as before.
        """
        line = json.dumps({key: _finite_or_none(value) for key, value in record.items()}, allow_nan=False)
        with writing(self._path, "another run.dir"):
            size = self._path.stat().st_size
            try:
                with open(self._path, "ab") as file:
                    file.write(line.encode() + b"\n")
            except OSError:
                os.truncate(self._path, size)  # half a line would spoil the next one
                raise

    def truncate_after(self, step: int) -> None:
        """Drops every line past ``step``, and a last line that a killed run left torn.

        A run that was killed at step 70 and goes on from step 50 thus writes steps 51 to 70 once, not twice.
        """
        with writing(self._path, "another run.dir"):
            keep = 0
            with open(self._path, "rb") as file:
                for line in file:
                    if _step(line) > step:
                        break
                    keep += len(line)
            os.truncate(self._path, keep)


def _finite_or_none(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _step(line: bytes) -> float:
    """The step of a line; infinity for a torn one, which is past any step."""
    try:
        return json.loads(line)["step"] if line.endswith(b"\n") else math.inf
    except ValueError:
        return math.inf
