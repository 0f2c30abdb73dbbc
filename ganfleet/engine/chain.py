"""What draws images of seeds, and chains of checkpoints each of which goes on from the images of the one before."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from ganfleet.engine.sampler import shared, shares
from ganfleet.errors import ConfigError
from ganfleet.fleet import Fleet
from ganfleet.strategies.options import LARGEST, Options, read_options

if TYPE_CHECKING:
    from ganfleet.engine.loaded import Loaded


class Drawing:
    """What draws images of seeds: a loaded checkpoint, or a chain of them. A context manager that closes it.

    ``fleet`` is the one this process is in; every rank calls the same methods with the same arguments. ``class_names``
    are those of classes 0, 1, 2 …, where the training data had names for them.
    """

    fleet: Fleet
    class_names: Sequence[str] = ()

    @property
    def schema(self) -> type[Options]:
        """Of the sample options."""
        raise NotImplementedError

    def sample(
        self,
        seeds: Sequence[int],
        classes: int | Sequence[int] | None = None,
        ema: bool | None = None,
        progress: Callable[[int], None] | None = None,
        **options,
    ) -> np.ndarray:
        """Images float32 (n, channels, height, width) in [-1, 1] of n ``seeds``, on every rank.

        Args:
            seeds: the image of a seed has the same latents in every run and in a run's own grids.
            classes: one class for all images, or one for each; None for any.
            ema: whether averaged weights are used; by default as it was loaded.
            progress: is told how many images are done.
            options: the strategy's sample options.

        Raises:
            ConfigError: an option is unknown, or the model has no such classes or no seeds.
        """
        with self.fleet.agreeing():
            seeds, labels = paired(seeds, classes)
            [checked] = read_options(options, self.schema)
        with self._holding(ema):
            return shared(
                self.fleet,
                len(seeds),
                lambda mine: self._draw([seeds[i] for i in mine], [labels[i] for i in mine], checked),
                progress,
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


class Chain(Drawing):
    """Several loaded checkpoints, each of which goes on from the images of the one before."""

    def __init__(self, first: "Loaded", following: list[tuple["Loaded", dict]]):
        self.first, self.fleet, self.class_names = first, first.fleet, first.class_names
        for each, _ in following:
            if not hasattr(each, "go_on_from"):
                raise ConfigError(f"{each!r} cannot go on in a chain: give what ganfleet.load returned")
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


def paired(seeds: Sequence[int], classes: int | Sequence[int] | None) -> tuple[list[int], list[int | None]]:
    """A class, or None, for each seed.

    Raises:
        ConfigError: there is no seed, or not a class for each.
    """
    if isinstance(seeds, str) or not np.iterable(seeds):
        raise ConfigError(f"seeds is {seeds!r}: give a list of them, one for each image, such as [0, 1] or range(8)")
    seeds = [whole("seed", each) for each in seeds]
    if not seeds:
        raise ConfigError("there are no seeds: give one for each image")
    if classes is None:
        return seeds, [None] * len(seeds)
    if isinstance(classes, str) or not np.iterable(classes):
        return seeds, [whole("class", classes)] * len(seeds)
    if len(classes) != len(seeds):
        raise ConfigError(f"there are {len(classes)} classes for {len(seeds)} seeds: give one class, or one for each")
    return seeds, [whole("class", each) for each in classes]


def whole(what: str, value: object) -> int:
    """
    Raises:
        ConfigError: ``value`` is no whole number that a seed or a class can be.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value <= LARGEST:
        raise ConfigError(f"{value!r} is no {what}: give whole numbers from 0 to {LARGEST}")
    return int(value)
