"""The training loop, and what one step is made of. Reads top to bottom; the parts do the work."""

from dataclasses import asdict, dataclass, field

import numpy as np
from mindspore import Tensor

from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.config import Config
from ganfleet.data import Loader, Source
from ganfleet.data.loader import to_network
from ganfleet.engine import contract, guard
from ganfleet.engine.model import Model
from ganfleet.engine.program import PhaseProgram
from ganfleet.engine.sampler import Sampler, seeded
from ganfleet.engine.tensors import tensors
from ganfleet.errors import CheckpointMismatch, ConfigError, GanfleetError, Stopped
from ganfleet.fleet import Fleet
from ganfleet.store.checkpoint import Snapshot
from ganfleet.strategies.base import Phase, Stage, Strategy

HOST_VALUES = 2  # per lane, beside gradients and stats: has a signal asked to stop, how many images were bad


def total_nimg(kimg: float | None, steps: int | None, strategy: Strategy) -> int:
    """The images of a whole run: ``kimg`` thousands, or where that is None those of ``steps`` steps."""
    if kimg is not None:
        return round(kimg * 1000)
    clock = Clock(total_nimg=0)
    for _ in range(steps):
        clock.tick(strategy.stage(clock).batch_size)
    return clock.nimg


def check_schedule(strategy: Strategy, lanes: int) -> None:
    """Refuse a schedule whose batches ``lanes`` lanes cannot share.

    Raises:
        ConfigError: naming the stage.
    """
    for stage in strategy.schedule():
        if stage.batch_size % lanes:
            raise ConfigError(
                f"stage {stage.name!r} has batches of {stage.batch_size}, which do not divide among train.lanes={lanes}"
            )
        strategy.check(stage, stage.batch_size // lanes)


def stage_of(snapshot: Snapshot, strategy: Strategy) -> Stage:
    """The stage whose networks are in ``snapshot``; at the end of a stage, the clock may already say the next one.

    Raises:
        CheckpointMismatch: the strategy has no such stage.
    """
    name = snapshot.facts["stage"]
    for stage in strategy.schedule():
        if stage.name == name:
            return stage
    raise CheckpointMismatch(f"the checkpoint is of stage {name!r}, which this config's schedule does not have")


@dataclass
class Lane:
    """One lane during one step: its real samples, and what phases keep for later ones."""

    real: dict[str, Tensor]
    kept: dict[str, Tensor] = field(default_factory=dict)


class Watch:
    """What a run does beside training; the base does nothing. Called alike on every rank."""

    def after_step(self, trainer: "Trainer", stats: dict[str, np.ndarray]) -> None:
        """The clock has just counted a step whose reduced ``stats`` these are."""

    def before_stop(self, trainer: "Trainer") -> None:
        """A signal ends the run after this step."""

    def say(self, message: str) -> None:
        """One line for the user."""


class Trainer:
    """One rank's part of a run: the players, the data, the clock, and the loop over them.

    ``watch`` observes and stores (see ``engine.run``).
    """

    def __init__(self, config: Config, strategy: Strategy, source: Source, fleet: Fleet, watch: Watch | None = None):
        train = config.train
        self.config = config
        self.strategy = strategy
        self.fleet = fleet
        self.watch = watch or Watch()
        self.clock = Clock(total_nimg(train.kimg, train.steps, strategy), train.steps)
        self.budgets = guard.Budgets(train.nonfinite_budget, config.data.bad_budget)

        self._build(strategy.stage(self.clock))
        contract.phases(strategy, self.clock, self.model.players)  # told now, not after the first samples are drawn
        self.memory: dict[int, dict[str, np.ndarray]] = {lane: {} for lane in fleet.lanes}
        self.loader = Loader(
            source.at(self.stage.resolution),
            batch_size=self.stage.batch_size,
            lanes=train.lanes,
            owned=fleet.lanes,
            seed=train.seed,
            workers=config.data.workers,
            prefetch=config.data.prefetch,
        )
        self._source = source

    def run(self) -> None:
        """Train until the clock is done.

        Raises:
            Stopped: a signal reached a rank; every rank ends after the same step.
            NonFinite, DataError: a budget is spent.
            ReplicasDiverged: an audit found ranks with different weights.
        """
        self.audit()
        with guard.StopSignal() as signal, self.loader:
            while not self.clock.done:
                self.enter(self.strategy.stage(self.clock))
                batch = self.loader.next()
                host = np.array([signal.received is not None, len(batch.bad)], np.float32)
                stats, (stop, bad) = self.step(batch, host)
                if bad:
                    self.name_bad_images(batch)
                self.strategy.after_step(self.clock, stats)
                self.clock.tick(self.stage.batch_size)
                if self.config.train.audit_every and self.clock.step % self.config.train.audit_every == 0:
                    self.audit()
                self.watch.after_step(self, stats)
                if stop and not self.clock.done:
                    self.watch.before_stop(self)
                    raise Stopped(f"stopped by a signal after step {self.clock.step}; start again to go on from there")

    def enter(self, stage: Stage) -> None:
        """Make ``stage`` the one in force: its networks with the weights there are, its batches, its graphs."""
        if stage != self.stage:
            before = self.model.tensors()
            self._build(stage)
            self.model.inherit(before)
            self.loader.restart(self.loader.position, stage.batch_size, self._source.at(stage.resolution))

    def _build(self, stage: Stage) -> None:
        """The networks of ``stage`` as initialised, with no graph compiled yet."""
        self.stage = stage
        self._programs: dict[Phase, PhaseProgram] = {}
        self.model = Model(self.strategy, self.config.train.seed, stage)
        self.sampler = Sampler(self.strategy, self.model)

    def step(self, batch, host: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Run every due phase on one global batch; the stats, and the fleet's sum of ``host`` (HOST_VALUES,)."""
        lanes = {lane: Lane(tensors(real)) for lane, real in zip(self.fleet.lanes, batch.lanes, strict=True)}
        stats: dict[str, np.ndarray] = {}
        host_sum = np.zeros_like(host)
        for phase in contract.phases(self.strategy, self.clock, self.model.players):
            if phase.due(self.clock.step):
                phase_stats, arrived = self.run_phase(phase, lanes, host)
                stats |= phase_stats
                host_sum += arrived
                host = np.zeros_like(host)  # it has travelled with the step's first phase
        return stats, host_sum

    def run_phase(
        self, phase: Phase, lanes: dict[int, Lane], host: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """One phase: this rank's lanes, one collective, one update, or none where the sum is not finite."""
        program = self.program(phase)
        player, clock = program.player, self.clock
        lane_size = self.stage.batch_size // self.fleet.total_lanes

        def lane_flat(number):
            lane, seed = lanes[number], self.config.train.seed
            stream = rng.stream(seed, f"draw/{phase.name}", clock.step, number)
            noise = contract.draw(self.strategy, stream, lane_size, clock, phase)
            if phase.prepare is not None:
                stream = rng.stream(seed, f"prepare/{phase.name}", clock.step, number)
                kept = {name: tensor.asnumpy().copy() for name, tensor in lane.kept.items()}
                noise |= phase.prepare(stream, kept, self.memory[number])
            values = host if number == self.fleet.lanes.start else np.zeros_like(host)
            flat, kept = program.run(lane.real, tensors(noise), values)
            lane.kept |= kept
            return flat

        total = self.fleet.reduce(lane_flat)
        finite, arrived, stats = program.summarize(total, self.fleet.total_lanes)
        if finite:
            lr = self.strategy.learning_rate(phase.player, player.optimizer, clock)
            beta = player.ema.beta(self.stage.batch_size) if player.ema else 0.0
            player.apply(total, self.fleet.total_lanes, lr, beta)
        else:
            self.watch.say(self.budgets.skipped(phase.name, clock.step))
        return stats, arrived

    def program(self, phase: Phase) -> PhaseProgram:
        """The compiled graph of ``phase`` in this stage."""
        if phase not in self._programs:
            self._programs[phase] = PhaseProgram(phase, self.model, HOST_VALUES)
        return self._programs[phase]

    def name_bad_images(self, batch) -> None:
        """Tell every rank which images some rank could not decode."""
        found = [pair for share in self.fleet.gather(batch.bad) for pair in share]
        for line in self.budgets.undecodable(found):
            self.watch.say(line)

    def audit(self) -> None:
        """Check that every rank holds the same weights, EMA and optimizer state."""
        guard.audit(self.fleet, self.model.tensors())

    def sample(self, seeds: list[int]) -> np.ndarray:
        """Images (n, channels, height, width) in [-1, 1] of the averaged weights, on every rank: one for each of
        ``seeds``, or where the strategy ``samples_data``, of as many samples from the start of the data.
        """
        clock = self.strategy.within(self.stage, self.clock)
        if self.strategy.samples_data:
            inputs = [self._figure(index) for index in range(min(len(seeds), len(self._source)))]
        else:
            inputs = [seeded(self.strategy, clock, seed) for seed in seeds]
        return self.sampler.images(inputs, clock, self.fleet)

    def _figure(self, index: int) -> dict[str, np.ndarray]:
        """Sample ``index`` of the data, or the next that can be read, as the input of a figure."""
        source = self._source.at(self.stage.resolution)
        try:
            sample = source[index]
        except GanfleetError:
            return self._figure((index + 1) % len(source))
        return {name: to_network(array)[None] for name, array in sample.items()}

    # ── Checkpoints

    def snapshot(self) -> Snapshot:
        """Everything that training changes. Every rank takes part, since each remembers its own lanes only."""
        clock, budgets = self.clock, self.budgets
        memory = {lane: arrays for share in self.fleet.gather(self.memory) for lane, arrays in share.items()}
        return Snapshot(
            tensors=self.model.tensors()
            | {
                "strategy": self.strategy.state(),
                "lanes": {f"{lane}/{name}": array for lane in memory for name, array in memory[lane].items()},
            },
            facts={
                "clock": {"step": clock.step, "nimg": clock.nimg},
                "stage": self.stage.name,
                "data": {"position": self.loader.position, "bad": sorted(budgets.bad)},
                "source": self._source_facts(),
                "guard": {"nonfinite": budgets.nonfinite},
            },
            config=self.config.resolved(),
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from ``snapshot``, whatever fleet made it.

        Raises:
            CheckpointMismatch: it does not fit this config's networks, or the data are not those it was made with.
        """
        before, now = snapshot.facts["source"], self._source_facts()
        if before != now:
            changed = ", ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in now)
            raise CheckpointMismatch(f"the data are not those of the checkpoint ({changed}): bring them back to resume")
        stage = stage_of(snapshot, self.strategy)
        if stage != self.stage:
            self._build(stage)
        self.model.load(snapshot.tensors)
        self.strategy.load_state(snapshot.tensors["strategy"])
        for name, array in snapshot.tensors["lanes"].items():
            lane, _, name = name.partition("/")
            if int(lane) in self.memory:
                self.memory[int(lane)][name] = array
        facts = snapshot.facts
        self.clock.step, self.clock.nimg = facts["clock"]["step"], facts["clock"]["nimg"]
        self.budgets.bad = set(facts["data"]["bad"])
        self.budgets.nonfinite = facts["guard"]["nonfinite"]
        self.loader.restart(facts["data"]["position"], stage.batch_size, self._source.at(stage.resolution))

    def _source_facts(self) -> dict[str, int]:
        """What the order of the data and the networks' shapes depend on."""
        return {"images": len(self._source), **asdict(self.strategy.image)}
