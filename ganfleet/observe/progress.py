"""What a run says on the terminal: a bar where a person looks, one plain line per interval where a file does."""

import sys
from contextlib import suppress
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from ganfleet.fleet import launcher

SHORT = 10_000  # images; in runs of fewer, tenths of a kimg are too coarse


class Progress:
    """Reports on ``stream`` (standard output where None) how far a run is.

    A plain line reads, with two blanks between its parts and one ``Loss/`` part per phase:
    ``step 1200  kimg 38.4/100.0  res 32  Loss/D 1.2034  Loss/G 0.8121  3.42 sec/kimg  left 3m30s``
    Runs of less than 10 kimg count images. A closed terminal ends no run: nothing is shown there any more.
    """

    def __init__(self, stream: TextIO | None = None):
        # A rank prints into a file, whatever shows that; and FORCE_COLOR makes rich take any file for a terminal.
        through = stream is None and launcher.on_terminal()
        self._console = Console(file=stream or sys.stdout, highlight=False, force_terminal=through or None)
        self._bar = None
        if (through or self._console.file.isatty()) and self._console.is_interactive:
            self._bar = Bar(
                BarColumn(bar_width=12),
                TextColumn("{task.fields[kimg]}  {task.fields[state]}", markup=False),
                console=self._console,
                refresh_per_second=4,
            )
            self._task = self._bar.add_task("", total=None, kimg="", state="first steps ...")
            self._bar.start()

    def advance(self, nimg: int, goal_nimg: int) -> None:
        """Moves the bar to ``nimg`` images of ``goal_nimg``."""
        if self._bar:
            self._bar.update(self._task, completed=nimg, total=goal_nimg, kimg=_kimg(nimg, goal_nimg))

    def report(self, record: dict, goal_nimg: int) -> None:
        """Shows the latest line of the log as the bar's text or as a line of its own.

        The time left is what remains to ``goal_nimg`` images at the pace of the last interval.
        """
        left = record["sec_per_kimg"] * max(goal_nimg - record["nimg"], 0) / 1000
        losses = [f"{name} {value:.4f}" for name, value in record.items() if _is_loss(name)]
        state = [f"res {record['resolution']}", *losses]
        pace = [f"{record['sec_per_kimg']:.2f} sec/kimg", f"left {duration(left)}"]
        if self._bar:
            self._bar.update(self._task, state="  ".join(pace[::-1] + state))  # a narrow window cuts off the end
        else:
            self.say("  ".join([f"step {record['step']}", _kimg(record["nimg"], goal_nimg), *state, *pace]))

    def say(self, message: str) -> None:
        """One line for one event, above the bar where there is one."""
        with suppress(OSError):
            if self._bar:
                self._console.print(message, markup=False, soft_wrap=True)
            else:
                print(message, file=self._console.file, flush=True)

    def close(self) -> None:
        if self._bar:
            with suppress(OSError):
                self._bar.stop()


def duration(seconds: float) -> str:
    """A time as ``45s``, ``3m30s``, ``2h05m`` or ``1d03h``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    minutes = seconds // 60
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    hours = minutes // 60
    return f"{hours // 24}d{hours % 24:02d}h"


def _kimg(nimg: int, goal_nimg: int) -> str:
    if goal_nimg < SHORT:
        return f"images {nimg}/{goal_nimg}"
    return f"kimg {nimg / 1000:.1f}/{goal_nimg / 1000:.1f}"


def _is_loss(name: str) -> bool:
    """Loss/D is one phase's loss; Loss/scores/real is detail for the log."""
    return name.startswith("Loss/") and name.count("/") == 1
