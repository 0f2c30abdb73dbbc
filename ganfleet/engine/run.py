"""A run from its config to its end: data, fleet, run directory, resume, and what happens beside the loop.

Nothing is written before everything that could refuse the start has been asked.
"""

import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms

from ganfleet import __version__, fleet
from ganfleet import config as configs
from ganfleet.config import Config
from ganfleet.data import Source, as_source, open_section
from ganfleet.data.labels import described
from ganfleet.engine import callbacks as parts
from ganfleet.engine import contract
from ganfleet.engine.ahead import Ahead
from ganfleet.engine.callbacks import Callback
from ganfleet.engine.journal import Journal
from ganfleet.engine.measuring import OfRun
from ganfleet.engine.resume import find, initialize, refuse_early, resume
from ganfleet.engine.saving import Checkpoints
from ganfleet.engine.schedule import check_schedule
from ganfleet.engine.trainer import Trainer
from ganfleet.errors import ConfigError, DataError, GanfleetError, StorageError
from ganfleet.fleet import Fleet
from ganfleet.nn import forms, precision
from ganfleet.observe import Observers
from ganfleet.observe.history import History
from ganfleet.plugins import CALLBACKS, STRATEGIES
from ganfleet.store import rundir
from ganfleet.store.rundir import RunDir
from ganfleet.strategies.base import ImageSpec, Strategy

MORE_CALLBACKS = "GANFLEET_CALLBACKS"  # names some for every run that is started, beside those of its config


def train(config: Config, source: Any = None, callbacks: Sequence[Callback] = ()) -> Path:
    """Train as ``config`` says on the fleet that the launcher started; the run's directory.

    Args:
        source: what to train on instead of the config's ``data.source``; see ``ganfleet.data.as_source``.
        callbacks: beside those that the config names.

    Raises:
        GanfleetError: see ``errors``; the message says what to do.
    """
    with forms.using(forms.form()):  # a checkpoint to go on from may need another, for as long as the run lasts
        return _train(config, source, callbacks)


def _train(config: Config, source: Any, callbacks: Sequence[Callback]) -> Path:
    if fleet.launcher.detect().is_scheduler:  # it has nothing to prepare, and does not come back from here
        fleet.connect(config.fleet, config.train.lanes)
    parts, error = None, None
    try:
        parts = prepare(config, source, callbacks)
    except GanfleetError as met:
        if fleet.launcher.detect().world_size == 1:
            raise
        error = met  # perhaps of this rank alone: the others are told once the fleet has connected
    connected = fleet.connect(config.fleet, config.train.lanes)
    try:
        connected.agree(error)
        connected.same(parts.facts(), DataError)
        run_dir = _run(config, parts, connected)
    except BaseException:
        if connected.world_size == 1 or connected.backend == "simulated":
            connected.close()  # of others, some may not answer any more
        raise
    connected.close()
    return run_dir


@dataclass
class Prepared:
    """What a rank gets ready before it connects."""

    config: Config
    source: Source
    strategy: Strategy
    callbacks: list[Callback]
    measure: OfRun

    def facts(self) -> dict[str, Any]:
        """What every rank must see alike."""
        sections = self.config.resolved()
        keys = {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}
        return keys | {
            "ganfleet's version": __version__,
            "the number of images": len(self.source),
            "the names of the images (SHA-256)": self.source.digest(),
            "the number of channels": self.source.channels,
            "the number of classes": self.source.classes,
            "the weights of the network of features (SHA-256)": self.measure.network_sha256,
            "the form of the kernels (which fleet.kernels=stock makes alike)": forms.form(),
        }


def prepare(config: Config, source: Any = None, callbacks: Sequence[Callback] = ()) -> Prepared:
    """Open the data and make the strategy: all that can be refused before the fleet connects, and all that takes long.

    Raises:
        GanfleetError: something of it is missing, damaged or does not fit.
    """
    source = data_of(config) if source is None else as_source(source, config.strategy.resolution)
    strategy = strategy_of(config, source)
    contract.current(strategy)
    forms.use(forms.STOCK if config.fleet.kernels == "stock" else None)
    unsupported = precision.supported(config.train.precision)
    if unsupported:
        raise ConfigError(f"train.precision is {config.train.precision}: {unsupported}")
    named = [_made(name) for name in (*config.run.callbacks, *os.environ.get(MORE_CALLBACKS, "").split())]
    measure = OfRun(config, strategy, source)
    refuse_early(config)
    source.prepare([stage.resolution for stage in strategy.schedule()])
    return Prepared(config, source, strategy, [*named, *callbacks], measure)


def _made(callback: str) -> Callback:
    """The callback that a config names.

    Raises:
        ConfigError: there is none, or it cannot be made without arguments.
    """
    found = CALLBACKS.find(callback)
    try:
        return found()
    except TypeError as error:
        raise ConfigError(f"run.callbacks: {callback} must be made without arguments ({error})") from error


