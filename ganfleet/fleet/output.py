"""What a process prints: read through a pipe, so that nothing but this process decides what becomes of it."""

import fcntl
import os
from collections import deque
from contextlib import suppress
from pathlib import Path

TAIL = 1 << 20  # bytes of it that are remembered
_CHUNK = 1 << 16


class Output:
    """The output of one process, which gets ``handle``; its end is remembered, and all of it goes to ``log``.

    A log that cannot be written, as on a full disk, costs what would have been in it and no more.

    Raises:
        OSError: ``log`` cannot be opened.
    """

    def __init__(self, log: Path | None = None):
        self.log = log
        self._file = open(log, "ab", buffering=0) if log else None  # noqa: SIM115 (closed by close)
        self._pipe, self.handle = os.pipe()
        os.set_blocking(self._pipe, False)
        with suppress(OSError):  # so that a process seldom waits for this one; the user may have no more pipes so large
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, TAIL)
        self._chunks: deque[bytes] = deque()
        self._remembered = 0  # bytes in _chunks
        self._told = 0  # of all bytes, those that ``news`` has given
        self.size = 0  # of all that came
        self._problem: OSError | None = None
        self._has_warned = False

    def started(self) -> None:
        """The process has its handle: this one no longer needs it."""
        os.close(self.handle)

    def read(self) -> None:
        """Take what has come."""
        with suppress(BlockingIOError):
            while chunk := os.read(self._pipe, _CHUNK):
                self._chunks.append(chunk)
                self._remembered += len(chunk)
                self.size += len(chunk)
                while self._remembered - len(self._chunks[0]) >= TAIL:
                    self._remembered -= len(self._chunks.popleft())
                self._write(chunk)

    def since(self, position: int) -> bytes:
        """What came after the first ``position`` bytes, as far as it is remembered."""
        return b"".join(self._chunks)[max(position - self.size + self._remembered, 0) :]

    def news(self) -> bytes:
        """What came since the last time."""
        position, self._told = self._told, self.size
        return self.since(position) if position < self.size else b""

    def lines(self, since: int = 0) -> list[str]:
        return self.since(since).decode(errors="replace").splitlines()

    def warning(self) -> str | None:
        """What has kept the log from being whole; told once."""
        if self._problem is None or self._has_warned:
            return None
        self._has_warned = True
        return f"cannot write {self.log}: {self._problem.strerror}. It lacks what it had no room for"

    def close(self) -> None:
        os.close(self._pipe)
        if self._file:
            self._file.close()

    def _write(self, chunk: bytes) -> None:
        try:
            while self._file and chunk:
                chunk = chunk[self._file.write(chunk) :]
        except OSError as error:
            self._problem = error
