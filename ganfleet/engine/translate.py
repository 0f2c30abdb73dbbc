"""Images of any size and animations from one domain to the other, in memory and as files the fleet shares."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ganfleet.data.images import SUFFIXES
from ganfleet.data.places import files_below, images_among
from ganfleet.engine.picture_files import direction_of, is_animation, is_there, read, read_frames, save, save_animation
from ganfleet.engine.tiles import Tiles
from ganfleet.errors import ConfigError, DataError, GanfleetError
from ganfleet.fleet import Fleet
from ganfleet.strategies.translation import Translation

PANELS = "panels"  # the folder in the output for originals, translations and reconstructions side by side


class Translator:
    """Translates images in one direction, with a compiled graph for every padded size, and one for tiles."""

    def __init__(
        self,
        offered: dict[str, Translation],
        direction: str,
        channels: int,
        graph: Callable,
        tiles: Tiles | None = None,
    ):
        """``graph`` compiles a function of networks and inputs, as for ``Strategy.sampler``. ``tiles`` says how large
        images are cut up.
        """
        self.direction, self.channels, self._tiles = direction, channels, tiles or Tiles()
        there = offered[direction]
        self._steps = [there, offered[there.back]] if there.back else [there]
        self._graph = graph

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """``image`` float32 (channels, h, w) in [-1, 1], translated; the same shape.

        Raises:
            ConfigError: it has other channels.
        """
        return self.panel(image, back=False)[1]

    def panel(self, image: np.ndarray, back: bool = True) -> list[np.ndarray]:
        """``image``, its translation, and with ``back``, where there is such a direction, that translated back.

        Raises:
            ConfigError: the image has other channels than the model's.
        """
        if image.ndim != 3 or image.shape[0] != self.channels:
            raise ConfigError(f"an image has the shape {image.shape}: it must be ({self.channels}, h, w)")
        height, width = image.shape[1:]
        multiple = math.lcm(*(step.multiple for step in self._steps))
        smallest = max(step.smallest for step in self._steps)
        sides = [max(smallest, -(-side // multiple) * multiple) for side in (height, width)]
        made = [mirrored_to(np.asarray(image, np.float32), sides)]
        for step in self._steps if back else self._steps[:1]:
            made.append(self._tiles.apply(partial(self._run, step), made[-1], multiple))
        return [each[:, :height, :width] for each in made]

    def _run(self, step: Translation, image: np.ndarray) -> np.ndarray:
        return self._graph(step.function)({step.reads: image[None]})[0]


def mirrored_to(image: np.ndarray, sides: list[int]) -> np.ndarray:
    """``image`` (c, h, w), made as large as ``sides`` by mirroring what is at its right and its lower border."""
    below, right = (to - side for side, to in zip(image.shape[1:], sides, strict=True))
    return np.pad(image, [(0, 0), (0, below), (0, right)], "reflect")


# ── Files


@dataclass(frozen=True)
class Job:
    """An image file, where its translation goes, and its panel if one is asked for."""

    original: Path
    translation: Path
    panel: Path | None

    @property
    def written(self) -> list[Path]:
        return [path for path in (self.translation, self.panel) if path]

    @property
    def done(self) -> bool:
        return all(map(is_there, self.written))


def jobs(source: Path, output: Path, panel: bool) -> list[Job]:
    """A job for the image ``source``, or for every image below that folder, named alike in ``output``, as PNG; GIF
    animations stay such.

    Raises:
        ConfigError: there is nothing, or no image, at ``source``; two images would become one file, or a translation
            would be among the images.
    """
    if source.is_dir():
        folder, names = source, images_among(files_below(source))
    else:
        folder, names = source.parent, [source.name]
    if not source.exists() or not names:
        raise ConfigError(f"--input: there is no image ({', '.join(SUFFIXES)}) at {source}")
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file: name a folder")
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        raise ConfigError(
            f"--output {output} is in --input {source}, so that translations would be translated again: choose a "
            "folder outside of it"
        )
    origin: dict[Path, Path] = {}
    found = []
    for name in names:
        target = Path(name).with_suffix(".gif" if is_animation(folder / name) else ".png")
        job = Job(folder / name, output / target, output / PANELS / target if panel else None)
        for written in job.written:
            if written in origin:
                raise ConfigError(f"--input: {origin[written]} and {job.original} would both become {written}")
            if written.resolve() == job.original.resolve():
                raise ConfigError(f"--output {output}: {written} is the image itself, choose another folder")
            origin[written] = job.original
        found.append(job)
    return found


def translate(
    translator: Translator,
    fleet: Fleet,
    todo: list[Job],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, int]:
    """Translate what is not done yet; how many images that were, and how many had been done before.

    ``progress(done, total)`` is told on rank 0 how far the fleet is.

    Raises:
        ConfigError: what is there already was translated in another direction.
        DataError: images are damaged, or files with their names are none; all others are translated.
        StorageError: a file cannot be written.
    """
    missing = fleet.first(lambda: left_of(todo, translator.direction))
    damaged = []
    # One image on each rank, then all ranks meet: none waits long for another, and all end alike.
    for start in range(0, len(missing), fleet.world_size):
        failures = fleet.gather([failure(translator, job) for job in missing[start:][fleet.rank : fleet.rank + 1]])
        met = [each for share in failures for each in share if each]
        fleet.agree(next((each for each in met if not isinstance(each, DataError)), None))
        damaged += map(str, met)
        if fleet.rank == 0:
            progress(min(start + fleet.world_size, len(missing)), len(missing))
    with fleet.agreeing():
        if damaged:
            raise DataError(
                f"{len(damaged)} of {len(todo)} images are left out, all others are there: {'; '.join(damaged)}"
            )
    return len(missing), len(todo) - len(missing)


def left_of(todo: list[Job], direction: str) -> list[Job]:
    """The jobs whose files are not all there.

    Raises:
        ConfigError: a file is there that was made in another direction.
    """
    for path in (path for job in todo for path in job.written if path.exists()):
        other = direction_of(path)
        if other not in (None, direction):
            raise ConfigError(f"--output: {path} was translated {other}, not {direction}: choose another folder")
    return [job for job in todo if not job.done]


def failure(translator: Translator, job: Job) -> GanfleetError | None:
    """Run ``job``; why it could not be done, if it could not."""
    try:
        back = job.panel is not None
        if job.translation.suffix == ".gif":
            frames, timing = read_frames(job.original, translator.channels)
            write = partial(save_animation, direction=translator.direction, timing=timing)
        else:
            frames, write = [read(job.original, translator.channels)], partial(save, direction=translator.direction)
        made = [translator.panel(frame, back) for frame in frames]
        if job.panel is not None:
            write(job.panel, made)
        write(job.translation, [images[1:2] for images in made])
    except GanfleetError as error:
        return error
    return None
