"""How far a command is that makes many images: a bar where a person looks, otherwise a line now and then."""

import sys
import time
from contextlib import contextmanager

from ganfleet.fleet import launcher

LINE_SECONDS = 10  # between two lines of progress where nobody watches a terminal


@contextmanager
def progress():
    """What shows a line above the progress, and what shows the progress: a bar where a person looks, else lines.

    Both are rank 0's; those of other ranks show nothing.
    """
    if not launcher.detect().speaks:
        yield lambda line: None, lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if console.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console) as bar:
            shown = Bars(bar)
            yield bar.console.print, shown
    else:
        yield lambda line: print(line, file=sys.stderr, flush=True), Lines()


class Bars:
    """A bar for each thing that is computed."""

    def __init__(self, bar):
        self._bar, self._tasks = bar, {}

    def __call__(self, what: str, done: int, total: int) -> None:
        task = self._tasks.get(what)
        if task is None or self._bar.tasks[task].finished:
            task = self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(task, completed=done)


class Lines:
    """A line every few seconds, and at the end of each thing that took as long."""

    def __init__(self):
        self._shown_at = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        if time.monotonic() - self._shown_at >= LINE_SECONDS:
            self._shown_at = time.monotonic()
            print(f"{what}: {done:,} of {total:,} images", file=sys.stderr, flush=True)
