"""One rank's part of a step: its lanes through every due phase, one collective and one update per phase, the averages.

Knows no data, no run and no end; the trainer has these.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from mindspore import Tensor

from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.engine import contract, peak
from ganfleet.engine.draws import Draws
from ganfleet.engine.loss_scale import LossScale
from ganfleet.engine.outcome import Outcome
from ganfleet.engine.phase import CompiledPhase
from ganfleet.engine.player import FlatPlayer
from ganfleet.engine.program import Program
from ganfleet.engine.tensors import copy, scalar, tensors, zeros
from ganfleet.engine.upload import upload
from ganfleet.fleet import Fleet, heartbeat
from ganfleet.strategies.base import Inputs

Memory = dict[int, Inputs]  # what each lane remembers, by lane
Noise = dict[int, dict[str, Tensor]]  # what each lane has drawn for a phase, by lane
# That the trainer sends along: whether to stop, whether to save, how many images were bad, whether a callback has news.
HOST_VALUES = 4


@dataclass
class Lane:
    """One lane during one step: its real samples, and what phases keep for later ones."""

    real: dict[str, Tensor]
    kept: dict[str, Tensor] = field(default_factory=dict)


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

        Until somebody asks the outcome, nothing waits for the device; but for a phase's first run.
        """
        if all(each.name in self.peaks for each in self.program.phases if each.phase.is_due(clock)):
            return self._issue(samples, clock, host)
        with heartbeat.compiling():  # kernels may be, as late as when results are read
            outcome = self._issue(samples, clock, host)
            outcome.read()
        return outcome

    def _issue(self, samples: Sequence[Inputs], clock: Clock, host: np.ndarray) -> Outcome:
        drawn = self._draws.at(clock)
        sent, *real = upload([{"host": host}, *samples])
        lanes = dict(zip(self.fleet.lanes, map(Lane, real), strict=True))
        summaries = []
        for compiled in self.program.phases:
            if compiled.phase.is_due(clock):
                noise = upload([drawn[compiled.name, lane] for lane in self.fleet.lanes])
                values = zeros(len(host)) if summaries else sent["host"]
                of_lanes = dict(zip(self.fleet.lanes, noise, strict=True))
                summaries.append((compiled, self.run(compiled, lanes, of_lanes, clock, values)))
        self.average(clock)
        return Outcome(summaries, self.fleet.total_lanes, len(host))

    def learning_rates(self, clock: Clock) -> dict[str, float]:
        """That of each player at ``clock``."""
        players = self.program.players.values()
        rates = {player.name: self._hyper(player, clock).get("lr", player.optimizer.lr) for player in players}
        return {name: rate * self.lr_factor for name, rate in rates.items()}

    def close(self) -> None:
        self._draws.close()

    def run(self, compiled: CompiledPhase, lanes: dict[int, Lane], noise: Noise, clock: Clock, host: Tensor) -> Tensor:
        """One phase: this rank's lanes, one collective, one update; its summary. ``host`` are the values to be sent."""
        heartbeat.beat(phase=f"phase {compiled.name}")
        peak.begin()
        phase, scale = compiled.phase, self._scales.get(compiled.name)

        def lane_flat(number):
            lane, inputs = lanes[number], noise[number]
            if phase.prepare is not None:
                stream = rng.stream(self._seed, f"prepare/{compiled.name}", clock.step, number)
                kept = dict(lane.kept) if phase.on_device else {n: copy(each) for n, each in lane.kept.items()}
                inputs = inputs | phase.prepare(stream, kept, self._memory[number])
            values = host if number == self.fleet.lanes.start else zeros(host.size)
            flat, kept = compiled.run(lane.real, tensors(inputs), values, scale and scale.scale)
            lane.kept |= kept
            return flat

        total = compiled.player.sum(self.fleet, lane_flat)
        hyper = self._hyper(compiled.player, clock)
        mean = scale.mean if scale else scalar(1 / self.fleet.total_lanes)
        summary = compiled.player.update(total, mean, hyper, self.lr_factor)
        self.peaks[compiled.name] = max(peak.size() or 0, self.peaks.get(compiled.name, 0))
        return scale.after(summary) if scale else summary

    def average(self, clock: Clock) -> None:
        """Move every average once, whatever the number of updates in the step."""
        for player in self.program.players.values():
            if player.ema is not None:
                player.average(player.ema.beta(self.program.stage.batch_size, self._hyper(player, clock)))

    def _hyper(self, player: FlatPlayer, clock: Clock) -> dict[str, float]:
        return contract.hyper(self.program.strategy, player.name, player.optimizer, player.ema, clock)
