"""Where images come from: the embedded set, a folder, a ZIP, idx files. All look alike: ``len(s)``, ``s[i]``.

Sources know neither order nor batches; these are order.py's and loader.py's.
"""

import contextlib
import copy
import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ganfleet.data import embedded
from ganfleet.data.idx import labels_beside, read_idx
from ganfleet.data.images import BLACK, RESIZES, SUFFIXES, Resize, area_mean, decode
from ganfleet.errors import ConfigError, DataError


class Source:
    """Images of one size, with labels or without. Safe to read from many threads.

    Attributes:
        channels: 1 or 3.
        classes: how many, 0 where there are no labels.
        resolution: width and height of the samples, in pixels.
    """

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
        sample = {"image": area_mean(self._pixels(index), self._full_resolution // self.resolution)}
        if self._labels is not None:
            sample["label"] = self._labels[index]
        return sample

    def at(self, resolution: int) -> "Source":
        """The same images at another resolution: means over blocks of pixels of the resolution first opened.

        Raises:
            ConfigError: ``resolution`` does not divide the one first opened.
        """
        if resolution < 1 or self._full_resolution % resolution:
            raise ConfigError(
                f"Data opened at resolution {self._full_resolution} cannot be had at {resolution}, which is no divisor."
            )
        view = copy.copy(self)
        view.resolution = resolution
        return view


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


class FileSource(Source):
    """Image files, decoded each time they are read. RGB unless told to be grey: one file may be grey, the next not."""

    def __init__(
        self,
        place: str,
        names: list[str],
        read: Callable[[str], bytes],
        labels: np.ndarray | None,
        resize: Resize,
        channels: int | None,
    ):
        """``place`` goes before a name in messages; ``read(name)`` gives the file's bytes, from any thread."""
        super().__init__(resize.resolution, channels or 3, labels)
        self._place, self._names, self._read, self._resize = place, names, read, resize

    def __len__(self) -> int:
        return len(self._names)

    def describe(self, index: int) -> str:
        return self._place + self._names[index]

    def _pixels(self, index: int) -> np.ndarray:
        name = self._names[index]
        try:
            image = decode(self._read(name), self.channels)
        except Exception as error:  # Pillow, zipfile and zlib raise a dozen kinds on damaged bytes
            raise DataError(f"{self.describe(index)} cannot be decoded: {error}") from error
        return self._resize(image, self.describe(index))


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
    open_files = open_folder if source == "folder" else open_zip
    files = open_files(path, classes, shape, channels)
    refuse_if_too_small(files)
    return files


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


def open_folder(path: Path, classes: str | None, resize: Resize, channels: int | None) -> Source:
    if not path.is_dir():
        raise ConfigError(f"data.path: {path} is not a folder.")
    names = image_names(files_below(path), path)
    labels = subfolder_labels(names, path) if classes else None
    return FileSource(f"{path}/", names, lambda name: (path / name).read_bytes(), labels, resize, channels)


def files_below(root: Path) -> list[str]:
    """Paths of all files below ``root``, relative to it. A folder that cannot be listed is an error, not empty."""

    def refuse(error: OSError):
        raise DataError(f"{error.filename} cannot be listed: {error.strerror}.")

    return [
        Path(folder, file).relative_to(root).as_posix()
        for folder, _, files in os.walk(root, onerror=refuse, followlinks=True)
        for file in files
    ]


def open_zip(path: Path, classes: str | None, resize: Resize, channels: int | None) -> Source:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as a ZIP file: {error}.") from error
    names = image_names(archive.namelist(), path)
    labels = subfolder_labels(without_common_folder(names), path) if classes else None
    one_at_a_time = threading.Lock()  # ZipFile counts its open members without one

    def read(name: str) -> bytes:
        with one_at_a_time:
            return archive.read(name)

    return FileSource(f"{path}:", names, read, labels, resize, channels)


def image_names(names: list[str], place: Path) -> list[str]:
    """The images among ``names``, sorted, so that no file system has a say in the order. Hidden files are left out."""
    images = sorted(
        name
        for name in set(names)
        if name.lower().endswith(SUFFIXES) and not any(part.startswith(".") for part in PurePosixPath(name).parts)
    )
    if not images:
        raise ConfigError(f"data.path: there are no images ({', '.join(SUFFIXES)}) in {place}.")
    return images


def without_common_folder(names: list[str]) -> list[str]:
    """A ZIP often wraps all it holds in one folder, which is not a class."""
    common = os.path.commonpath([os.path.dirname(name) for name in names])
    return [name.removeprefix(common).lstrip("/") for name in names]


def subfolder_labels(names: list[str], place: Path) -> np.ndarray:
    """int32 (n,): the number of each image's top-level subfolder among all of them, sorted."""
    loose = [name for name in names if "/" not in name]
    if loose:
        raise ConfigError(f"data.classes: subfolder, but {loose[0]} is in no subfolder of {place}.")
    folders = [name.split("/")[0] for name in names]
    return np.unique(folders, return_inverse=True)[1].astype(np.int32)
