"""Images of any size from one domain to the other, in memory and as files. The fleet shares the files."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from ganfleet.data.images import SUFFIXES, decode, open_image
from ganfleet.data.loader import to_network
from ganfleet.data.places import files_below, images_among
from ganfleet.errors import ConfigError, DataError, GanfleetError
from ganfleet.fleet import Fleet
from ganfleet.observe.grid import grid, picture_of
from ganfleet.store import publish
from ganfleet.store.publish import writing
from ganfleet.strategies.translation import Translation

PANELS = "panels"  # the folder in the output for originals, translations and reconstructions side by side
DIRECTION = "ganfleet direction"  # what the text in a PNG file is called that says how it was made
LARGEST = 2**27  # pixels of an image


class Translator:
    """Translates images in one direction, with a compiled graph for every padded size."""

    def __init__(self, offered: dict[str, Translation], direction: str, channels: int, graph: Callable):
        """``graph`` compiles a function of networks and inputs, as for ``Strategy.sampler``."""
        self.direction, self.channels = direction, channels
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
        made = [mirrored_to(np.asarray(image, np.float32), self._sides(height, width))[None]]
        for step in self._steps if back else self._steps[:1]:
            made.append(self._graph(step.function)({step.reads: made[-1]}))
        return [each[0, :, :height, :width] for each in made]

    def _sides(self, *sides: int) -> list[int]:
        multiple = math.lcm(*(step.multiple for step in self._steps))
        smallest = max(step.smallest for step in self._steps)
        return [max(smallest, -(-side // multiple) * multiple) for side in sides]


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
        return all(path.exists() for path in self.written)


def jobs(source: Path, output: Path, panel: bool) -> list[Job]:
    """A job for the image ``source``, or for every image below that folder, named alike in ``output``, as PNG.

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
        target = Path(name).with_suffix(".png")
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


def direction_of(path: Path) -> str | None:
    """In which direction the PNG file at ``path`` was translated, if it says so."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return image.info.get(DIRECTION)
    except Exception:  # whatever this is, no translation of ours
        return None


def failure(translator: Translator, job: Job) -> GanfleetError | None:
    """Run ``job``; why it could not be done, if it could not."""
    try:
        original = read(job.original, translator.channels)
        images = translator.panel(original, back=job.panel is not None)
        if job.panel is not None:
            save(job.panel, images, translator.direction)
        save(job.translation, images[1:2], translator.direction)
    except GanfleetError as error:
        return error
    return None


def read(path: Path, channels: int) -> np.ndarray:
    """float32 (channels, h, w) in [-1, 1].

    Raises:
        DataError: it is no image, damaged, or too large.
    """
    try:
        data = path.read_bytes()
        with open_image(data) as image:
            if image.width * image.height > LARGEST:
                raise ValueError(f"it has {image.width}x{image.height} pixels, and networks cannot hold so many")
        pixels = np.asarray(decode(data, channels))
    except Exception as error:  # Pillow raises a dozen kinds on damaged bytes
        raise DataError(f"{path} cannot be decoded: {error}") from error
    return to_network(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def save(path: Path, images: list[np.ndarray], direction: str) -> None:
    """Write ``images`` side by side as a PNG file that says how it was made.

    Raises:
        StorageError: it cannot be written.
    """
    text = PngImagePlugin.PngInfo()
    text.add_text(DIRECTION, direction)
    content = io.BytesIO()
    pixels = picture_of(images[0]) if len(images) == 1 else grid(np.stack(images), columns=len(images), scale=1)
    picture = Image.fromarray(pixels)
    picture.save(content, format="PNG", compress_level=1, pnginfo=text)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    publish.file(path, content.getvalue(), durable=False)
