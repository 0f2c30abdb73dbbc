"""Where the images come from that metrics are about: drawn, read, translated, or on a path between two drawn ones.

Each kind gives images by index, names what they depend on (``facts``), and names the file of a block of rows.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import ClassVar

import numpy as np

from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.data import Source
from ganfleet.data.loader import to_network
from ganfleet.engine.program import Program
from ganfleet.engine.sampler import CHUNK, Inputs, Sampler, graphs, joined, seeded
from ganfleet.engine.translate import Translator
from ganfleet.errors import ConfigError, DataError
from ganfleet.store.compare import tensors_sha256
from ganfleet.strategies.base import Strategy
from ganfleet.strategies.figure import needed
from ganfleet.strategies.options import Options

REAL = 50_000  # images of the data that are read where nobody says how many


class Pictures:
    """Images 0 to ``len``. ``title`` is what they are called where somebody waits for them."""

    title: ClassVar[str]
    facts: tuple = ()
    """What they depend on beside the index, made of lists, strings and numbers."""

    def __len__(self) -> int:
        raise NotImplementedError

    def images(self, indices: range) -> np.ndarray:
        """(n, channels, h, w), uint8 or floats in [-1, 1]."""
        raise NotImplementedError

    def name(self, indices: range) -> str:
        """What the file is called that rows of these images are kept in."""
        return f"{indices.start:08d}-{indices.stop - indices.start}"

    def ready(self) -> AbstractContextManager:
        """While it lasts, ``images`` can be asked for."""
        return nullcontext()


@dataclass
class FromSeeds:
    """Networks that draw images of seeds.

    ``holding`` gives them the weights to draw with, while it lasts. ``change`` changes the inputs of an image as sample
    options ask for, and as those that it is given beside. ``facts`` say which weights and which options these are.
    """

    program: Program
    sampler: Sampler
    clock: Clock
    holding: Callable[[], AbstractContextManager]
    facts: tuple
    change: Callable[..., Inputs] = lambda inputs: inputs

    @property
    def strategy(self) -> Strategy:
        return self.program.strategy

    def inputs(self, seed: int, **more) -> Inputs:
        """What the image of ``seed`` is made of; ``more`` are further sample options."""
        return self.change(seeded(self.strategy, self.clock, seed), **more)


def asked(strategy: Strategy, options: Options, inputs: Inputs, **more) -> Inputs:
    """``inputs`` as the sample ``options`` ask, and ``more`` of them."""
    return strategy.with_options(inputs, options.model_copy(update=more))


def drawn_with(program: Program, clock: Clock, ema: bool) -> tuple:
    """What the images of ``program`` depend on beside their inputs."""
    tensors = {f"{part}/{name}": each for part, named in program.tensors().items() for name, each in named.items()}
    options = program.strategy.options.model_dump_json()
    return (
        tensors_sha256(tensors),
        options,
        program.frozen,
        program.stage.name,
        clock.step,
        clock.nimg,
        program.form,
        ema,
    )


def chunks(indices: range) -> list[range]:
    return [indices[i : i + CHUNK] for i in range(0, len(indices), CHUNK)]


@dataclass
class Drawn(Pictures):
    """Image i is that of the seed ``first + i``; where there are ``captions``, of one of them each, in turn."""

    title = "generated images"
    of: FromSeeds
    count: int
    first: int
    captions: Sequence[str] = ()

    @property
    def facts(self):
        return ("drawn", self.first, *self.of.facts, *self.captions)

    def __len__(self):
        return self.count

    def ready(self):
        return self.of.holding()

    def images(self, indices):
        drawn = [self.of.sampler.draw([self._inputs(i) for i in chunk]) for chunk in chunks(indices)]
        return np.concatenate(drawn)

    def _inputs(self, i: int) -> Inputs:
        told = {"prompt": self.captions[i % len(self.captions)]} if self.captions else {}
        return self.of.inputs(self.first + i, **told)


@dataclass
class OnPaths(Pictures):
    """Images 2 i and 2 i + 1 are ``epsilon`` apart on the path from the latents of seed ``first`` + i to others'.

    Where on the path is left to chance, or with ``ends`` at its beginning. All else that an image is made of is equal.
    """

    title = "images on paths"
    of: FromSeeds
    count: int
    first: int
    space: str
    ends: bool
    epsilon: float

    def __post_init__(self):
        path = self.of.strategy.paths()[self.space]
        self._between, self._draw = path.inputs, self.of.sampler.run
        if path.sample:
            self._draw = graphs(self.of.program)(path.sample)

    @property
    def facts(self):
        return ("paths", self.space, self.ends, self.epsilon, self.first, *self.of.facts)

    def __len__(self):
        return 2 * self.count

    def ready(self):
        return self.of.holding()

    def images(self, indices):
        inputs = [each for i in indices[::2] for each in self._pair(i // 2)]
        found = []
        for chunk in chunks(range(len(inputs))):
            own = inputs[chunk.start : chunk.stop]
            padded = [*own, *own[:1] * (CHUNK - len(own))]
            found.append(self._draw(joined(padded))[: len(own)])
        return np.concatenate(found)

    def _pair(self, i: int) -> list[Inputs]:
        stream = rng.stream(self.first + i, "path")
        t = 0.0 if self.ends else stream.random()
        first = self.of.inputs(self.first + i)
        strategy, clock = self.of.strategy, self.of.clock
        needed(first, "z", "ppl")
        second = strategy.sample_inputs(stream, clock)
        return [self._between(first, second, t + step) for step in (0.0, self.epsilon)]


@dataclass
class Read(Pictures):
    """Images of a source: all, or ``count`` that ``seed`` chooses. Those that cannot be read are left out."""

    title = "real images"
    source: Source
    count: int
    seed: int = 0
    bad: set[int] = field(default_factory=set)

    def __post_init__(self):
        if "image" not in self.source.names:
            raise ConfigError(
                f"the data have {' and '.join(self.source.names)}, and metrics read images called image: name a folder "
                "of them with --data"
            )
        n = len(self.source)
        self.count = min(self.count, n)
        chosen = rng.stream(self.seed, "real").permutation(n)[: self.count] if self.count < n else np.arange(n)
        self.indices = np.sort(chosen)
        self._last: tuple[range, np.ndarray] = (range(0), np.empty(0))

    facts = ("read",)  # the rest is in the names of the blocks

    def __len__(self):
        return self.count

    @property
    def captions(self) -> list[str]:
        """Of each image; empty where the data have none."""
        caption = getattr(self.source, "caption", None)
        return [caption(int(i)) for i in self.indices] if caption else []

    def images(self, indices):
        if self._last[0] != indices:
            self._last = indices, self._read(indices)
        return self._last[1]

    def _read(self, indices: range) -> np.ndarray:
        found = []
        for i in map(int, self.indices[indices.start : indices.stop]):
            try:
                found.append(self.source[i]["image"])
            except DataError:
                self.bad.add(i)
        shape = (self.source.channels, 1, 1)
        return np.stack(found) if found else np.empty((0, *shape), np.uint8)

    def name(self, indices):
        """By the content, so that a file that was changed is not taken for what it was."""
        images = np.ascontiguousarray(self.images(indices))
        return hashlib.sha256(f"{images.shape} {images.dtype}".encode() + images.tobytes()).hexdigest()


@dataclass
class Translated(Pictures):
    """Translations of what ``originals`` reads."""

    title = "translations"
    originals: Read
    translator: Translator
    facts: tuple

    def __len__(self):
        return len(self.originals)

    def images(self, indices):
        return np.stack([self.translator(to_network(image)) for image in self.originals.images(indices)])

    def name(self, indices):
        return self.originals.name(indices)


def captions_to_draw(options: Options, real: Read | None) -> list[str]:
    """Those of the ``real`` images, if there is a sample option ``prompt`` and ``options`` say nothing of it."""
    takes = "prompt" in type(options).model_fields and options.prompt is None
    return real.captions if takes and real else []


def refuse_other_names(originals: Source, wanted: Source) -> None:
    """
    Raises:
        ConfigError: image i of ``originals`` and of ``wanted`` are no pair, by the names of their files.
    """
    if len(originals) != len(wanted):
        raise ConfigError(f"--input has {len(originals):,} images and --data {len(wanted):,}: give pairs of one name")
    for i in range(len(wanted)):
        names = [PurePath(source.describe(i).rpartition(":")[2]).stem for source in (originals, wanted)]
        if names[0] != names[1]:
            raise ConfigError(
                f"{originals.describe(i)} and {wanted.describe(i)} are no pair: give files of the same names to "
                "--input and --data"
            )
