"""What happens in a run beside training: logs, sample grids, metrics, and callbacks of the user's own.

Those of the checkpoints are in ``saving``.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ganfleet.fleet import pages
from ganfleet.strategies.base import Stage

if TYPE_CHECKING:
    from ganfleet.engine.measuring import OfRun
    from ganfleet.engine.trainer import Trainer

A_WHILE = 20  # seconds


class Callback:
    """Base of callbacks; its methods do nothing. The engine calls each on every rank at the same point.

    So a method may use collectives (``run.sample``, ``run.snapshot``), and only rank 0 (``run.fleet.rank == 0``) should
    write. ``run`` is the Trainer, of which it may read ``clock``, ``config``, ``strategy``, ``stage``, ``fleet`` and
    ``directory``.
    """

    def begin(self, run: "Trainer") -> None:
        """Training begins, or goes on after a resume."""

    def after_step(self, run: "Trainer", stats: Mapping[str, np.ndarray]) -> None:
        """The clock has just counted a step with these ``stats``, means over all lanes.

        To read them is to wait until the device has made the step: on a card it is faster to keep the mapping, and to
        read it when the next step has begun.
        """

    def on_log(self, run: "Trainer", line: dict[str, float]) -> None:
        """A line has been written to the log: means since the last line, schedules, counts, pace.

        Only rank 0 writes the log, and only rank 0 is told: no collectives here.
        """

    def on_samples(self, run: "Trainer", images: np.ndarray) -> None:
        """The run has drawn ``images`` (n, channels, h, w) in [-1, 1] for its grid."""

    def on_checkpoint(self, run: "Trainer", path: Path) -> None:
        """A checkpoint has been written to ``path``, some steps after it was begun: ``run.clock`` may be past its."""

    def on_metrics(self, run: "Trainer", values: dict[str, float]) -> None:
        """Metrics have been measured."""

    def at_save(self, run: "Trainer") -> None:
        """SIGUSR1 has asked for a checkpoint after this step; the run goes on."""

    def has_news(self, run: "Trainer") -> bool:
        """Whether this rank alone knows something that every rank should hear of, such as that a thread is done.

        It is asked before each step, and the answer travels with the step's own collective.
        """
        return False

    def on_news(self, run: "Trainer") -> None:
        """Some callback of some rank had news before the step that has just been counted."""

    def on_alarm(self, run: "Trainer", message: str) -> None:
        """Something has gone wrong that the run outlives, and that somebody should look at."""

    def on_setback(self, run: "Trainer", error: BaseException) -> None:
        """Because of ``error`` the run will go back to its last checkpoint, now."""

    def on_rollback(self, run: "Trainer") -> None:
        """The run has gone back: it is what it was when its last checkpoint was made, and so is its clock."""

    def at_stop(self, run: "Trainer") -> None:
        """A signal ends the run after this step."""

    def at_end(self, run: "Trainer") -> None:
        """The run has reached its end."""

    def on_error(self, run: "Trainer", error: BaseException) -> None:
        """``error`` ends the run. Other ranks may not be there any more: no collectives here."""


class Log(Callback):
    """Stats into the log, TensorBoard and the progress line."""

    def after_step(self, run, stats):
        line = run.journal.after_step(run.clock, run.stage, stats, run.state)
        if line:
            run.tell("on_log", line)

    def on_rollback(self, run):
        run.fleet.first(lambda: run.journal.go_back(run.clock))


class HugePages(Callback):
    """Huge pages for a process that computes on a CPU (see ``fleet.pages``), when a stage has run for a while.

    Its memory is there by then, and a short run is over before they could be worth the second that they cost.
    """

    def __init__(self):
        self._stage: Stage | None = None
        self._due = 0.0

    def after_step(self, run, stats):
        now = time.monotonic()
        if run.stage != self._stage:
            self._stage, self._due = run.stage, now + A_WHILE
        elif now > self._due:
            self._due = float("inf")
            pages.use_huge()


class Samples(Callback):
    """A grid of the same images over time."""

    def begin(self, run):
        if run.clock.step == 0:
            self._draw(run)

    def after_step(self, run, stats):
        if run.clock.done or run.clock.crossed(run.config.log.samples_every_kimg * 1000, run.stage.batch_size):
            self._draw(run)

    def _draw(self, run):
        with run.journal.pause():
            images = run.sample(list(range(run.config.log.samples)))
            run.fleet.first(lambda: run.journal.samples(run.clock, images))
            run.tell("on_samples", images)


class Metrics(Callback):
    """The metrics that the config names, every so many images and at the end."""

    def __init__(self, measure: "OfRun"):
        self._measure = measure

    def after_step(self, run, stats):
        every = self._measure.settings.every_kimg
        due = run.clock.done or (every and run.clock.crossed(every * 1000, run.stage.batch_size))
        if not (due and self._measure.metrics):
            return
        with run.journal.pause():
            values = self._measure(run)
            run.journal.metrics(run.clock, values)
            run.tell("on_metrics", values)
