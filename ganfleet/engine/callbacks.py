"""What happens in a run beside training: logs, sample grids, checkpoints, metrics, and callbacks of the user's own."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ganfleet.errors import NonFinite
from ganfleet.plugins import METRICS
from ganfleet.store import checkpoint
from ganfleet.store.rundir import RunDir

if TYPE_CHECKING:
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

    def on_samples(self, run: "Trainer", images: np.ndarray) -> None:
        """The run has drawn ``images`` (n, channels, h, w) in [-1, 1] for its grid."""

    def on_checkpoint(self, run: "Trainer", path: Path) -> None:
        """A checkpoint has been written to ``path``."""

    def on_metrics(self, run: "Trainer", values: dict[str, float]) -> None:
        """Metrics have been measured."""

    def at_stop(self, run: "Trainer") -> None:
        """A signal ends the run after this step."""

    def at_end(self, run: "Trainer") -> None:
        """The run has reached its end."""

    def on_error(self, run: "Trainer", error: BaseException) -> None:
        """``error`` ends the run. Other ranks may not be there any more: no collectives here."""


class Log(Callback):
    """Stats into the log, TensorBoard and the progress line."""

    def after_step(self, run, stats):
        run.journal.after_step(run.clock, run.stage, stats, run.state)


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

    def __init__(self, names: list[str], every_kimg: float | None):
        self._metrics = [METRICS.find(name)() for name in names]
        self._every_kimg = every_kimg

    def after_step(self, run, stats):
        every = self._every_kimg
        due = run.clock.done or (every and run.clock.crossed(every * 1000, run.stage.batch_size))
        if not (due and self._metrics):
            return
        with run.journal.pause():
            values = {}
            for metric in self._metrics:
                values |= metric.measure(run)
            run.journal.metrics(run.clock, values)
            run.tell("on_metrics", values)


class Checkpoints(Callback):
    """Checkpoints every so many images, at the end, and before a signal stops the run."""

    def __init__(self, run_dir: RunDir | None):
        """``run_dir`` is what rank 0 has; only it writes."""
        self._run_dir = run_dir
        self._saved_step: int | None = None

    def after_step(self, run, stats):
        if run.clock.done or run.clock.crossed(run.config.checkpoint.every_kimg * 1000, run.stage.batch_size):
            self._save(run)

    def at_stop(self, run):
        if self._saved_step != run.clock.step:
            self._save(run)

    def _save(self, run):
        """Write a checkpoint.

        Raises:
            NonFinite: something in it is not finite; nothing is written.
        """
        settings = run.config.checkpoint
        with run.journal.pause():
            snapshot = run.snapshot()
            spoilt = checkpoint.nonfinite(snapshot)
            if spoilt:
                raise NonFinite(
                    f"step {run.clock.step}: {', '.join(spoilt[:3])} {'is' if len(spoilt) == 1 else 'are'} not finite, "
                    "so no checkpoint is written; the checkpoints before are as they were. Start again with a lower "
                    "learning rate, and name its key in checkpoint.accept, such as checkpoint.accept='[strategy.lr]'"
                )
            path = run.fleet.first(lambda: self._write(snapshot, run.clock.step, settings))
        self._saved_step = run.clock.step
        run.journal.say(f"saved {path}")
        run.tell("on_checkpoint", path)

    def _write(self, snapshot, step, settings) -> Path:
        self._run_dir.check()
        keep_every = settings.keep_every_kimg and settings.keep_every_kimg * 1000
        return checkpoint.save(self._run_dir.checkpoints, snapshot, step, settings.keep, keep_every)
