"""What a launcher prints, from a thread: a terminal that is paused, or a pager, must not keep it from its ranks."""

import os
import sys
import threading
import time
from collections import deque
from typing import IO

MOST = 1 << 20  # bytes that wait to be printed; what comes on top is left out


class Screen:
    """Prints in order on standard output and error, and never waits for those that read them."""

    def __init__(self):
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._left_out = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def show(self, text: bytes) -> None:
        """Print what ranks have printed."""
        self._print(sys.stdout, text)

    def tell(self, message: str) -> None:
        """Print a line of the launcher's own."""
        self._print(sys.stderr, f"ganfleet: {message}\n".encode(errors="replace"))

    def drain(self, seconds: float) -> None:
        """Wait until all is printed, but no longer than that."""
        end = time.monotonic() + seconds
        with self._changed:
            while self._waiting and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)

    def _print(self, stream: IO[str] | None, text: bytes) -> None:
        if stream is None or not text:
            return
        try:
            handle = stream.fileno()
        except (OSError, ValueError):  # it is no file: memory, as in tests
            stream.write(text.decode(errors="replace"))
            return
        with self._changed:
            if self._size + len(text) > MOST:
                self._left_out += len(text)
                return
            if self._left_out:
                text = f"ganfleet: {self._left_out:,} bytes were left out, as nobody read on\n".encode() + text
                self._left_out = 0
            self._waiting.append((handle, text))
            self._size += len(text)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="screen", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                handle, text = self._waiting[0]
            try:
                # Not the stream's own buffer: at its exit, Python waits for whoever is at that.
                while text:
                    text = text[os.write(handle, text) :]
            except OSError:  # the terminal is closed; the ranks must not end for that
                pass
            with self._changed:
                self._size -= len(self._waiting.popleft()[1])
                self._changed.notify_all()


screen = Screen()  # of this process
