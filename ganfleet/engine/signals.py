"""Signals that end a run or ask it for a checkpoint."""

import os
import signal
import time
from contextlib import contextmanager
from typing import Any

from ganfleet.errors import INTERRUPTED, Stopped
from ganfleet.fleet import launcher

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SAVE = signal.SIGUSR1
SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


@contextmanager
def stopping_at_once():
    """STOPS end the process with 75 at once, SAVE is ignored: before and after the loop there is nothing to save."""

    def end(_number, _frame):
        _leave(Stopped.exit_code, "stopped by a signal; start again")

    before = _handle(end) | {SAVE: signal.signal(SAVE, lambda *_: None)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle(handler) -> dict[int, Any]:
    """Have ``handler`` called for STOPS, but not for a SIGHUP that nohup has had ignored; the handlers before."""
    heeded = [each for each in STOPS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heeded}


class StopSignal:
    """Remembers SIGTERM, SIGINT and SIGHUP until the step's end; a second Ctrl-C ends the process at once with 130.

    MindSpore takes over SIGINT whenever a graph runs, and sends itself SIGTERM instead. So a second SIGTERM counts too,
    unless it follows at once: some supervisors signal the launcher and the ranks, and the launcher the ranks again.

    SIGUSR1 asks for a checkpoint, and the run goes on.
    """

    def __init__(self):
        self.received: signal.Signals | None = None
        self._received_at = 0.0
        self._save = False

    def __enter__(self):
        self._before = _handle(self._receive) | {SAVE: signal.signal(SAVE, self._receive_save)}
        launcher.end_with_msrun_by(signal.SIGTERM)
        return self

    def __exit__(self, *_):
        launcher.end_with_msrun_by(signal.SIGKILL)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def save_wanted(self) -> bool:
        """Whether a checkpoint has been asked for since the last time."""
        wanted, self._save = self._save, False
        return wanted

    def _receive_save(self, _number, _frame):
        self._save = True

    def _receive(self, number, _frame):
        if self.received is not None and time.monotonic() - self._received_at > launcher.ECHO_SECONDS:
            _leave(INTERRUPTED, "interrupted twice, stopping without a checkpoint")
        if self.received is None:
            self.received, self._received_at = signal.Signals(number), time.monotonic()


def _leave(code: int, message: str) -> None:
    """End this process from within a signal handler, whatever it is doing; an exception could be caught there."""
    rank = launcher.detect()
    if rank.speaks:
        os.write(2, f"{SHOW_CURSOR if os.isatty(2) else ''}ganfleet: error: {message}\n".encode())
    rank.report_exit(code)
    os._exit(code)
