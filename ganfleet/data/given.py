"""What a user has in memory as a source: arrays, or any object with ``len()`` and an index."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganfleet.data.images import area_mean
from ganfleet.data.sources import Source, fingerprint
from ganfleet.errors import ConfigError, DataError
from ganfleet.size import Size, factor

LABEL = "label"
LIMIT = 1 + 1e-3  # of a float image's values, with room for rounding


class Named(Source):
    """What a caller of ``ganfleet.train`` passes as ``source=``; a config can name it, and nothing can open it."""

    @classmethod
    def open(cls, options, resolution):
        raise ConfigError("data.source given means ganfleet.train(…, source=…): this run goes on from Python alone")


class Rows:
    """Arrays with a row for each sample, by name; ``label`` has the classes."""

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        wrong = [name for name, array in arrays.items() if not (isinstance(array, np.ndarray) and array.ndim)]
        if wrong or not arrays:
            raise ConfigError(f"the source given has no array {' and '.join(wrong)}: give numpy arrays by name")
        counts = {name: len(array) for name, array in arrays.items()}
        if len(set(counts.values())) > 1:
            raise ConfigError(f"the arrays of the source given have different numbers of rows: {counts}")
        self._arrays = arrays

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {name: array[index] for name, array in self._arrays.items()}

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(fingerprint(self._arrays)).encode()).hexdigest()


class Given(Source):
    """An object of the user's. A sample's arrays with three dimensions are images; others are passed on as they are.

    The first sample says which arrays there are and what shapes they have; all others must be like it. Whatever the
    object raises for a sample counts as a damaged image.
    """

    def __init__(self, given: Any, resolution: int | Size, classes: int | None = None):
        """``classes``: how many, None for what the object or all of its labels say."""
        if not _count(given):
            raise ConfigError("the source given is empty: it must have samples")
        self._given = given
        first = self._arrays(0)
        self.text = getattr(given, "text", None)
        self._kinds = _kinds(first)
        self.names = tuple(name for name in first if name != LABEL)
        for name in self.names:
            _refuse_shape(name, first[name].shape, resolution)
        self._images = tuple(name for name in self.names if first[name].ndim == 3)
        channels = {name: first[name].shape[0] for name in self._images}
        if len(set(channels.values())) > 1:
            raise ConfigError(f"the images of the source given have different numbers of channels: {channels}")
        for name, count in channels.items():
            if count not in (1, 3, 4):
                raise ConfigError(
                    f"{name!r} of the source given has {count} channels: give 1 (grey), 3 (RGB) or 4 (RGBA)"
                )
        super().__init__(resolution, next(iter(channels.values()), 1))
        self._check(first, 0)
        if LABEL in first:
            self.classes = classes or _classes_told(given) or self._count_classes()
            told = getattr(given, "classes", None)
            self.class_names = tuple(map(str, told)) if isinstance(told, list | tuple) else ()

    def __len__(self):
        return len(self._given)

    def describe(self, index):
        describe = getattr(self._given, "describe", None)
        return describe(index) if describe else f"sample {index} of the source given"

    def __getitem__(self, index):
        """Images uint8 or float32 (channels, height, width), ``label`` int32 (), and the other arrays."""
        sample = self._arrays(index)
        self._check(sample, index)
        for name in self._images:
            sample[name] = area_mean(sample[name], factor(self._full_resolution, self.resolution))
        return sample

    def at(self, resolution):
        if hasattr(self._given, "at"):
            return Given(self._given.at(resolution), resolution, self.classes)
        return super().at(resolution)

    def prepare(self, resolutions):
        if hasattr(self._given, "prepare"):
            self._given.prepare(resolutions)

    def notes(self):
        return list(self._given.notes()) if hasattr(self._given, "notes") else []

    def digest(self):
        return self._given.digest() if hasattr(self._given, "digest") else super().digest()

    def _arrays(self, index: int) -> dict[str, np.ndarray]:
        """Sample ``index``, with floats as float32 and the label as int32."""
        try:
            sample = self._given[index]
        except Exception as error:  # whatever a stranger's object raises
            raise DataError(f"{self.describe(index)} cannot be had: {type(error).__name__}: {error}") from error
        if isinstance(sample, np.ndarray):
            sample = {"image": sample}
        if not isinstance(sample, Mapping) or not all(_is_array(value) for value in sample.values()):
            raise DataError(
                f"{self.describe(index)} is {kind_of(sample)}: give an array, or a dict of arrays by name, such as "
                "{'image': …, 'label': …}"
            )
        arrays = {name: np.asarray(value) for name, value in sample.items()}
        for name, array in arrays.items():
            if array.dtype.kind not in "biuf":
                raise DataError(f"{self.describe(index)}: {name!r} is of type {array.dtype}: give numbers")
            if array.dtype.kind == "f":
                arrays[name] = array.astype(np.float32, copy=False)
            elif name == LABEL and array.dtype.kind in "iu" and np.abs(array).max(initial=0) < 2**31:
                arrays[name] = array.astype(np.int32)
        return arrays

    def _check(self, sample: dict[str, np.ndarray], index: int) -> None:
        """Refuse what is unlike the first sample, or has values that training cannot use."""
        if _kinds(sample) != self._kinds:
            raise DataError(f"{self.describe(index)} is {_kinds(sample)}, and the first one {self._kinds}")
        for name in self._images:
            image = sample[name]
            if image.dtype == np.uint8:
                continue
            if image.dtype != np.float32 or not np.abs(image).max() <= LIMIT:  # a NaN fails here too
                values = f"{image.dtype} from {image.min():g} to {image.max():g}"
                raise DataError(f"{self.describe(index)}: {name!r} is {values}: give uint8, or floats in [-1, 1]")
        if LABEL in sample and not self._is_class(sample[LABEL]):
            limit = f" below {self.classes}" if self.classes else ""
            raise DataError(
                f"{self.describe(index)}: its label is {sample[LABEL]!r}, and must be one integer from 0{limit}"
            )

    def _is_class(self, label: np.ndarray) -> bool:
        return label.shape == () and label.dtype == np.int32 and 0 <= int(label) < (self.classes or np.inf)

    def _count_classes(self) -> int:
        """One more than the highest label of the samples that can be had."""
        highest = 0
        for index in range(len(self)):
            with contextlib.suppress(DataError):
                sample = self._arrays(index)
                self._check(sample, index)
                highest = max(highest, int(sample[LABEL]))
        return highest + 1

    def _identity(self):
        return {name: kind for name, kind in self._kinds.items() if name not in self._images}


def kind_of(given: Any) -> str:
    """What kind of thing ``given`` is, for a message."""
    if isinstance(given, Mapping):
        return f"a dict of {', '.join(f'{name!r}: {type(value).__name__}' for name, value in given.items())}"
    return f"of type {type(given).__name__}"


def _is_array(value: Any) -> bool:
    return isinstance(value, int | float) or hasattr(value, "__array__")


def _count(given: Any) -> int:
    """How many samples ``given`` has.

    Raises:
        ConfigError: its ``__len__`` fails.
    """
    try:
        return len(given)
    except Exception as error:  # whatever a stranger's object raises
        raise ConfigError(f"the source given has no len(): {type(error).__name__}: {error}") from error


def _classes_told(given: Any) -> int:
    """The classes that ``given`` says it has; 0 where it does not say.

    Raises:
        ConfigError: it says something else than a number.
    """
    told = getattr(given, "classes", None) or 0
    if isinstance(told, list | tuple):  # the classes' names, as some libraries keep them
        return len(told)
    if isinstance(told, bool) or not isinstance(told, int | np.integer) or told < 0:
        raise ConfigError(f"the source given has classes = {told!r}: give their number, or leave the attribute out")
    return int(told)


def _kinds(sample: dict[str, np.ndarray]) -> dict[str, str]:
    """The type and shape of each array."""
    return {name: f"{array.dtype}{array.shape}" for name, array in sample.items()}


def _refuse_shape(name: str, shape: tuple[int, ...], resolution: int | Size) -> None:
    """
    Raises:
        ConfigError: an image of this shape cannot be used at ``resolution``.
    """
    size = Size.of(resolution)
    if len(shape) == 2 and name == "image" and (shape[0] == shape[1] or shape == size):
        raise ConfigError(f"{name!r} of the source given is {shape}: give it an axis for its channels, {(1, *shape)}")
    if len(shape) != 3 or shape[1:] == size:
        return
    if shape[:2] == size:
        raise ConfigError(
            f"{name!r} of the source given is {shape}: images are (channels, height, width), so move the last axis to "
            "the front"
        )
    raise ConfigError(
        f"{name!r} of the source given is {shape}, and strategy.resolution {resolution} needs images of {size} "
        "pixels: resize them, or set strategy.resolution"
    )
