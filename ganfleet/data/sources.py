"""Where images come from: the embedded set, a folder, a ZIP, idx files. All look alike: ``len(s)``, ``s[i]``.

Sources know neither order nor batches; these are order.py's and loader.py's.
"""

import contextlib
import copy
import os
import threading
import zipfile
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ganfleet.data import cache, embedded
from ganfleet.data.idx import labels_beside, read_idx
from ganfleet.data.images import BLACK, RESIZES, SUFFIXES, Resize, area_mean, decode
from ganfleet.errors import ConfigError, DataError


class Source:
    """Images of one size, with labels or without. Safe to read from many threads.

    Attributes:
        names: what the images of a sample are called.
        channels: 1 or 3.
        classes: how many, 0 where there are no labels.
        resolution: width and height of the samples, in pixels.
    """

    names: tuple[str, ...] = ("image",)

    def __init__(self, resolution: int, channels: int, labels: np.ndarray | None):
        self.resolution = self._full_resolution = resolution
        self.channels = channels
        self.classes = 0 if labels is None else int(labels.max()) + 1
        self._labels = labels

    def __len__(self) -> int:
        raise NotImplementedError

    def describe(self, index: int) -> str:
        """What to call image ``index`` in a message: its path, where it has one."""
        raise NotImplementedError

    def _pixels(self, index: int) -> np.ndarray:
        """uint8 (channels, full resolution, full resolution)."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """``image`` uint8 (channels, resolution, resolution) and, where there are labels, ``label`` int32 ().

        Raises:
            DataError: the image is missing or damaged.
            ConfigError: the image does not go with the options, being too small for instance.
        """
        sample = {"image": self._reduced(index)}
        if self._labels is not None:
            sample["label"] = self._labels[index]
        return sample

    def _reduced(self, index: int) -> np.ndarray:
        """uint8 (channels, resolution, resolution)."""
        return area_mean(self._pixels(index), self._full_resolution // self.resolution)

    def at(self, resolution: int) -> "Source":
        """The same images at another resolution: means over blocks of pixels of the resolution first opened.

        Raises:
            ConfigError: ``resolution`` does not divide the one first opened.
            StorageError: image files reduced to it cannot be cached, see :mod:`ganfleet.data.cache`.
        """
        if resolution < 1 or self._full_resolution % resolution:
            raise ConfigError(
                f"Data opened at resolution {self._full_resolution} cannot be had at {resolution}, which is no divisor."
            )
        view = copy.copy(self)
        view.resolution = resolution
        return view


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


class ArraySource(Source):
    """Grey images held in memory, resized once."""

    def __init__(self, name: str, images: np.ndarray, labels: np.ndarray | None, resize: Resize, channels: int | None):
        """``images`` uint8 (n, height, width), ``labels`` int32 (n,)."""
        super().__init__(resize.resolution, channels or 1, labels)
        self._name = name
        self._images = np.stack([resize(Image.fromarray(image), f"Each image of {name}") for image in images])

    def __len__(self) -> int:
        return len(self._images)

    def describe(self, index: int) -> str:
        return f"image {index} of {self._name}"

    def _pixels(self, index: int) -> np.ndarray:
        image = self._images[index]
        return image if self.channels == 1 else image.repeat(self.channels, axis=0)


@dataclass(frozen=True)
class Files:
    """Image files in a folder or an archive.

    Attributes:
        place: goes before a name in messages.
        names: sorted paths within the place.
        read: the bytes of the file of a name, from any thread.
        stamps: what changes when one of the files does, made of lists, strings and numbers.
    """

    place: str
    names: list[str]
    read: Callable[[str], bytes]
    stamps: Callable[[], list]


class FileSource(Source):
    """Image files, decoded each time they are read. RGB unless told to be grey: one file may be grey, the next not."""

    def __init__(
        self, files: Files, labels: np.ndarray | None, resize: Resize, channels: int | None, cached_in: Path | None
    ):
        super().__init__(resize.resolution, channels or 3, labels)
        self._files, self._resize = files, resize
        self._cached_in = cached_in
        self._level: cache.Level | None = None

    def __len__(self) -> int:
        return len(self._files.names)

    def describe(self, index: int) -> str:
        return self._files.place + self._files.names[index]

    def _pixels(self, index: int) -> np.ndarray:
        try:
            image = decode(self._files.read(self._files.names[index]), self.channels)
        except Exception as error:  # Pillow, zipfile and zlib raise a dozen kinds on damaged bytes
            raise DataError(f"{self.describe(index)} cannot be decoded: {error}") from error
        return self._resize(image, self.describe(index))

    def _reduced(self, index: int) -> np.ndarray:
        cached = self._level.get(index) if self._level else None
        return super()._reduced(index) if cached is None else cached

    def at(self, resolution: int) -> Source:
        view = super().at(resolution)
        view._level = None
        if self._cached_in and resolution in cache.resolutions(self._full_resolution):
            name = cache.key(self._files.stamps(), astuple(self._resize), self.channels)
            shape = len(self), self.channels, self._full_resolution
            view._level = cache.levels(self._cached_in, name, self._pixels, shape)[resolution]
        return view


def open_source(
    source: str = "embedded",
    *,
    path: str | Path | None = None,
    resolution: int,
    channels: int | None = None,
    resize: str = "crop",
    upscale: bool = False,
    classes: str | None = None,
    labels: str | Path | None = None,
    cached: str = "none",
) -> Source:
    """Open training data at ``resolution``, the largest that training will reach.

    Args:
        source: ``embedded`` (Fashion-MNIST with a border, 32x32), ``folder`` (PNG, JPEG, WebP, nested), ``zip`` (the
            same in a ZIP file) or ``idx`` (the MNIST family's format, gzipped or not).
        path: the folder, the ZIP file or the idx file of images.
        channels: 1 for grey, 3 for RGB; None for the source's own: 1 for embedded and idx, 3 for image files.
        resize: ``crop``, ``fit``, ``stretch`` or ``none``, see :class:`ganfleet.data.images.Resize`.
        upscale: whether images smaller than ``resolution`` are enlarged; otherwise they are errors.
        classes: ``subfolder`` makes each top-level subfolder of a folder or ZIP, in sorted order, one class. (In a
            ZIP, folders around all of the images do not count.)
        labels: the idx file of labels; None for the one beside ``path`` by the usual name, if there is one.
        cached: where a folder's or ZIP's images are kept at the lower resolutions once one of these is asked for:
            ``auto`` (the user's cache folder), ``none`` or a folder.

    Raises:
        ConfigError: options that do not go together; nothing at ``path``; images too small.
        DataError: what is at ``path`` is damaged.
    """
    check_options(source, path, resize, channels, classes, labels)
    ground = {"background": BLACK} if source in ("embedded", "idx") else {}
    shape = Resize(resolution, resize, upscale, **ground)
    if source == "embedded":
        return open_embedded(shape, channels)
    path = Path(path).expanduser()
    if not path.exists():
        raise ConfigError(f"data.path: there is nothing at {path}.")
    if source == "idx":
        return open_idx(path, labels, shape, channels)
    files = files_in_folder(path) if source == "folder" else files_in_zip(path)
    numbers = subfolder_labels(files.names, path, wrapped=source == "zip") if classes else None
    images = FileSource(files, numbers, shape, channels, cache.place(cached))
    refuse_if_too_small(images)
    return images


def check_options(source, path, resize, channels, classes, labels) -> None:
    """Refuse unknown values, and options that the source would silently ignore."""
    for key, value, known in [
        ("source", source, ("embedded", "folder", "idx", "zip")),
        ("resize", resize, RESIZES),
        ("channels", channels, (1, 3, None)),
        ("classes", classes, ("subfolder", None)),
    ]:
        if value not in known:
            raise ConfigError(f"data.{key} is {value!r}, must be one of {', '.join(map(str, known))}.")
    if (path is None) != (source == "embedded"):
        raise ConfigError(f"data.path is {'missing' if path is None else 'not used'} for data.source: {source}.")
    if classes and source not in ("folder", "zip"):
        raise ConfigError(f"data.classes goes with folder and zip, not with data.source: {source}.")
    if labels and source != "idx":
        raise ConfigError(f"data.labels goes with idx, not with data.source: {source}.")


def refuse_if_too_small(source: Source) -> None:
    """Meet a wrong resolution before training does. That the first image may be damaged is the loader's business."""
    with contextlib.suppress(DataError):
        source[0]


def open_embedded(resize: Resize, channels: int | None) -> Source:
    """28x28 pixels and a border of two: 32x32, which can be halved down to 4x4."""
    images, labels = embedded.load()
    bordered = np.pad(images, [(0, 0), (2, 2), (2, 2)])
    return ArraySource("the embedded set", bordered, labels, resize, channels)


def open_idx(path: Path, labels: str | Path | None, resize: Resize, channels: int | None) -> Source:
    if path.is_dir():
        raise ConfigError(f"data.path: {path} is a folder; name the idx file of images in it.")
    labels_path = Path(labels).expanduser() if labels else labels_beside(path)
    if labels and not labels_path.exists():
        raise ConfigError(f"data.labels: there is nothing at {labels_path}.")
    images = read_idx(path, ndim=3)
    classes = read_idx(labels_path, ndim=1).astype(np.int32) if labels_path else None
    if not len(images):
        raise ConfigError(f"data.path: {path} holds no images.")
    if classes is not None and len(classes) != len(images):
        raise DataError(f"{labels_path} has {len(classes)} labels for the {len(images)} images of {path}.")
    return ArraySource(str(path), images, classes, resize, channels)


def files_in_folder(path: Path) -> Files:
    if not path.is_dir():
        raise ConfigError(f"data.path: {path} is not a folder.")
    names = image_names(files_below(path), path)

    def read(name: str) -> bytes:
        return (path / name).read_bytes()

    def stamps() -> list:
        return [str(path.resolve()), *([name, *stamp_of(path / name)] for name in names)]

    return Files(f"{path}/", names, read, stamps)


def stamp_of(path: Path) -> tuple[int, ...]:
    """Size and time of the last change; empty for a file that went away."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns


def files_below(root: Path) -> list[str]:
    """Paths of all files below ``root``, relative to it. A folder that cannot be listed is an error, not empty."""

    def refuse(error: OSError):
        raise DataError(f"{error.filename} cannot be listed: {error.strerror}.")

    return [
        Path(folder, file).relative_to(root).as_posix()
        for folder, _, files in os.walk(root, onerror=refuse, followlinks=True)
        for file in files
    ]


def files_in_zip(path: Path) -> Files:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as a ZIP file: {error}.") from error
    names = image_names(archive.namelist(), path)
    one_at_a_time = threading.Lock()  # ZipFile counts its open members without one

    def read(name: str) -> bytes:
        with one_at_a_time:
            return archive.read(name)

    def stamps() -> list:
        members = (archive.getinfo(name) for name in names)
        return [
            str(path.resolve()),
            stamp_of(path),
            *([member.filename, member.file_size, member.CRC] for member in members),
        ]

    return Files(f"{path}:", names, read, stamps)


def image_names(names: list[str], place: Path) -> list[str]:
    """The images among ``names``, sorted."""
    images = images_among(names)
    if not images:
        raise ConfigError(f"data.path: there are no images ({', '.join(SUFFIXES)}) in {place}.")
    return images


def images_among(names: list[str]) -> list[str]:
    """The images, sorted, so that no file system has a say in the order. Hidden files are left out."""
    return sorted(
        name
        for name in set(names)
        if name.lower().endswith(SUFFIXES) and not any(part.startswith(".") for part in PurePosixPath(name).parts)
    )


def without_common_folder(names: list[str]) -> list[str]:
    """A ZIP often wraps all it holds in one folder, which is not a class."""
    common = os.path.commonpath([os.path.dirname(name) for name in names])
    return [name.removeprefix(common).lstrip("/") for name in names]


def subfolder_labels(names: list[str], place: Path, wrapped: bool) -> np.ndarray:
    """int32 (n,): the number of each image's top-level subfolder among all of them, sorted.

    ``wrapped``: folders around all of the images do not count.
    """
    if wrapped:
        names = without_common_folder(names)
    loose = [name for name in names if "/" not in name]
    if loose:
        raise ConfigError(f"data.classes: subfolder, but {loose[0]} is in no subfolder of {place}.")
    folders = [name.split("/")[0] for name in names]
    return np.unique(folders, return_inverse=True)[1].astype(np.int32)
