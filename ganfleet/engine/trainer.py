"""The training loop. Reads top to bottom; the parts do the work."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from ganfleet.clock import Clock
from ganfleet.config import Config
from ganfleet.data import Loader, Source
from ganfleet.data.loader import to_network
from ganfleet.engine import rollback, signals
from ganfleet.engine.audit import audit
from ganfleet.engine.budgets import Budgets
from ganfleet.engine.callbacks import Callback
from ganfleet.engine.journal import Journal
from ganfleet.engine.loss_scale import LossScale, loss_scales
from ganfleet.engine.program import Program
from ganfleet.engine.running import folder_kept, running
from ganfleet.engine.sampler import Sampler, seeded
from ganfleet.engine.schedule import stage_of, total_nimg
from ganfleet.engine.settling import Settling
from ganfleet.engine.step import Memory, Stepper
from ganfleet.engine.tensors import copy
from ganfleet.errors import CheckpointMismatch, GanfleetError, NonFinite, ReplicasDiverged, Stopped
from ganfleet.fleet import Fleet, heartbeat
from ganfleet.store.snapshot import Snapshot
from ganfleet.strategies.base import Stage, Strategy


class Trainer:
    """One rank's part of a run: the program, the data, the clock, and the loop over them.

    ``callbacks`` are what happens beside (see ``engine.callbacks``), ``journal`` is what the run says, and
    ``directory`` is where it writes.
    """

    def __init__(
        self,
        config: Config,
        strategy: Strategy,
        source: Source,
        fleet: Fleet,
        callbacks: Sequence[Callback] = (),
        journal: Journal | None = None,
        directory: Path | None = None,
    ):
        train = config.train
        self.config, self.strategy, self.source, self.fleet = config, strategy, source, fleet
        self.callbacks, self.journal, self.directory = tuple(callbacks), journal or Journal(), directory
        self.clock = Clock(total_nimg(train.kimg, train.steps, strategy), train.steps)
        self.budgets = Budgets(train.nonfinite_budget, config.data.bad_budget)
        self.settling = Settling(fleet, self.budgets)
        self.memory: Memory = {lane: {} for lane in fleet.lanes}
        self.scales: dict[str, LossScale] = {}
        self.accepted: list[dict] = []  # changes of the config that the user allowed on a resume
        self.rollbacks = 0  # how often the run has gone back to a checkpoint with lower learning rates
        self.repeats = 0  # and how often this process, to repeat what a fault of the machine had spoilt
        self.ancestors: list[str] = []  # the runs that the weights came from, see ``engine.lineage``
        self.stepper: Stepper | None = None
        self._build(strategy.stage(self.clock))
        self.loader = Loader(
            source.at(self.stage.resolution),
            batch_size=self.stage.batch_size,
            lanes=train.lanes,
            owned=fleet.lanes,
            seed=train.seed,
            workers=config.data.workers,
            prefetch=config.data.prefetch,
        )

    # ── The loop

    def run(self) -> None:
        """Train until the clock is done.

        Raises:
            Stopped: a signal reached a rank; every rank ends after the same step.
            NonFinite, DataError: a budget is spent.
            ReplicasDiverged: an audit found ranks with different weights.
        """
        self.audit()
        self.tell("begin")
        try:
            with signals.StopSignal() as signal, self.loader:
                while not self.clock.done:
                    try:
                        stop = self._step(signal)
                    except (NonFinite, ReplicasDiverged) as error:
                        rollback.go_back(self, error)
                        continue
                    if stop and not self.clock.done:
                        self.tell("at_stop")
                        raise Stopped(
                            f"stopped by a signal after step {self.clock.step}; start again to go on from there"
                        )
            self.tell("at_end")
        except BaseException as error:
            self.tell("on_error", error)
            raise
        finally:
            self.stepper.close()

    def _step(self, signal: signals.StopSignal) -> bool:
        """One step and what is beside it, raising what ``run`` does; whether a signal has reached a rank."""
        heartbeat.beat(self.clock.step + 1, "waiting for data")
        self.enter(self.strategy.stage(self.clock))
        batch = self.loader.next()
        news = any(callback.has_news(self) for callback in self.callbacks)
        host = np.array([signal.received is not None, signal.save_wanted(), len(batch.bad), news], np.float32)
        outcome = self.stepper.step(batch.lanes, self.clock, host)
        self.clock.tick(self.stage.batch_size)
        self.settling.add(self.clock.step, outcome, batch.bad)
        is_logged = self.clock.done or self.clock.step % self.config.log.every_steps == 0
        self.settling.settle(self.journal, but=0 if is_logged else 1)
        if self.config.train.audit_every and self.clock.step % self.config.train.audit_every == 0:
            self.audit()
        self.tell("after_step", outcome.stats)
        asked = self.settling.asked(self.journal)
        if asked.news:
            self.tell("on_news")
        if asked.save and not self.clock.done:
            self.tell("at_save")
        return asked.stop

    def tell(self, event: str, *what) -> None:
        """Call the method ``event`` of every callback."""
        for callback in self.callbacks:
            if event != "on_error":  # where it happened is what the launcher tells
                heartbeat.beat(phase=type(callback).__name__)
            with folder_kept():
                getattr(callback, event)(self, *what)

    # ── Stages

    def enter(self, stage: Stage) -> None:
        """Make ``stage`` the one in force: its networks with the weights there are, its batches, its graphs."""
        if stage != self.stage:
            before = self.program.tensors()
            self._build(stage)
            self.program.inherit(before)
            self.loader.restart(self.loader.position, stage.batch_size, self.source.at(stage.resolution))

    def _build(self, stage: Stage) -> None:
        """The program of ``stage``, its networks as initialised."""
        train = self.config.train
        self.stage = stage
        self.program = Program(self.strategy, stage, train.seed, train.precision, train.recompute, self.fleet)
        names = (compiled.name for compiled in self.program.phases if compiled.name not in self.scales)
        self.scales |= loss_scales(names, train.precision, train.lanes)
        if self.stepper:
            self.stepper.close()
        ahead = self.config.data.prefetch > 0
        self.stepper = Stepper(self.program, self.fleet, train.seed, self.memory, self.scales, ahead)
        self.stepper.lr_factor = train.rollback_lr**self.rollbacks
        self.sampler = Sampler(self.program)

    # ── Watching over it

    def audit(self) -> None:
        """Check that every rank holds the same weights, buffers, EMA and optimizer state.

        Raises:
            ReplicasDiverged: they do not, and the config does not say ``repair``, or nobody can tell who is right.
        """
        heartbeat.beat(phase="audit")
        repaired = audit(self.fleet, self.program, repair=self.config.train.on_diverged == "repair")
        if repaired:
            self.alarm(f"step {self.clock.step}: {repaired}")

    def alarm(self, message: str) -> None:
        """Say that something has gone wrong that the run outlives; every rank must, at the same point."""
        self.journal.say(f"alarm: {message}")
        self.tell("on_alarm", message)

    def state(self) -> dict[str, float]:
        """What the log says beside stats: what followed the schedule in the step that the clock has just counted
        (learning rates by player, and the strategy's ``schedule_values``), what was skipped so far, and the MiB of
        memory that each phase of this stage took at most on this rank.
        """
        before = replace(self.clock, step=self.clock.step - 1, nimg=self.clock.nimg - self.stage.batch_size)
        values = {f"lr/{player}": rate for player, rate in self.stepper.learning_rates(before).items()}
        with running("the strategy's schedule_values()", type(self.strategy)):
            values |= {name: float(value) for name, value in self.strategy.schedule_values(before).items()}
        scheduled = {f"Schedule/{name}": value for name, value in values.items()}
        peaks = {f"Memory/{phase}": round(size / 2**20, 1) for phase, size in self.stepper.peaks.items() if size}
        return scheduled | self.budgets.totals() | peaks

    # ── Samples

    def sample(self, seeds: list[int]) -> np.ndarray:
        """Images (n, channels, height, width) in [-1, 1] of the averaged weights, on every rank: one for each of
        ``seeds``, or where the strategy ``samples_data``, of as many samples from the start of the data.
        """
        clock = self.strategy.within(self.stage, self.clock)
        if self.strategy.samples_data:
            inputs = [self.figure(index, self.stage) for index in range(min(len(seeds), len(self.source)))]
        else:
            inputs = [seeded(self.strategy, clock, seed) for seed in seeds]
        return self.sampler.images(inputs, clock, self.fleet)

    def figure(self, index: int, stage: Stage) -> dict[str, np.ndarray]:
        """Sample ``index`` of the data, or the next that can be read, as a batch of one of ``stage``."""
        source = self.source.at(stage.resolution)
        for tried in range(len(source)):
            try:
                sample = source[(index + tried) % len(source)]
            except GanfleetError as error:
                last = error
            else:
                return {name: to_network(array)[None] for name, array in sample.items()}
        raise last

    # ── Checkpoints

    def snapshot(self) -> Snapshot:
        """Everything that training changes. Every rank takes part, since each remembers its own lanes only.

        Raises:
            NonFinite, DataError: a budget is spent.
        """
        self.settling.settle(self.journal)
        clock, budgets = self.clock, self.budgets
        # Copies, because a thread writes them while later steps change the lanes' own.
        own = {f"{lane}/{name}": copy(each) for lane, kept in self.memory.items() for name, each in kept.items()}
        lanes = {name: array for share in self.fleet.gather(own) for name, array in share.items()}
        return Snapshot(
            tensors=self.program.tensors() | {"lanes": lanes},
            facts={
                "clock": {"step": clock.step, "nimg": clock.nimg},
                "stage": self.stage.name,
                "data": {"position": self.loader.position, "bad": sorted(budgets.bad)},
                "source": self._source_facts(),
                "guard": {"nonfinite": budgets.nonfinite} | ({"rollbacks": self.rollbacks} if self.rollbacks else {}),
                "frozen": self.program.frozen,
                "form": self.program.form,
                "scaler": {phase: scale.state() for phase, scale in self.scales.items()},
                "accepted": self.accepted,
            }
            | ({"ancestors": self.ancestors} if self.ancestors else {}),
            config=self.config.resolved(),
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from ``snapshot``, whatever fleet made it.

        Raises:
            CheckpointMismatch: it does not fit this config's networks, or the data are not those it was made with.
        """
        self.settling.forget()
        facts = snapshot.facts
        before = facts["source"]
        self.source = self.source.as_in_checkpoint(before["classes"], before.get("class_names"))
        now = self._source_facts()
        # An older release kept fewer facts about the data.
        changed = [
            f"{key} was {before[key]}, is {now[key]}" for key in now if key in before and before[key] != now[key]
        ]
        if changed:
            raise CheckpointMismatch(
                f"the data are not those of the checkpoint ({', '.join(changed)}): bring them back to resume"
            )
        stage = stage_of(snapshot, self.strategy)
        if stage != self.stage:
            self._build(stage)
        self.program.load(snapshot.tensors, facts["frozen"])
        for arrays in self.memory.values():
            arrays.clear()
        for name, array in snapshot.tensors["lanes"].items():
            lane, _, name = name.partition("/")
            if int(lane) in self.memory:
                self.memory[int(lane)][name] = array
        for phase, state in facts["scaler"].items():
            if phase in self.scales:
                self.scales[phase].load_state(state)
        self.clock.step, self.clock.nimg = facts["clock"]["step"], facts["clock"]["nimg"]
        self.budgets.bad = set(facts["data"]["bad"])
        self.budgets.nonfinite = facts["guard"]["nonfinite"]
        self.went_back(facts["guard"].get("rollbacks", 0))
        self.accepted = list(facts["accepted"])
        self.ancestors = list(facts.get("ancestors", []))
        self.loader.restart(facts["data"]["position"], stage.batch_size, self.source.at(stage.resolution))

    def went_back(self, times: int) -> None:
        """The run has gone back to a checkpoint so often by now; each time lowers its learning rates."""
        self.rollbacks = times
        self.stepper.lr_factor = self.config.train.rollback_lr**times

    def _source_facts(self) -> dict[str, Any]:
        """What the order of the data and the networks' shapes depend on."""
        facts = {"images": len(self.source), "names": self.source.digest(), **asdict(self.strategy.image)}
        facts["classes"] = self.source.classes
        if facts["text"] is None:  # which older releases did not know
            del facts["text"]
        return facts | ({"class_names": list(self.source.class_names)} if self.source.class_names else {})
