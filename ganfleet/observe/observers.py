"""Everything that watches a run, as one object for the training loop. It reports, and decides nothing.

Only rank 0 has one. Wall-clock time is read here and nowhere in training.
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np

from ganfleet.clock import Clock
from ganfleet.observe.board import Board
from ganfleet.observe.grid import grid, png
from ganfleet.observe.log import JsonLog
from ganfleet.observe.progress import Progress
from ganfleet.size import Size
from ganfleet.store import publish


class Observers:
    """Writes log.jsonl, TensorBoard events, samples and progress of the run in ``run_dir``.

    Args:
        run_dir: one that ``rundir`` made.
        config_text: the resolved config, YAML, shown in TensorBoard.
        clock: where the run starts or resumes; what an earlier process logged past this step is dropped.
        every_steps: steps per interval. Each interval is one line of the log, written when the step count is a
            multiple of it and at the run's end.
        stream: where progress goes; standard output where None.
        by_images: whether TensorBoard also gets the scalars over images instead of steps, as a run ``by_images`` of its
            own: for runs whose batch size changes.

    All methods but ``pause``, ``compiling``, ``say`` and ``close`` raise StorageError where a file cannot be written.
    """

    def __init__(
        self,
        run_dir: Path,
        config_text: str,
        clock: Clock,
        every_steps: int,
        stream: TextIO | None = None,
        by_images: bool = False,
    ):
        self._samples_dir = Path(run_dir) / "samples"
        self._every_steps = every_steps
        self._log = JsonLog(Path(run_dir) / "log.jsonl")
        self._log.truncate_after(clock.step)
        self._board = Board(run_dir, resume_step=clock.step)
        self._board.text(clock.step, "config", f"```yaml\n{config_text}\n```")
        self._by_images = Board(Path(run_dir) / "by_images", resume_step=clock.nimg) if by_images else None
        self._progress = Progress(stream)
        self._means, self._unread = Means(), {}
        self._stopwatch = Stopwatch()
        self._reported_nimg = clock.nimg
        self._step = clock.step
        self._compiling_told = False

    def after_step(
        self,
        clock: Clock,
        stage,
        stats: Mapping[str, float],
        state: Callable[[], Mapping[str, float]] = dict,
    ) -> dict[str, float] | None:
        """Takes the ``stats`` of the step that ``clock`` just counted; at an interval's end reports.

        Returns the line that it then writes to the log. Stats are read when the next ones come, or at the interval's
        end, since to read them may be to wait for the device.

        A line has the mean of each stat over the steps of its interval that had it (after a resume: since the
        resume). What ``state()`` gives, such as learning rates and the number of updates skipped so far, is written as
        it is. ``stage`` gives the resolution and the batch size.
        """
        self._step, self._compiling_told = clock.step, False
        self._read()
        self._unread = stats
        self._progress.advance(clock.nimg, _goal(clock, stage))
        if clock.step % self._every_steps == 0 or clock.done:
            self._read()
            return self._report(clock, stage, {**self._means.take(), **state()})
        return None

    def samples(self, clock: Clock, images: np.ndarray) -> Path:
        """Shows ``images``, (n, c, h, w) in [-1, 1], as one grid; returns the PNG's path, which sorts by kimg."""
        with self.pause():
            picture = grid(images)
            content = png(picture)
            path = self._samples_dir / f"{clock.kimg:010.3f}kimg.png"
            publish.file(path, content, durable=False)
            self._board.image(clock.step, "Samples", content, picture.shape)
        return path

    def metrics(self, clock: Clock, values: Mapping[str, float]) -> None:
        """Writes measured ``values`` as a line of the log, and as ``Metrics/NAME`` in TensorBoard."""
        named = {f"Metrics/{name}": float(value) for name, value in values.items()}
        self._log.append({"step": clock.step, "nimg": clock.nimg, "kimg": clock.kimg, **named})
        self._board.scalars(clock.step, named)
        self.say("  ".join(f"{name} {value:.4g}" for name, value in values.items()))

    def go_back(self, clock: Clock) -> None:
        """The run has gone back to ``clock``: what was logged past it is dropped."""
        self._log.truncate_after(clock.step)
        self._board.forget_after(clock.step)
        if self._by_images:
            self._by_images.forget_after(clock.nimg)
        self._unread = {}
        self._means.take()
        self._stopwatch.lap()
        self._reported_nimg, self._step = clock.nimg, clock.step

    def pause(self):
        """``with observers.pause():`` leaves the block, a checkpoint for example, out of sec_per_kimg."""
        return self._stopwatch.pause()

    @contextmanager
    def compiling(self):
        """A block that compiles a graph. It says so, once per step, and is left out of sec_per_kimg."""
        if not self._compiling_told:
            self._compiling_told = True
            self.say(f"compiling graphs after step {self._step} ...")
        with self.pause():
            yield

    def say(self, message: str) -> None:
        """One line on the terminal for one event: resumed, checkpoint saved, bad image."""
        self._progress.say(message)

    def close(self) -> None:
        """Gives the terminal back and closes the files."""
        self._progress.close()
        self._board.close()
        if self._by_images:
            self._by_images.close()

    def _read(self) -> None:
        self._means.add(self._unread)
        self._unread = {}

    def _report(self, clock: Clock, stage, scalars: dict[str, float]) -> dict[str, float]:
        sec_per_kimg = self._stopwatch.lap() / (clock.nimg - self._reported_nimg) * 1000
        self._reported_nimg = clock.nimg
        position = {"step": clock.step, "nimg": clock.nimg, "kimg": clock.kimg, "resolution": stage.resolution}
        pace = {"sec_per_kimg": sec_per_kimg, "images_per_sec": 1000 / sec_per_kimg if sec_per_kimg else math.inf}
        record = {**position, **scalars, **pace}
        self._progress.report(record, _goal(clock, stage))
        self._log.append(record)
        shown = {**scalars, "Progress/kimg": clock.kimg, **{f"Timing/{name}": value for name, value in pace.items()}}
        shown["Progress/resolution"] = Size.of(stage.resolution).height
        self._board.scalars(clock.step, shown)
        if self._by_images:
            self._by_images.scalars(clock.nimg, shown)
        return record


