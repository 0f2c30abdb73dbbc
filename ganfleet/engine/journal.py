"""What a run says: to the log, TensorBoard, the terminal and the grid folder. Only rank 0 writes."""

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np

from ganfleet.clock import Clock
from ganfleet.engine import compile_cache
from ganfleet.observe import Observers
from ganfleet.strategies.base import Stage


class Journal:
    """Passes on to ``observers``, which only rank 0 has."""

    def __init__(self, observers: Observers | None = None):
        self._observers = observers

    def __enter__(self):
        if self._observers:
            compile_cache.around = self._observers.compiling
        return self

    def __exit__(self, *_):
        if self._observers:
            compile_cache.around = nullcontext
            self._observers.close()

    def say(self, message: str) -> None:
        """One line for the user."""
        if self._observers:
            self._observers.say(message)

    def after_step(
        self, clock: Clock, stage: Stage, stats: dict[str, np.ndarray], state: Callable[[], dict[str, float]] = dict
    ) -> dict[str, float] | None:
        """The stats of a step, of which those that are no single number are not shown, and the ``state`` after it.

        Returns the line of the log, if one was written.
        """
        if self._observers:
            scalars = {name: value for name, value in stats.items() if np.ndim(value) == 0}
            return self._observers.after_step(clock, stage, scalars, state)
        return None

    def samples(self, clock: Clock, images: np.ndarray) -> None:
        """A grid of images (n, channels, h, w)."""
        if self._observers:
            self._observers.samples(clock, images)

    def metrics(self, clock: Clock, values: dict[str, float]) -> None:
        """Metrics by name."""
        if self._observers:
            self._observers.metrics(clock, values)

    def pause(self):
        """A block whose time is not training's."""
        return self._observers.pause() if self._observers else nullcontext()
