"""What a source is: samples by index, ``len(source)`` and ``source[i]``. Where they come from, subclasses know.

Sources know neither order nor batches; these are order.py's and loader.py's.
"""

import contextlib
import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from ganfleet.data.images import area_mean
from ganfleet.errors import ConfigError, DataError
from ganfleet.size import Size, factor
from ganfleet.text import Text

WHOLE = 256 * 2**20  # bytes of an array up to which all are hashed
ROWS = 1024  # that stand for those of a larger one


class SourceOptions(BaseModel):
    """Base of every source's own schema: what may stand under ``data:`` beside what all sources share."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ImageOptions(SourceOptions):
    """Options of sources whose images can have any size.

    Attributes:
        channels: 1 for grey, 3 for RGB, 4 for RGBA; None for the source's own.
        resize: see :class:`ganfleet.data.images.Resize`.
        upscale: whether images smaller than the resolution are enlarged; otherwise they are errors.
    """

    channels: Literal[1, 3, 4] | None = None
    resize: Literal["crop", "fit", "stretch", "none"] = "crop"
    upscale: bool = False


class Source:
    """Images of one size, with labels or without. Safe to read from many threads.

    Attributes:
        Options: the schema of what a config says of such a source.
        free_on_resume: the options that may change when a run goes on: they say where the data are, not what.
        names: what the images of a sample are called.
        text: how its captions are encoded, where it has any: ``text`` and ``text_mask`` of a sample.
        are_pairs: whether several images of one sample show the same thing.
        channels: of an image, 1, 3 or 4.
        classes: how many, 0 where there are no labels.
        class_names: of classes 0, 1, 2 …, where they have names.
        licence: of the images, where it is known.
        resolution: of the samples, in pixels: an int, or where they are not square a :class:`ganfleet.size.Size`.
    """

    Options: ClassVar[type[SourceOptions]] = SourceOptions
    free_on_resume: ClassVar[tuple[str, ...]] = ()
    names: tuple[str, ...] = ("image",)
    text: Text | None = None
    are_pairs: ClassVar[bool] = True
    class_names: tuple[str, ...] = ()
    licence: ClassVar[str | None] = None

    def __init__(self, resolution: int | Size, channels: int, labels: np.ndarray | None = None):
        """``labels``, int32 (n,): the class of each sample."""
        self.resolution = self._full_resolution = resolution
        self.channels = channels
        self.classes = 0 if labels is None else int(labels.max()) + 1
        self._labels = labels

    @classmethod
    def open(cls, options: SourceOptions, resolution: int | Size) -> "Source":
        """The source that ``options``, an instance of ``Options``, describe.

        Args:
            resolution: the largest that training will reach.

        Raises:
            ConfigError: options that do not go together; there are no data; the images are too small.
            DataError: the data are damaged.
        """
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def describe(self, index: int) -> str:
        """What to call image ``index`` in a message: its path, where it has one."""
        return f"sample {index}"

    def _pixels(self, index: int) -> np.ndarray:
        """uint8 (channels, height, width) at the full resolution."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """``image`` uint8 (channels, height, width) and, where there are labels, ``label`` int32 ().

        Raises:
            DataError: the image is missing or damaged.
            ConfigError: the image does not go with the options, being too small for instance.
        """
        sample = {"image": self._reduced(index)}
        if self._labels is not None:
            sample["label"] = self._labels[index]
        return sample

    def _reduced(self, index: int) -> np.ndarray:
        """uint8 (channels, height, width)."""
        return area_mean(self._pixels(index), factor(self._full_resolution, self.resolution))

    def at(self, resolution: int | Size) -> "Source":
        """The same images at another resolution: means over blocks of pixels of the resolution first opened.

        Raises:
            ConfigError: ``resolution`` does not divide the one first opened.
            StorageError: image files reduced to it cannot be cached, see :mod:`ganfleet.data.cache`.
        """
        if not factor(self._full_resolution, resolution):
            raise ConfigError(
                f"data opened at resolution {self._full_resolution} cannot be had at {resolution}: choose a divisor"
            )
        view = copy.copy(self)
        view.resolution = resolution
        return view

    def prepare(self, resolutions: Iterable[int | Size]) -> None:
        """Do now what takes long in the first ``at`` of one of ``resolutions``: before any other rank waits for it.

        Raises:
            StorageError: as ``at`` does.
        """

    def notes(self) -> list[str]:
        """What a user is told once, in a line each: which files are left out, for instance."""
        return []

    def as_in_checkpoint(self, classes: int, class_names: Sequence[str] | None) -> "Source":
        """The same data with the classes of a checkpoint: none, or with the same names, numbered as there.

        ``class_names`` are None for a checkpoint of 0.1.0, which kept none and sorted them as text. It had no classes
        where labels are found today.
        """
        if not classes and self._labels is not None:
            view = copy.copy(self)
            view.classes, view.class_names, view._labels = 0, (), None
            return view
        order = sorted(self.class_names) if class_names is None else list(class_names)
        if not self.class_names or self._labels is None or sorted(order) != sorted(self.class_names):
            return self
        view = copy.copy(self)
        view.class_names = tuple(order)
        view._labels = np.array([order.index(name) for name in self.class_names], np.int32)[self._labels]
        return view

    def digest(self) -> str:
        """A SHA-256 of what the data are, by which ranks see whether they all have the same; the resolution is no part.

        It covers the number of samples, their names, the channels and the labels, and what ``_identity`` adds.
        """
        labels = None if self._labels is None else np.ascontiguousarray(self._labels, np.int64).tobytes().hex()
        facts = [len(self), list(self.names), self.channels, self.classes, labels, self._identity()]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def _identity(self) -> Any:
        """What tells these data from others of the same number, made of lists, strings and numbers."""
        return None


class RandomSource(Source):
    """A source whose samples depend on chance too."""

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """What training sees as sample ``index``; ``rng`` depends on the seed, the epoch and the index.

        Raises:
            BadImage: one of the images it is made of cannot be used.
        """
        raise NotImplementedError


class BadImage(DataError):
    """Image ``index`` of a source whose samples are made of several images cannot be used."""

    def __init__(self, message: str, index: int):
        super().__init__(message)
        self.index = index


def refuse_if_too_small(source: Source) -> None:
    """Meet a wrong resolution before training does. That the first image may be damaged is the loader's business."""
    with contextlib.suppress(DataError):
        source[0]


def fingerprint(arrays: Mapping[str, np.ndarray]) -> list:
    """What tells ``arrays`` from others: their names, shapes and types, and a SHA-256 of their bytes.

    Of an array of 256 MB and more, 1,024 rows at equal distances stand for all.
    """
    facts = []
    for name, array in arrays.items():
        rows = array if array.nbytes < WHOLE else array[:: max(1, len(array) // ROWS)]
        digest = hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()
        facts.append([name, list(array.shape), array.dtype.str, digest])
    return facts
