"""A checkpoint that was loaded to make images with: samples, figures, translations, and chains of several."""

import atexit
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from mindspore import nn

from ganfleet import config as configs
from ganfleet import fleet as fleets
from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.engine.program import Program
from ganfleet.engine.run import new_strategy
from ganfleet.engine.sampler import Inputs, Sampler, agreed, graphs, seeded, shared, shares
from ganfleet.engine.schedule import stage_of, total_nimg
from ganfleet.engine.translate import Translator
from ganfleet.errors import ConfigError
from ganfleet.fleet import Fleet
from ganfleet.store import checkpoint
from ganfleet.store.checkpoint import Snapshot
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.figure import Animation, Figure, Picture
from ganfleet.strategies.options import Options, read_options


class Drawing:
    """What draws images of seeds: a loaded checkpoint, or a chain of them. A context manager that closes it.

    ``fleet`` is the one this process is in; every rank calls the same methods with the same arguments.
    """

    fleet: Fleet

    @property
    def schema(self) -> type[Options]:
        """Of the sample options."""
        raise NotImplementedError

    def sample(
        self, seeds: Sequence[int], classes: int | Sequence[int] | None = None, ema: bool | None = None, **options
    ) -> np.ndarray:
        """Images float32 (n, channels, height, width) in [-1, 1] of n ``seeds``, on every rank.

        Args:
            seeds: the image of a seed has the same latents in every run and in a run's own grids.
            classes: one class for all images, or one for each; None for any.
            ema: whether averaged weights are used; by default as it was loaded.
            options: the strategy's sample options.

        Raises:
            ConfigError: an option is unknown, or the model has no such classes or no seeds.
        """
        seeds, labels = paired(seeds, classes)
        [checked] = read_options(options, self.schema)
        with self._holding(ema):
            return shared(
                self.fleet,
                len(seeds),
                lambda mine: self._draw([seeds[i] for i in mine], [labels[i] for i in mine], checked),
            )

    def each(
        self, seeds: Sequence[int], classes: int | Sequence[int] | None = None, ema: bool | None = None, **options
    ) -> Iterator[tuple[int, np.ndarray]]:
        """This rank's share of what ``sample`` gives, as (position among the seeds, image), a few at a time in memory.

        Raises:
            ConfigError: as ``sample`` does, but on the rank alone whose image it is.
        """
        seeds, labels = paired(seeds, classes)
        [checked] = read_options(options, self.schema)
        with self._holding(ema):
            for mine in shares(self.fleet, len(seeds)):
                images = self._draw([seeds[i] for i in mine], [labels[i] for i in mine], checked)
                yield from zip(mine, images, strict=True)

    def then(self, following: "Loaded", **options) -> "Chain":
        """A chain in which ``following`` goes on from these images, say to a higher resolution.

        ``options`` are sample options of ``following``.

        Raises:
            ConfigError: it takes images of other channels, or an option is unknown.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Leave the fleet."""
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _holding(self, ema: bool | None) -> ExitStack:
        """While it lasts, networks hold averaged weights or the training ones."""
        raise NotImplementedError

    def _draw(self, seeds: list[int], labels: list[int | None], options: Options) -> np.ndarray:
        """Images of one to CHUNK seeds, by this process alone."""
        raise NotImplementedError


