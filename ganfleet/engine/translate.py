"""Image files from one domain to the other, with the networks of a checkpoint. The fleet shares the files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from PIL import Image

from ganfleet.data.files import files_below, images_among
from ganfleet.data.images import FORMATS, SUFFIXES, decode
from ganfleet.data.loader import to_network
from ganfleet.engine.run import Studio
from ganfleet.errors import ConfigError, DataError, GanfleetError
from ganfleet.observe.grid import grid, png, write_atomically
from ganfleet.store.rundir import writing

PANELS = "panels"  # the folder in the output for originals, translations and reconstructions side by side


@dataclass(frozen=True)
class Job:
    """An image file, where its translation goes, and its panel if one is asked for."""

    original: Path
    translation: Path
    panel: Path | None

    @property
    def done(self) -> bool:
        return self.translation.exists() and (self.panel is None or self.panel.exists())


def jobs(source: Path, output: Path, panel: bool) -> list[Job]:
    """A job for the image ``source``, or for every image below that folder, named alike in ``output``, as PNG.

    Raises:
        ConfigError: there is nothing, or no image, at ``source``; two images would become one file.
        DataError: a file with the name of an image is none.
    """
    if source.is_dir():
        folder, names = source, images_among(files_below(source))
    else:
        folder, names = source.parent, [source.name]
    if not source.exists() or not names:
        raise ConfigError(f"--input: there is no image ({', '.join(SUFFIXES)}) at {source}")
    origin: dict[Path, Path] = {}
    found = []
    for name in names:
        target = Path(name).with_suffix(".png")
        job = Job(folder / name, output / target, output / PANELS / target if panel else None)
        check_is_image(job.original)
        for written in {job.translation, job.panel} - {None}:
            if written in origin:
                raise ConfigError(f"--input: {origin[written]} and {job.original} would both become {written}")
            origin[written] = job.original
        found.append(job)
    return found


def check_is_image(path: Path) -> None:
    """Look at the first bytes of a file.

    Raises:
        DataError: it is no image.
    """
    try:
        Image.open(path, formats=FORMATS).close()
    except OSError as error:
        reason = error.strerror or f"it is not one of {', '.join(FORMATS)}"
        raise DataError(f"{path} is not an image that can be read: {reason}") from error


def translate(
    studio: Studio, todo: list[Job], direction: str, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[int, int]:
    """Translate what is not done yet; how many images that were, and how many had been done before.

    ``progress(done, total)`` is told on rank 0 how far the fleet is.

    Raises:
        ConfigError: the checkpoint's strategy knows no such direction.
        DataError: images are damaged; all others are translated.
        StorageError: a file cannot be written.
    """
    if direction not in getattr(studio.strategy, "directions", ()):
        raise ConfigError(
            f"a {type(studio.strategy).__name__} does not translate images {direction}: --checkpoint must be that of a "
            "CycleGAN"
        )
    fleet = studio.fleet
    missing = fleet.first(lambda: [job for job in todo if not job.done])
    translator = Translator(studio, direction)
    damaged = []
    # One image on each rank, then all ranks meet: none waits long for another, and all end alike.
    for start in range(0, len(missing), fleet.world_size):
        failures = fleet.gather([translator.failure(job) for job in missing[start:][fleet.rank : fleet.rank + 1]])
        for failure in (each for share in failures for each in share if each):
            if not isinstance(failure, DataError):
                raise failure
            damaged.append(str(failure))
        if fleet.rank == 0:
            progress(min(start + fleet.world_size, len(missing)), len(missing))
    if damaged:
        raise DataError(
            f"{len(damaged)} of {len(todo)} images are left out, all others are there: {'; '.join(damaged)}"
        )
    return len(missing), len(todo) - len(missing)


class Translator:
    """Runs one job after another, with a compiled graph for every padded size."""

    def __init__(self, studio: Studio, direction: str):
        self._strategy = studio.strategy
        for net in vars(studio.model.nets).values():
            net.set_train(False)
        self._graphs = {panel: _TranslateGraph(studio, direction, panel) for panel in (False, True)}

    def failure(self, job: Job) -> GanfleetError | None:
        """Run ``job``; why it could not be done, if it could not."""
        try:
            self.run(job)
        except GanfleetError as error:
            return error
        return None

    def run(self, job: Job) -> None:
        """Write the files of ``job``.

        Raises:
            DataError: the image is damaged.
            StorageError: a file cannot be written.
        """
        original = self._read(job.original)
        height, width = original.shape[1:]
        inputs = Tensor(mirrored_to(original, self._sides(height, width))[None])
        images = [image.asnumpy()[0, :, :height, :width] for image in self._graphs[job.panel is not None](inputs)]
        if job.panel is not None:
            save(job.panel, [original, *images])
        save(job.translation, images[:1])

    def _read(self, path: Path) -> np.ndarray:
        """float32 (channels, h, w) in [-1, 1]."""
        channels = self._strategy.image.channels
        try:
            pixels = np.asarray(decode(path.read_bytes(), channels))
        except Exception as error:  # Pillow raises a dozen kinds on damaged bytes
            raise DataError(f"{path} cannot be decoded: {error}") from error
        return to_network(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))

    def _sides(self, *sides: int) -> list[int]:
        multiple, smallest = self._strategy.size_multiple, self._strategy.smallest_size
        return [max(smallest, -(-side // multiple) * multiple) for side in sides]


class _TranslateGraph(nn.Cell):
    def __init__(self, studio, direction, panel):
        super().__init__(auto_prefix=False)
        self.translate = studio.strategy.translate
        self.nets = studio.model.nets
        self.direction, self.panel = direction, panel

    @ms.jit
    def construct(self, image):
        translated, back = self.translate(self.nets, image, self.direction)
        return (translated, back) if self.panel else (translated,)


def mirrored_to(image: np.ndarray, sides: list[int]) -> np.ndarray:
    """``image`` (c, h, w), made as large as ``sides`` by mirroring what is at its right and its lower border."""
    below, right = (to - side for side, to in zip(image.shape[1:], sides, strict=True))
    return np.pad(image, [(0, 0), (0, below), (0, right)], "reflect")


def save(path: Path, images: list[np.ndarray]) -> None:
    """Write ``images`` side by side as a PNG file."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, png(grid(np.stack(images), columns=len(images), scale=1)))
