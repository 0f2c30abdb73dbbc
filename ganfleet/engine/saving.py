"""The checkpoints of a run: copied to the host while training waits, and written by a thread while it goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ganfleet.config import CheckpointConfig
from ganfleet.data.threads import leave_pinned_core
from ganfleet.engine.best import Best
from ganfleet.engine.callbacks import Callback
from ganfleet.errors import NonFinite, StorageError
from ganfleet.store import checkpoint
from ganfleet.store.publish import is_full
from ganfleet.store.rundir import RunDir
from ganfleet.store.snapshot import Snapshot


class Written(NamedTuple):
    """What came of a checkpoint: its path, or None where the disk had no room for it; and what to tell the user."""

    path: Path | None
    problem: str | None = None


class Checkpoints(Callback):
    """Checkpoints every so many images, at the end, before a signal stops the run, and where a metric is best.

    Rank 0 writes, one checkpoint at a time. What came of one, every rank hears after the same step: the first one that
    rank 0 begins when the writing is over, or the one at which the run ends, stops, or writes the next.
    """

    def __init__(self, run_dir: RunDir | None):
        """``run_dir`` is what rank 0 has."""
        self._run_dir = run_dir
        self._saved_step: int | None = None
        self._best: Best | None = None  # of rank 0
        self._writing: Future[Written] | None = None  # of rank 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint", initializer=leave_pinned_core)

    def after_step(self, run, stats):
        due = run.clock.done or run.clock.crossed(run.config.checkpoint.every_kimg * 1000, run.stage.batch_size)
        if due and self._saved_step != run.clock.step:
            self._save(run)
        if run.clock.done:
            self._settle(run, last=True)

    def on_metrics(self, run, values):
        settings = run.config.checkpoint.keep_best
        if settings is None:
            return
        self._settle(run)  # it may be the best one yet
        if not run.fleet.first(lambda: self._best_of(run).beats(values, settings, run.stage.resolution)):
            return
        note = partial(self._note_best, run, values, settings, run.stage.resolution, replace(run.clock))
        self._save(run, note)
        run.journal.say(f"the best {settings.metric} yet: {values[settings.metric]:.4g}")

    def has_news(self, run):
        return self._writing is not None and self._writing.done()

    def on_news(self, run):
        if self._saved_step != run.clock.step:  # otherwise it was told as that one was begun
            self._settle(run)

    def at_save(self, run):
        if self._saved_step != run.clock.step:
            self._save(run)

    def at_stop(self, run):
        self.at_save(run)
        self._settle(run, last=True)

    def on_setback(self, run, error):
        self._saved_step = None
        self._finish(run)

    def on_error(self, run, error):
        self._finish(run)

    def _best_of(self, run) -> Best:
        if self._best is None:
            self._best = Best(self._run_dir.path)
        return self._best

    def _note_best(self, run, *what) -> None:
        self._best_of(run).note(*what)

    def _save(self, run, then: Callable[[], None] | None = None) -> None:
        """Begin to write a checkpoint; ``then`` is called once it is there.

        Raises:
            NonFinite: something in it is not finite; nothing is written.
        """
        with run.journal.pause():
            self._settle(run)
            snapshot = run.snapshot()
        spoilt = checkpoint.nonfinite(snapshot)
        if spoilt:
            raise NonFinite(
                f"step {run.clock.step}: {', '.join(spoilt[:3])} {'is' if len(spoilt) == 1 else 'are'} not finite, so "
                "no checkpoint is written; the checkpoints before are as they were. Start again with a lower learning "
                "rate, and name its key in checkpoint.accept, such as checkpoint.accept='[strategy.lr]'"
            )
        self._saved_step = run.clock.step
        if run.fleet.rank == 0:
            self._writing = self._pool.submit(self._write, run, snapshot, run.clock.step, then)

    def _write(self, run, snapshot: Snapshot, step: int, then: Callable[[], None] | None) -> Written:
        """In the thread: write ``snapshot``.

        Raises:
            StorageError, RunInUse: it cannot be written.
        """
        self._run_dir.check()
        settings: CheckpointConfig = run.config.checkpoint
        keep_every = settings.keep_every_kimg and settings.keep_every_kimg * 1000
        best = self._best_of(run).step if settings.keep_best else None
        problems: list[str] = []
        folder = self._run_dir.checkpoints
        path = checkpoint.save(folder, snapshot, step, settings.keep, keep_every, best, problems.append)
        if then:
            then()
        return Written(path, "; ".join(problems) or None)

    def _settle(self, run, last: bool = False) -> None:
        """Wait until what is being written is there, and tell every rank what came of it.

        Raises:
            GanfleetError: what the thread met. A full disk is an alarm only, if the config says so; unless it is the
                ``last`` checkpoint of this process, without which its work would be lost.
        """
        goes_on = run.config.checkpoint.on_full == "continue" and not last
        with run.journal.pause():
            written = run.fleet.first(partial(self._outcome, goes_on))
        if written is None:
            return
        if written.path is None:
            run.alarm(f"{written.problem}; training goes on, and the next checkpoint is tried as planned")
            return
        run.journal.say(f"saved {written.path}")
        if written.problem:
            run.alarm(written.problem)
        run.tell("on_checkpoint", written.path)

    def _outcome(self, goes_on: bool) -> Written | None:
        """On rank 0: what came of the last checkpoint that was begun; None where all of that has been told."""
        writing, self._writing = self._writing, None
        try:
            return writing and writing.result()
        except StorageError as error:
            if not (goes_on and is_full(error)):
                raise
            return Written(None, str(error))

    def _finish(self, run) -> None:
        """Wait for what is being written, however it ends: the next start may need it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            try:
                written = writing.result()
            except Exception as error:
                run.journal.say(str(error))
            else:
                run.journal.say("; ".join(filter(None, (f"saved {written.path}", written.problem))))
