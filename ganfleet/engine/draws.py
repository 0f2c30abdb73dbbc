"""What a step draws on the host, made ahead of time by a thread: random numbers cost as much as images to decode."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.data.threads import leave_pinned_core
from ganfleet.engine import drawing
from ganfleet.strategies.base import Inputs, Phase, Stage, Strategy

Drawn = dict[tuple[str, int], Inputs]  # by phase and lane


class Draws:
    """``Strategy.draw`` for each due phase and each of ``lanes``, one step ahead unless told otherwise.

    Every draw has a stream of its own, (seed, phase, step, lane): it does not matter when it is made, or by whom.
    """

    def __init__(
        self,
        strategy: Strategy,
        phases: Sequence[Phase],
        stage: Stage,
        seed: int,
        lanes: range,
        of: int,
        ahead: bool = True,
    ):
        """``of`` is the number of lanes of the whole fleet."""
        self._makes_ahead = ahead
        self._strategy, self._phases, self._stage = strategy, phases, stage
        self._seed, self._lanes, self._lane_size = seed, lanes, stage.batch_size // of
        self._first: dict[str, tuple[int, drawing.Shapes]] = {}  # by phase: a step, and what was drawn there
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="draws", initializer=leave_pinned_core)
        self._ahead: dict[tuple[int, int], Future[Drawn]] = {}  # by step and images seen

    def at(self, clock: Clock) -> Drawn:
        """What the step at ``clock`` draws; the next step's is in the making from now on."""
        now = self._ahead.pop((clock.step, clock.nimg), None) or self._begin(clock)
        self._ahead.clear()
        following = replace(clock, step=clock.step + 1, nimg=clock.nimg + self._stage.batch_size)
        if self._makes_ahead and self._strategy.stage(following) == self._stage:
            self._ahead[following.step, following.nimg] = self._begin(following)
        return now.result()

    def close(self) -> None:
        """Stop the thread and wait for its end."""
        self._pool.shutdown(cancel_futures=True)

    def _begin(self, clock: Clock) -> Future[Drawn]:
        return self._pool.submit(self._draw, replace(clock))

    def _draw(self, clock: Clock) -> Drawn:
        drawn = {}
        for phase in self._phases:
            if phase.is_due(clock):
                for lane in self._lanes:
                    stream = rng.stream(self._seed, f"draw/{phase.name}", clock.step, lane)
                    inputs = drawing.draw(self._strategy, stream, self._lane_size, clock, phase)
                    first = self._first.setdefault(phase.name, (clock.step, drawing.shapes(inputs)))
                    drawing.same_shapes(inputs, first, clock.step, phase)
                    drawn[phase.name, lane] = inputs
        return drawn
