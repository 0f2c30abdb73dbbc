"""A checkpoint that was loaded to make images with: samples, figures, translations, and chains of several."""

import atexit
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
from mindspore import nn

from ganfleet import config as configs
from ganfleet import fleet as fleets
from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.engine.chain import Chain, Drawing
from ganfleet.engine.picture_files import with_images
from ganfleet.engine.pictures import FromSeeds, asked, drawn_with
from ganfleet.engine.program import Program
from ganfleet.engine.run import new_strategy
from ganfleet.engine.sampler import Inputs, Sampler, graphs, seeded, shared
from ganfleet.engine.schedule import stage_of, total_nimg
from ganfleet.engine.translate import Translator
from ganfleet.errors import ConfigError
from ganfleet.fleet import Fleet
from ganfleet.nn import forms
from ganfleet.store import checkpoint
from ganfleet.store.checkpoint import Snapshot
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.figure import Animation, Figure, Picture
from ganfleet.strategies.options import Options, read_options


class Loaded(Drawing):
    """A checkpoint's networks, its strategy, and the ``config`` they were trained with.

    Attributes:
        strategy: the Strategy, for images like those it was trained on.
        checkpoint: the path of the checkpoint itself.
        stage: the stage whose networks were stored.
        clock: when they were.
        ema: whether the networks have averaged weights.
    """

    def __init__(self, path: str | Path, strategy: str | None = None, ema: bool | None = None):
        """Load the checkpoint that ``path`` means: itself, or the newest valid one of a run directory. See ``load``."""
        self.path = Path(path)
        self._averaged, self._holds_average = ExitStack(), False
        self.fleet = _fleet_of_this_process()
        _open.add(self)
        try:
            with self.fleet.agreeing():
                self.checkpoint, self.config, snapshot = _read(self.path, strategy, tell=self.fleet.rank == 0)
                self.class_names = snapshot.facts["source"].get("class_names", ())
                self.strategy = new_strategy(self.config, ImageSpec.of(snapshot.facts["source"]))
                self.strategy.trains = False
                self._restore(snapshot)
                self._check_average(ema)
                self.ema = ema is not False and self._has_average()
        except BaseException:
            self.close()
            raise

    def _restore(self, snapshot: Snapshot) -> None:
        self.stage = stage_of(snapshot, self.strategy)
        train = self.config.train
        with forms.using(_runnable(snapshot.facts["form"])):
            self._program = Program(self.strategy, self.stage, train.seed, train.precision, of=self.checkpoint)
        del self.strategy.trains  # an attribute more is another name for graphs
        self._program.load(snapshot.tensors, snapshot.facts["frozen"])
        for net in vars(self._program.nets).values():
            net.set_train(False)
        total = total_nimg(train.kimg, train.steps, self.strategy)
        self.clock = self.strategy.within(self.stage, Clock(total, **snapshot.facts["clock"]))
        self._sampler = Sampler(self._program)
        self._graph = graphs(self._program)

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

        def inputs_of(seed: int) -> Inputs:
            return self.inputs(seed, label, sample)

        def draw(inputs: Sequence[Inputs]) -> np.ndarray:
            return shared(self.fleet, len(inputs), lambda mine: self._sampler.draw([inputs[i] for i in mine]))

        # What a figure refuses itself, every rank meets before it draws.
        with self.fleet.agreeing(), self._holding(ema):
            figure = self.find_figure(name)
            own, sample = self.figure_options(figure, options)
            own = with_images(own, self.strategy.image.channels, self.stage.resolution)
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
        return read_options(options, figure.Options, self.strategy.SampleOptions)

    def translate(self, image: np.ndarray, direction: str, ema: bool | None = None) -> np.ndarray:
        """``image`` float32 (channels, h, w) in [-1, 1], of any size, translated in ``direction``; the same shape.

        Not shared: every rank translates the images that it is given.

        Raises:
            ConfigError: the strategy knows no such direction, or the image has other channels.
        """
        translator = self.translator(direction)
        with self._holding(ema):
            return translator(image)

    def from_seeds(self, options: Options) -> FromSeeds:
        """What draws images with ``options``, sample options that are checked, for metrics."""
        facts = (*drawn_with(self._program, self.clock, self.ema), str(options))
        change = partial(asked, self.strategy, options)
        return FromSeeds(self._program, self._sampler, self.clock, lambda: self._holding(None), facts, change)

    def drawn_with(self) -> tuple:
        """What images depend on beside their inputs."""
        return drawn_with(self._program, self.clock, self.ema)

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

    def run(self, function: Callable, inputs: Inputs) -> np.ndarray:
        """What the strategy's ``function(nets, inputs)`` makes of ``inputs``, by this process alone."""
        self._hold(self.ema)
        return self._graph(function)(inputs)

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

    def inputs(self, seed: int, label: int | None, options: Options) -> Inputs:
        """What the image of ``seed`` is made of, of the class ``label`` and as the sample ``options`` ask."""
        return self.strategy.with_options(seeded(self.strategy, self.clock, seed, label), options)

    def draw(self, inputs: list[Inputs]) -> np.ndarray:
        """Images (n, channels, height, width) in [-1, 1] of what ``inputs`` gave for one to CHUNK, by this process."""
        self._hold(self.ema)
        return self._sampler.draw(inputs)

    def _draw(self, seeds, labels, options):
        return self._sampler.draw(
            [self.inputs(seed, label, options) for seed, label in zip(seeds, labels, strict=True)]
        )

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

    def _check_average(self, asked: bool | None) -> None:
        """
        Raises:
            ConfigError: averaged weights are asked for, and there are none.
        """
        if asked and not self._has_average():
            raise ConfigError(f"{self.path} has no averaged weights: leave ema (--ema) out to use the trained ones")

    def _has_average(self) -> bool:
        return any(player.ema for player in self._program.players.values())

    def _holding(self, ema):
        self._check_average(ema)
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


def load(path: str | Path, strategy: str | None = None, ema: bool | None = None) -> Loaded:
    """The checkpoint that ``path`` means, itself or the newest valid one of a run directory, ready to make images.

    Nothing is written. Started by msrun or mpiexec, every rank loads it, and they share the work; how many ranks
    trained it does not matter.

    Args:
        path: a checkpoint or a run directory.
        strategy: whose code to use. By default that is what the checkpoint names, if it is installed; code that it
            names as ``module:Class`` is imported only if it is named here too.
        ema: whether images are made with averaged weights; by default they are where there are some.

    Raises:
        ConfigError: there is no checkpoint at ``path``, or its strategy is not installed or not trusted; or averaged
            weights are asked for, and there are none.
        CheckpointDamaged: there is, and it is not whole.
        CheckpointMismatch: it does not fit this version of ganfleet or of its strategy.
    """
    if not isinstance(path, str | PathLike):
        raise ConfigError(f"{path!r} is no path: give that of a run or of a checkpoint")
    return Loaded(path, strategy, ema)


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


def _runnable(form: str) -> str:
    """``form``, or where this machine cannot run it the one in force: images are then equal to rounding."""
    try:
        with forms.using(form):
            return form
    except ConfigError:
        return forms.form()


def _read(path: Path, strategy: str | None, tell: bool) -> tuple[Path, configs.Config, Snapshot]:
    found, damaged = checkpoint.resolve(path)
    for line in damaged if tell else ():
        print(f"ganfleet: {line}", file=sys.stderr)
    snapshot = checkpoint.load(found)
    return found, configs.from_resolved(snapshot.config, strategy), snapshot
