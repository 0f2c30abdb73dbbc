"""A run from its config to its end: data, fleet, run directory, resume, and what happens beside the loop."""

import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ganfleet import config as configs
from ganfleet import fleet, strategies
from ganfleet.clock import Clock
from ganfleet.config import Config
from ganfleet.data import Source, open_section
from ganfleet.engine import contract
from ganfleet.engine.model import Model
from ganfleet.engine.sampler import Inputs, Sampler, seeded
from ganfleet.engine.trainer import Trainer, Watch, check_schedule, stage_of, total_nimg
from ganfleet.errors import CheckpointMismatch, ConfigError, DataError
from ganfleet.observe import Observers
from ganfleet.store import checkpoint, rundir
from ganfleet.store.checkpoint import Snapshot
from ganfleet.strategies.base import ImageSpec, Strategy


def train(config: Config) -> Path:
    """Train as ``config`` says on the fleet that the launcher started; the run's directory.

    Raises:
        GanfleetError: see ``errors``; the message says what to do.
    """
    source = data_of(config)
    strategy = strategy_of(config, source)
    source.prepare([stage.resolution for stage in strategy.schedule()])  # before other ranks wait for this one
    connected = fleet.connect(config.fleet, config.train.lanes)
    run_dir = Path(connected.first(lambda: str(create_directory(config))))
    trainer = Trainer(config, strategy, source, connected)
    resumed_from = resume(trainer, run_dir)
    with RunWatch(trainer, run_dir) as trainer.watch:
        if resumed_from:
            trainer.watch.say(f"resumed from {resumed_from} at {trainer.clock.kimg:g} kimg")
        trainer.run()
    connected.close()
    return run_dir


def data_of(config: Config) -> Source:
    """The source that ``config`` names, at the strategy's resolution.

    Raises:
        ConfigError, DataError: it is missing or damaged.
    """
    return open_section(config.data, config.strategy.resolution)


def strategy_of(config: Config, source: Source) -> Strategy:
    """The strategy that ``config`` names, for images like the source's.

    Raises:
        ConfigError: its schedule does not fit the lanes, or the source's samples are not what it trains on.
        DataError: the source is too small for one batch.
    """
    strategy = new_strategy(config, ImageSpec(source.channels, source.classes))
    contract.samples(strategy, source.names)
    largest = max(stage.batch_size for stage in strategy.schedule())
    if len(source) < largest:
        raise DataError(
            f"data.source {config.data.source} has {len(source)} images, fewer than a batch of {largest}: add images "
            "or lower it"
        )
    return strategy


def new_strategy(config: Config, image: ImageSpec) -> Strategy:
    """The strategy that ``config`` names, for such images.

    Raises:
        ConfigError: its schedule does not fit the lanes.
    """
    strategy = strategies.find(config.strategy.name)(config.strategy, image, config.train.batch_size)
    check_schedule(strategy, config.train.lanes)
    return strategy


def create_directory(config: Config) -> Path:
    """The run's directory, with the resolved config in it."""
    strategy, source = (name.split(":")[-1] for name in (config.strategy.name, config.data.source))
    label = f"{strategy}-{source}{config.strategy.resolution}".lower()
    run_dir = rundir.create(Path(config.run.dir), config.run.name, label)
    found = checkpoint.checkpoints(run_dir / "checkpoints")
    if config.checkpoint.resume != "auto" and found:
        raise ConfigError(
            f"{run_dir} has checkpoints and checkpoint.resume is {config.checkpoint.resume}: set it to auto to go on "
            "from them, or choose another run.name"
        )
    with rundir.writing(run_dir):
        (run_dir / "config.yaml").write_text(configs.dump(config))
    return run_dir


def resume(trainer: Trainer, run_dir: Path) -> Path | None:
    """Bring ``trainer`` to where its run stopped, and say which checkpoint that was; None where it begins.

    Raises:
        CheckpointDamaged: checkpoints are there, and none is whole.
        CheckpointMismatch: the config has changed in what the result depends on.
    """
    path = trainer.fleet.first(lambda: find_checkpoint(trainer.config, run_dir))
    if path is None:
        return None
    snapshot = checkpoint.load(Path(path))
    check_same_config(snapshot, trainer.config, path)
    trainer.restore(snapshot)
    return Path(path)


def find_checkpoint(config: Config, run_dir: Path) -> str | None:
    """The checkpoint that ``checkpoint.resume`` asks for."""
    match config.checkpoint.resume:
        case "never":
            return None
        case "auto":
            path, damaged = checkpoint.newest_valid(run_dir / "checkpoints")
        case given:
            path, damaged = checkpoint.resolve(Path(given))
    for line in damaged:
        print(f"ganfleet: {line}", file=sys.stderr)
    return str(path) if path else None


