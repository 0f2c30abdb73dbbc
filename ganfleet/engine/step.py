"""One rank's part of a step: its lanes through every due phase, one collective and one update per phase, the averages.

Knows no data, no run and no end; the trainer has these.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
from mindspore import Tensor

from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.engine import contract, peak
from ganfleet.engine.draws import Draws
from ganfleet.engine.phase import CompiledPhase
from ganfleet.engine.player import FlatPlayer
from ganfleet.engine.program import Program
from ganfleet.engine.tensors import tensors, values
from ganfleet.fleet import Fleet, heartbeat
from ganfleet.nn.precision import LossScale
from ganfleet.strategies.base import Inputs

Memory = dict[int, Inputs]  # what each lane remembers, by lane
# That the trainer sends along: whether to stop, whether to save, how many images were bad, whether a callback has news.
HOST_VALUES = 4


@dataclass
class Lane:
    """One lane during one step: its real samples, and what phases keep for later ones."""

    real: dict[str, Tensor]
    kept: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Outcome:
    """What came of a step, equal on every rank.

    Attributes:
        stats: losses and stats by name, means over all lanes.
        host: the fleet's sum of the host values.
        skipped: the phases whose update was left out because it was not finite, and which the run should count.
    """

    stats: dict[str, np.ndarray]
    host: np.ndarray
    skipped: list[str]


class Stepper:
    """Steps of one stage on this rank's lanes.

    ``memory`` is what lanes remember and ``scales`` are the loss scales by phase, where float16 needs them; both
    outlive the stage, and are changed here. ``peaks`` has the bytes that each phase took at most (see ``engine.peak``).
    Every learning rate is multiplied by ``lr_factor``.
    """

    def __init__(
        self,
        program: Program,
        fleet: Fleet,
        seed: int,
        memory: Memory,
        scales: dict[str, LossScale],
        ahead: bool = True,
    ):
        """``ahead``: whether a step's draws are made while the step before runs."""
        self.program, self.fleet = program, fleet
        self._seed, self._memory, self._scales = seed, memory, scales
        self.lr_factor = 1.0
        self.peaks: dict[str, int] = {}
        phases = [compiled.phase for compiled in program.phases]
        stage, lanes = program.stage, fleet.lanes
        self._draws = Draws(program.strategy, phases, stage, seed, lanes, fleet.total_lanes, ahead)

    def step(self, samples: Sequence[Inputs], clock: Clock, host: np.ndarray) -> Outcome:
        """Run every due phase on one global batch.

        Args:
            samples: for each of this rank's lanes in order, the real samples.
            host: values (H,) of this rank that are summed over the fleet; they travel with the step's first phase.
        """
        # Where a phase runs for the first time, kernels may compile as late as when its results are read.
        new = any(each.phase.is_due(clock) and each.name not in self.peaks for each in self.program.phases)
        with heartbeat.compiling() if new else nullcontext():
            return self._step(samples, clock, host)

    def _step(self, samples: Sequence[Inputs], clock: Clock, host: np.ndarray) -> Outcome:
        lanes = {lane: Lane(tensors(real)) for lane, real in zip(self.fleet.lanes, samples, strict=True)}
        drawn = self._draws.at(clock)
        summaries = []
        for compiled in self.program.phases:
            if compiled.phase.is_due(clock):
                noise = {lane: drawn[compiled.name, lane] for lane in self.fleet.lanes}
                summaries.append((compiled, self.run(compiled, lanes, noise, clock, host)))
                host = np.zeros_like(host)
        self.average(clock)
        # Read only now: until here nothing waited for the device.
        outcome = Outcome({}, np.zeros_like(host), [])
        with heartbeat.waiting():
            told = values([summary for _, summary in summaries])
        for (compiled, _), summary in zip(summaries, told, strict=True):
            finite, arrived, stats = compiled.summarize(summary, self.fleet.total_lanes, len(host))
            outcome.stats |= stats
            outcome.host = outcome.host + arrived
            if self._counts_as_skipped(compiled.name, finite):
                outcome.skipped.append(compiled.name)
        return outcome

    def learning_rates(self, clock: Clock) -> dict[str, float]:
        """That of each player at ``clock``."""
        players = self.program.players.values()
        rates = {player.name: self._hyper(player, clock).get("lr", player.optimizer.lr) for player in players}
        return {name: rate * self.lr_factor for name, rate in rates.items()}

    def close(self) -> None:
        self._draws.close()

    def run(self, compiled: CompiledPhase, lanes: dict[int, Lane], noise: Memory, clock: Clock, host) -> Tensor:
        """One phase: this rank's lanes, one collective, one update; its summary."""
        heartbeat.beat(phase=f"phase {compiled.name}")
        peak.begin()
        scale = self._scales[compiled.name].scale if compiled.name in self._scales else 1.0

        def lane_flat(number):
            lane, inputs = lanes[number], noise[number]
            if compiled.phase.prepare is not None:
                stream = rng.stream(self._seed, f"prepare/{compiled.name}", clock.step, number)
                kept = {name: tensor.asnumpy().copy() for name, tensor in lane.kept.items()}
                inputs = inputs | compiled.phase.prepare(stream, kept, self._memory[number])
            values = host if number == self.fleet.lanes.start else np.zeros_like(host)
            flat, kept = compiled.run(lane.real, tensors(inputs), values, scale)
            lane.kept |= kept
            return flat

        total = compiled.player.sum(self.fleet, lane_flat)
        hyper = self._hyper(compiled.player, clock)
        summary = compiled.player.update(total, 1 / (self.fleet.total_lanes * scale), hyper, self.lr_factor)
        self.peaks[compiled.name] = max(peak.size() or 0, self.peaks.get(compiled.name, 0))
        return summary

    def average(self, clock: Clock) -> None:
        """Move every average once, whatever the number of updates in the step."""
        for player in self.program.players.values():
            if player.ema is not None:
                player.average(player.ema.beta(self.program.stage.batch_size, self._hyper(player, clock)))

    def _hyper(self, player: FlatPlayer, clock: Clock) -> dict[str, float]:
        return contract.hyper(self.program.strategy, player.name, player.optimizer, player.ema, clock)

    def _counts_as_skipped(self, phase: str, finite: bool) -> bool:
        """Whether an update that was left out is a fault; an overflow of float16 is none until its scale is lowest."""
        scale = self._scales.get(phase)
        if finite:
            if scale is not None:
                scale.good()
            return False
        return scale is None or scale.overflow()