def _run(config: Config, prepared: Prepared, connected: Fleet) -> Path:
    """Train on a fleet that has connected."""
    with ExitStack() as stack:
        run_dir: RunDir | None = None

        def take() -> tuple[Path, str]:
            nonlocal run_dir
            run_dir = stack.enter_context(rundir.plan(config.run.dir, config.run.name, label_of(config)))
            return run_dir.path, run_dir.sign

        path, sign = connected.first(take)
        with connected.agreeing():
            rundir.check_shared(path, sign)
        found = find(config, path, connected)
        trainer = Trainer(config, prepared.strategy, prepared.source, connected, directory=path)
        notes = resume(trainer, found) if found else initialize(trainer)
        if trainer.clock.done:
            if connected.rank == 0:
                print(*notes, f"{path} has reached its end: raise train.kimg or train.steps to go on", sep="\n")
            return path

        def begin() -> None:
            run_dir.create()
            fleet.heartbeat.tell_run(str(run_dir.path))
            run_dir.write_config(configs.dump(config))

        connected.first(begin)
        goes_on = config.checkpoint.on_full == "continue"
        journal = stack.enter_context(Journal(_observers(config, trainer, path), goes_on))
        trainer.journal = journal
        trainer.callbacks = (
            parts.Log(),
            *prepared.callbacks,  # before those that tell them of samples, metrics and checkpoints
            parts.Samples(),
            parts.Metrics(prepared.measure),
            Checkpoints(run_dir),
            Ahead(),
            *([parts.HugePages()] if connected.on_cpu else []),
        )
        journal.say(
            f"{config.strategy.name}: {connected.world_size} x {connected.backend}, {connected.total_lanes} lanes, "
            f"reduction {connected.reduction}"
        )
        for note in [*notes, *about(trainer.source)]:
            journal.say(note)
        with _recorded(trainer, notes):
            trainer.run()
        return path


@contextmanager
def _recorded(trainer: Trainer, notes: Sequence[str]) -> Iterator[None]:
    """A block that trains: what this process is, what the user was told, and how the block ends, in history.jsonl."""
    connected, history = trainer.fleet, None

    def start() -> None:
        nonlocal history
        history = History(trainer.directory)
        history.started(
            trainer.clock,
            notes=list(notes),
            model=inspect.cleandoc(type(trainer.strategy).__doc__ or "").partition("\n")[0],
            directions=list(trainer.strategy.translations()),
            mindspore=ms.__version__,
            device=ms.get_context("device_target"),
            kernels=forms.form(),
            ranks=connected.world_size,
            backend=connected.backend,
            reduction=connected.reduction,
            lanes=connected.total_lanes,
        )

    connected.first(start)
    try:
        yield
    except BaseException as error:
        if history:
            with suppress(StorageError):  # which may be what ended the run
                history.ended(trainer.clock, error)
        raise
    connected.first(lambda: history.ended(trainer.clock, None))


def _observers(config: Config, trainer: Trainer, path: Path) -> Observers | None:
    if trainer.fleet.rank:
        return None
    grows = len({stage.batch_size for stage in trainer.strategy.schedule()}) > 1
    return Observers(path, configs.dump(config), trainer.clock, config.log.every_steps, by_images=grows)


def about(source: Source) -> list[str]:
    """What a user is told of the data once, in a line each: the numbers of the classes, and what is left out."""
    return [f"classes: {described(source.class_names)}"] * bool(source.class_names) + source.notes()


# ── What a config names


def label_of(config: Config) -> str:
    """What a run directory is called that has no name."""
    source = config.data.source.split(":")[-1]
    return f"{config.strategy.name.split(':')[-1]}-{source}{config.strategy.resolution}".lower()


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
    strategy = new_strategy(config, ImageSpec(source.channels, source.classes, getattr(source, "text", None)))
    contract.samples(strategy, source.names, getattr(source, "are_pairs", True))
    largest = max(stage.batch_size for stage in strategy.schedule())
    if len(source) < largest:
        raise DataError(
            f"data.source {config.data.source} has {len(source)} images, fewer than a batch of {largest}: add images "
            "or lower it"
        )
    return strategy


def new_strategy(config: Config, image: ImageSpec, found: type[Strategy] | None = None) -> Strategy:
    """The strategy that ``config`` names, or of the class ``found``, for such images.

    Raises:
        ConfigError: its schedule does not fit the lanes.
    """
    found = found or STRATEGIES.find(config.strategy.name)
    strategy = contract.make(found, config.strategy, image, config.train.batch_size)
    if config.train.init_from is not None:  # else what the class says: an attribute more is another name for graphs
        strategy.begins_trained = True
    check_schedule(strategy, config.train.lanes)
    return strategy