def _goal(clock: Clock, stage) -> int:
    """The images at which the run ends, where a limit of steps comes first at the present batch size."""
    if clock.total_steps is None:
        return clock.total_nimg
    return min(clock.total_nimg, clock.nimg + (clock.total_steps - clock.step) * stage.batch_size)


class Means:
    """Means of named numbers over the steps of an interval; what is no single number is not looked at.

    NaN and infinity, whose updates every rank skips and counts, are left out; a name that had nothing else is NaN.
    """

    def __init__(self):
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, stats: Mapping[str, float]) -> None:
        for name, value in stats.items():
            if np.ndim(value):
                continue
            total, count = self._sums.get(name, (0.0, 0))
            value = float(value)
            self._sums[name] = (total + value, count + 1) if math.isfinite(value) else (total, count)

    def take(self) -> dict[str, float]:
        """The means since the last call."""
        means = {name: total / count if count else math.nan for name, (total, count) in self._sums.items()}
        self._sums.clear()
        return means


class Stopwatch:
    """Seconds since the last lap, without the pauses."""

    def __init__(self):
        self._started = time.perf_counter()
        self._paused = False

    def lap(self) -> float:
        now = time.perf_counter()
        seconds, self._started = now - self._started, now
        return seconds

    @contextmanager
    def pause(self):
        """Stops the watch for a block. A pause within a pause changes nothing."""
        if self._paused:
            yield
            return
        self._paused, began = True, time.perf_counter()
        try:
            yield
        finally:
            self._paused = False
            self._started += time.perf_counter() - began
