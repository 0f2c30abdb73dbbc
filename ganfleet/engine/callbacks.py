"""What happens in a run beside training: logs, sample grids, checkpoints, metrics, and callbacks of the user's own."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ganfleet.engine.best import Best
from ganfleet.errors import NonFinite
from ganfleet.store import checkpoint
from ganfleet.store.rundir import RunDir

if TYPE_CHECKING:
    from ganfleet.engine.measuring import OfRun
    from ganfleet.engine.trainer import Trainer


class Callback:
    """Base of callbacks; its methods do nothing. The engine calls each on every rank at the same point.

    So a method may use collectives (``run.sample``, ``run.snapshot``), and only rank 0 (``run.fleet.rank == 0``) should
    write. ``run`` is the Trainer, of which it may read ``clock``, ``config``, ``strategy``, ``stage``, ``fleet`` and
    ``directory``.
    """

    def begin(self, run: "Trainer") -> None:
        """Training begins, or goes on after a resume."""

    def after_step(self, run: "Trainer", stats: dict[str, np.ndarray]) -> None:
        """The clock has just counted a step with these reduced ``stats``."""

    def on_log(self, run: "Trainer", line: dict[str, float]) -> None:
        """A line has been written to the log: means since the last line, schedules, counts, pace.

        Only rank 0 writes the log, and only rank 0 is told: no collectives here.
        """

    def on_samples(self, run: "Trainer", images: np.ndarray) -> None:
        """The run has drawn ``images`` (n, channels, h, w) in [-1, 1] for its grid."""

    def on_checkpoint(self, run: "Trainer", path: Path) -> None:
        """A checkpoint has been written to ``path``."""

    def on_metrics(self, run: "Trainer", values: dict[str, float]) -> None:
        """Metrics have been measured."""

    def at_save(self, run: "Trainer") -> None:
        """SIGUSR1 has asked for a checkpoint after this step; the run goes on."""

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


class Checkpoints(Callback):
    """Checkpoints every so many images, at the end, before a signal stops the run, and where a metric is best."""

    def __init__(self, run_dir: RunDir | None):
        """``run_dir`` is what rank 0 has; only it writes."""
        self._run_dir = run_dir
        self._saved_step: int | None = None
        self._best: Best | None = None  # of rank 0

    def after_step(self, run, stats):
        due = run.clock.done or run.clock.crossed(run.config.checkpoint.every_kimg * 1000, run.stage.batch_size)
        if due and self._saved_step != run.clock.step:
            self._save(run)

    def on_metrics(self, run, values):
        settings = run.config.checkpoint.keep_best
        if settings is None or not run.fleet.first(
            lambda: self._best_of(run).beats(values, settings, run.stage.resolution)
        ):
            return
        self._save(run)
        run.fleet.first(lambda: self._best_of(run).note(values, settings, run.stage.resolution, run.clock))
        run.journal.say(f"the best {settings.metric} yet: {values[settings.metric]:.4g}")

    def _best_of(self, run) -> Best:
        if self._best is None:
            self._best = Best(self._run_dir.path)
        return self._best

    def at_save(self, run):
        if self._saved_step != run.clock.step:
            self._save(run)

    at_stop = at_save

    def _save(self, run):
        """Write a checkpoint.

        Raises:
            NonFinite: something in it is not finite; nothing is written.
        """
        with run.journal.pause():
            snapshot = run.snapshot()
            spoilt = checkpoint.nonfinite(snapshot)
            if spoilt:
                raise NonFinite(
                    f"step {run.clock.step}: {', '.join(spoilt[:3])} {'is' if len(spoilt) == 1 else 'are'} not finite, "
                    "so no checkpoint is written; the checkpoints before are as they were. Start again with a lower "
                    "learning rate, and name its key in checkpoint.accept, such as checkpoint.accept='[strategy.lr]'"
                )
            path = run.fleet.first(lambda: self._write(run, snapshot))
        self._saved_step = run.clock.step
        run.journal.say(f"saved {path}")
        run.tell("on_checkpoint", path)

    def _write(self, run, snapshot) -> Path:
        self._run_dir.check()
        settings = run.config.checkpoint
        keep_every = settings.keep_every_kimg and settings.keep_every_kimg * 1000
        best = self._best_of(run).step if settings.keep_best else None
        return checkpoint.save(self._run_dir.checkpoints, snapshot, run.clock.step, settings.keep, keep_every, best)