def check_same_config(snapshot: Snapshot, config: Config, path: str) -> None:
    """Refuse to go on with a config that would have given another model.

    Raises:
        CheckpointMismatch: naming each changed key with both values.
    """
    changed, _ = configs.differences(snapshot.config, config)
    if changed:
        lines = "; ".join(f"{key} was {old}, is {new}" for key, old, new in changed)
        raise CheckpointMismatch(
            f"{path} was made with another config: {lines}. Put these back, or start a new run (another run.name)"
        )


class RunWatch(Watch):
    """Logs, sample grids and checkpoints of the run in ``run_dir``. Rank 0 writes; every rank takes part."""

    def __init__(self, trainer: Trainer, run_dir: Path):
        config, clock = trainer.config, trainer.clock
        self._trainer = trainer
        self._checkpoints = run_dir / "checkpoints"
        self._log, self._checkpoint = config.log, config.checkpoint
        self._seeds = list(range(config.log.samples))
        self._saved_step: int | None = None
        self._observers = None
        if trainer.fleet.rank == 0:
            self._observers = Observers(run_dir, configs.dump(config), clock, config.log.every_steps)

    def __enter__(self):
        trainer = self._trainer
        self.say(
            f"{trainer.config.strategy.name}: {trainer.fleet.world_size} x {trainer.fleet.backend}, "
            f"{trainer.fleet.total_lanes} lanes, reduction {trainer.fleet.reduction}"
        )
        if trainer.clock.step == 0:
            self._sample()
        return self

    def __exit__(self, *_):
        if self._observers:
            self._observers.close()

    def say(self, message):
        if self._observers:
            self._observers.say(message)

    def after_step(self, trainer, stats):
        clock, batch_size = trainer.clock, trainer.stage.batch_size
        if self._observers:
            scalars = {name: value for name, value in stats.items() if np.ndim(value) == 0}
            totals = {"Progress/nonfinite": trainer.budgets.nonfinite, "Progress/bad_images": len(trainer.budgets.bad)}
            self._observers.after_step(clock, trainer.stage, scalars, totals)
        if clock.done or clock.crossed(self._log.samples_every_kimg * 1000, batch_size):
            self._sample()
        if clock.done or clock.crossed(self._checkpoint.every_kimg * 1000, batch_size):
            self._save()

    def before_stop(self, trainer):
        if self._saved_step != trainer.clock.step:
            self._save()

    def _sample(self):
        with self._paused():
            images = self._trainer.sample(self._seeds)
            self._trainer.fleet.first(lambda: self._observers.samples(self._trainer.clock, images))

    def _save(self):
        trainer, keep = self._trainer, self._checkpoint.keep
        with self._paused():
            snapshot = trainer.snapshot()
            path = trainer.fleet.first(lambda: checkpoint.save(self._checkpoints, snapshot, trainer.clock.step, keep))
        self._saved_step = trainer.clock.step
        self.say(f"saved {path}")

    @contextmanager
    def _paused(self):
        if self._observers:
            with self._observers.pause():
                yield
        else:
            yield


class Studio:
    """A checkpoint's networks, ready to draw images; on a fleet every rank has one."""

    def __init__(self, path: Path):
        """Load the checkpoint that ``path`` means.

        Raises:
            ConfigError: there is no checkpoint at ``path``.
            CheckpointDamaged: there is, and it is not whole.
        """
        found, damaged = checkpoint.resolve(path)
        for line in damaged:
            print(f"ganfleet: {line}", file=sys.stderr)
        snapshot = checkpoint.load(found)
        config = configs.from_resolved(snapshot.config)
        world_size = fleet.launcher.detect().world_size
        self.fleet = fleet.connect(config.fleet.model_copy(update={"backend": "auto", "world_size": None}), world_size)
        image = ImageSpec(snapshot.facts["source"]["channels"], snapshot.facts["source"]["classes"])
        self.strategy = new_strategy(config, image)
        self.stage = stage_of(snapshot, self.strategy)
        self.model = Model(self.strategy, config.train.seed, self.stage)
        self.model.load(snapshot.tensors)
        self.strategy.load_state(snapshot.tensors["strategy"])
        total = total_nimg(config.train.kimg, config.train.steps, self.strategy)
        self.clock = self.strategy.within(self.stage, Clock(total, **snapshot.facts["clock"]))
        self._sampler = Sampler(self.strategy, self.model)

    def inputs(self, seed: int, label: int | None = None) -> Inputs:
        """What the image of ``seed`` is made of."""
        return seeded(self.strategy, self.clock, seed, label)

    def images(self, inputs: list[Inputs], ema: bool = True) -> np.ndarray:
        """Images (len(inputs), channels, height, width) in [-1, 1], on every rank."""
        return self._sampler.images(inputs, self.clock, self.fleet, ema)

    def close(self) -> None:
        self.fleet.close()
