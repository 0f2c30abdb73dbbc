"""What a run says: to the log, TensorBoard, the terminal and the grid folder. Only rank 0 writes."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TypeVar

import numpy as np

from ganfleet.clock import Clock
from ganfleet.engine import compile_cache, operators
from ganfleet.errors import StorageError
from ganfleet.observe import Observers
from ganfleet.store.publish import is_full
from ganfleet.strategies.base import Stage

T = TypeVar("T")


class Journal:
    """Passes on to ``observers``, which only rank 0 has.

    What cannot be written ends the run, but for a full disk where it ``goes_on``: then a line says so, and what the
    log, TensorBoard and the grids would have got is lost.
    """

    def __init__(self, observers: Observers | None = None, goes_on: bool = False):
        self._observers, self._goes_on = observers, goes_on
        self._told_of_full_disk = False

    def __enter__(self):
        operators.tell = self.say
        if self._observers:
            compile_cache.around = self._observers.compiling
        return self

    def __exit__(self, *_):
        operators.tell = warnings.warn
        if self._observers:
            compile_cache.around = nullcontext
            self._observers.close()

    def say(self, message: str) -> None:
        """One line for the user."""
        if self._observers:
            self._observers.say(message)

    def after_step(
        self, clock: Clock, stage: Stage, stats: Mapping[str, np.ndarray], state: Callable[[], dict[str, float]] = dict
    ) -> dict[str, float] | None:
        """The stats of a step, of which those that are no single number are not shown, and the ``state`` after it.

        Returns the line of the log, if one was written.
        """
        if self._observers:
            return self._written(lambda: self._observers.after_step(clock, stage, stats, state))
        return None

    def samples(self, clock: Clock, images: np.ndarray) -> None:
        """A grid of images (n, channels, h, w)."""
        if self._observers:
            self._written(lambda: self._observers.samples(clock, images))

    def metrics(self, clock: Clock, values: dict[str, float]) -> None:
        """Metrics by name."""
        if self._observers:
            self._written(lambda: self._observers.metrics(clock, values))

    def go_back(self, clock: Clock) -> None:
        """The run has gone back to ``clock``."""
        if self._observers:
            self._written(lambda: self._observers.go_back(clock))

    def pause(self):
        """A block whose time is not training's."""
        return self._observers.pause() if self._observers else nullcontext()

    def _written(self, write: Callable[[], T]) -> T | None:
        """What ``write`` returns; None where the disk is full and the run goes on."""
        try:
            result = write()
        except StorageError as error:
            if not (self._goes_on and is_full(error)):
                raise
            if not self._told_of_full_disk:
                self.say(f"alarm: {error}; training goes on, and the log lacks what it cannot take")
            self._told_of_full_disk = True
            return None
        self._told_of_full_disk = False
        return result