class Loaded(Drawing):
    """A checkpoint's networks, its strategy, and the ``config`` they were trained with.

    Attributes:
        strategy: the Strategy, for images like those it was trained on.
        stage: the stage whose networks were stored.
        clock: when they were.
    """

    def __init__(self, path: str | Path, strategy: str | None = None, ema: bool = True):
        """Load the checkpoint that ``path`` means: itself, or the newest valid one of a run directory. See ``load``."""
        self.path, self.ema = Path(path), ema
        self._averaged, self._holds_average = ExitStack(), False
        self.fleet = _fleet_of_this_process()
        _open.add(self)
        try:
            first = self.fleet.rank == 0
            self.config, snapshot = agreed(self.fleet, lambda: _read(self.path, strategy, tell=first))
            image = ImageSpec(snapshot.facts["source"]["channels"], snapshot.facts["source"]["classes"])
            self.strategy = new_strategy(self.config, image)
            self._restore(snapshot)
        except BaseException:
            self.close()
            raise

    def _restore(self, snapshot: Snapshot) -> None:
        self.stage = stage_of(snapshot, self.strategy)
        train = self.config.train
        self._program = Program(self.strategy, self.stage, train.seed, train.precision)
        self._program.load(snapshot.tensors, snapshot.facts["frozen"])
        for net in vars(self._program.nets).values():
            net.set_train(False)
        total = total_nimg(train.kimg, train.steps, self.strategy)
        self.clock = self.strategy.within(self.stage, Clock(total, **snapshot.facts["clock"]))
        self._sampler = Sampler(self._program)
        self._graph = graphs(self._program.nets)

    @property
    def networks(self) -> dict[str, nn.Cell]:
        """The networks by name, in evaluation mode, with the weights that ``load`` was asked for.

        Those are averaged weights, or the training ones with ``ema=False`` and where a player has no EMA.
        """
        self._hold(self.ema)
        return dict(vars(self._program.nets))

    def figure(self, name: str, /, label: int | None = None, ema: bool | None = None, **options) -> Picture | Animation:
        """The figure called ``name``, on every rank; ``options`` are its own and the strategy's sample options.

        Raises:
            ConfigError: the strategy has no such figure, or an option is unknown or wrong.
        """
        figure = self.find_figure(name)
        own, sample = self.figure_options(figure, options)

        def inputs_of(seed: int) -> Inputs:
            return self.strategy.with_options(seeded(self.strategy, self.clock, seed, label), sample)

        def draw(inputs: Sequence[Inputs]) -> np.ndarray:
            return shared(self.fleet, len(inputs), lambda mine: self._sampler.draw([inputs[i] for i in mine]))

        with self._holding(ema):
            return figure.draw(inputs_of, draw, own)

    def find_figure(self, name: str) -> Figure:
        """The strategy's figure called ``name``.

        Raises:
            ConfigError: it has none of that name.
        """
        offered = self.strategy.figures()
        if name not in offered:
            known = f"it has {', '.join(offered)}" if offered else "it has none"
            raise ConfigError(f"{self.path}, a {self.config.strategy.name}, has no figure {name!r}: {known}")
        return offered[name]

    def figure_options(self, figure: Figure, options: dict) -> tuple[Options, Options]:
        """``options`` as those of ``figure`` and the strategy's sample options.

        Raises:
            ConfigError: one is unknown or wrong, or one that the figure chooses itself is given.
        """
        chosen = [key for key in options if key in figure.varies and key not in figure.Options.model_fields]
        if chosen:
            raise ConfigError(f"this figure shows every choice of {chosen[0]}: leave {chosen[0]}= out")
        own, sample = read_options(options, figure.Options, self.strategy.SampleOptions)
        return own, sample

    def translate(self, image: np.ndarray, direction: str, ema: bool | None = None) -> np.ndarray:
        """``image`` float32 (channels, h, w) in [-1, 1], of any size, translated in ``direction``; the same shape.

        Not shared: every rank translates the images that it is given.

        Raises:
            ConfigError: the strategy knows no such direction, or the image has other channels.
        """
        translator = self.translator(direction)
        with self._holding(ema):
            return translator(image)

    def translator(self, direction: str) -> Translator:
        """What translates in ``direction``.

        Raises:
            ConfigError: the strategy knows no such direction, or does not translate at all.
        """
        offered = self.strategy.translations()
        if direction not in offered:
            known = f"its directions are {', '.join(offered)}" if offered else "it makes images from nothing else"
            raise ConfigError(
                f"{self.path}, a {self.config.strategy.name}, does not translate images {direction}: {known}"
            )
        self._hold(self.ema)
        return Translator(offered, direction, self.strategy.image.channels, self._graph)

    def then(self, following, **options):
        return Chain(self, [(following, options)])

    def close(self):
        if self not in _open:
            return
        self._averaged.close()
        _open.discard(self)
        if not any(other.fleet is self.fleet for other in _open):
            self.fleet.close()

    @property
    def schema(self):
        return self.strategy.SampleOptions

    def _draw(self, seeds, labels, options):
        inputs = [seeded(self.strategy, self.clock, seed, label) for seed, label in zip(seeds, labels, strict=True)]
        return self._sampler.draw([self.strategy.with_options(each, options) for each in inputs])

    def go_on_from(
        self, images: np.ndarray, seeds: list[int], labels: list[int | None], position: int, options: Options
    ) -> np.ndarray:
        """What this model, number ``position`` of a chain, makes of ``images`` of the one before, one for each seed."""
        inputs = []
        for image, seed, label in zip(images, seeds, labels, strict=True):
            stream = rng.stream(seed, "sample/then", position)
            made = self.strategy.from_images(image[None], stream, self.clock, label)
            inputs.append(self.strategy.with_options(made, options))
        return self._sampler.draw(inputs)

    def _holding(self, ema):
        self._hold(self.ema if ema is None else ema)
        after = ExitStack()
        after.callback(self._hold, self.ema)
        return after

    def _hold(self, average: bool) -> None:
        if average == self._holds_average:
            return
        self._averaged.close()
        self._averaged = ExitStack()
        if average:
            self._averaged.enter_context(self._sampler.averaged(self.clock))
        self._holds_average = average


class Chain(Drawing):
    """Several loaded checkpoints, each of which goes on from the images of the one before."""

    def __init__(self, first: Loaded, following: list[tuple[Loaded, dict]]):
        self.first, self.fleet = first, first.fleet
        self._following = [(each, read_options(options, each.strategy.SampleOptions)[0]) for each, options in following]
        before = first
        for each, _ in self._following:
            if each.strategy.image.channels != before.strategy.image.channels:
                raise ConfigError(
                    f"{each.path} takes images of {each.strategy.image.channels} channels, but {before.path} draws "
                    f"those of {before.strategy.image.channels}: chain models of one kind"
                )
            before = each
        self._given = following

    def then(self, following, **options):
        return Chain(self.first, [*self._given, (following, options)])

    def close(self):
        for each in (self.first, *(loaded for loaded, _ in self._following)):
            each.close()

    @property
    def schema(self):
        return self.first.strategy.SampleOptions

    def _draw(self, seeds, labels, options):
        images = self.first._draw(seeds, labels, options)
        for position, (each, own) in enumerate(self._following, start=1):
            images = each.go_on_from(images, seeds, labels, position, own)
        return images

    def _holding(self, ema):
        after = ExitStack()
        for each in (self.first, *(loaded for loaded, _ in self._following)):
            after.enter_context(each._holding(ema))
        return after


def load(path: str | Path, strategy: str | None = None, ema: bool = True) -> Loaded:
    """The checkpoint that ``path`` means, itself or the newest valid one of a run directory, ready to make images.

    Nothing is written. Started by msrun or mpiexec, every rank loads it, and they share the work; how many ranks
    trained it does not matter.

    Args:
        path: a checkpoint or a run directory.
        strategy: whose code to use. By default that is what the checkpoint names, if it is installed; code that it
            names as ``module:Class`` is imported only if it is named here too.
        ema: whether images are made with averaged weights, where there are some.

    Raises:
        ConfigError: there is no checkpoint at ``path``, or its strategy is not installed or not trusted.
        CheckpointDamaged: there is, and it is not whole.
        CheckpointMismatch: it does not fit this version of ganfleet or of its strategy.
    """
    return Loaded(path, strategy, ema)


def paired(seeds: Sequence[int], classes: int | Sequence[int] | None) -> tuple[list[int], list[int | None]]:
    """A class, or None, for each seed.

    Raises:
        ConfigError: there is no seed, or not a class for each.
    """
    seeds = [int(seed) for seed in seeds]
    if not seeds:
        raise ConfigError("there are no seeds: give one for each image")
    if classes is None or isinstance(classes, int | np.integer):
        return seeds, [classes if classes is None else int(classes)] * len(seeds)
    if len(classes) != len(seeds):
        raise ConfigError(f"there are {len(classes)} classes for {len(seeds)} seeds: give one class, or one for each")
    return seeds, [int(each) for each in classes]


_open: "weakref.WeakSet[Loaded]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Networks get their own weights back by graphs, which the end of Python would be too late for."""
    for loaded in list(_open):
        loaded.close()


def _fleet_of_this_process() -> Fleet:
    """The fleet that the launcher started, with nothing taken over from the run: connected once, closed with the last.

    Images do not depend on lanes, so one for each rank will do.
    """
    for loaded in _open:
        return loaded.fleet
    return fleets.connect_for_sampling()


def _read(path: Path, strategy: str | None, tell: bool) -> tuple[configs.Config, Snapshot]:
    found, damaged = checkpoint.resolve(path)
    for line in damaged if tell else ():
        print(f"ganfleet: {line}", file=sys.stderr)
    snapshot = checkpoint.load(found)
    name = snapshot.config["strategy"]["name"]
    if ":" in name and strategy is None:
        raise ConfigError(
            f"{found} was trained with {name}, code that no installed package offers, and a checkpoint alone does not "
            f"get code imported: if you trust it, add --strategy {name} (in Python, strategy={name!r})"
        )
    return configs.from_resolved(snapshot.config, strategy), snapshot
