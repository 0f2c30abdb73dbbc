"""Pairs of images that show one thing in two ways: files of one name in two folders, or two halves of one file.

Both images of a pair are cut at one place and mirrored together. Where is drawn from the stream that the loader gives.
"""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image

from ganfleet.data.cuts import CutOptions, CutSource
from ganfleet.data.images import Resize, decode
from ganfleet.data.labels import plain
from ganfleet.data.places import Files, folder_files
from ganfleet.data.sources import refuse_if_too_small
from ganfleet.data.unpaired import domains
from ganfleet.document import expanded
from ganfleet.errors import ConfigError, DataError
from ganfleet.size import Size

SHOWN = 5  # names in a message


class Paired(CutSource):
    """Sample i is ``image_a`` and ``image_b`` of pair i, uint8 (channels, height, width), cut and mirrored alike."""

    class Options(CutOptions):
        """
        Attributes:
            path: a folder with the folders trainA and trainB; or with ``path_b``, the folder of A itself; or with
                ``layout: side_by_side``, a folder of images whose left half is A and whose right half is B.
            path_b: the folder of B.
            layout: ``folders``, where the images of a pair have one name, or ``side_by_side``.
            split: ``test`` for testA and testB, or side by side for the folder test; so ``val``. None for ``train``,
                where there is such a folder.
            direction: ``B2A`` exchanges the two: ``image_a`` is then what the folder or the half B has.
        """

        path: Path
        path_b: Path | None = None
        layout: Literal["folders", "side_by_side"] = "folders"
        split: Literal["train", "val", "test"] | None = None
        direction: Literal["A2B", "B2A"] = "A2B"

    free_on_resume = ("path", "path_b")
    names = ("image_a", "image_b")

    def __init__(self, pairs: "TwoFolders | SideBySide", options: Options, resolution: int | Size):
        super().__init__(resolution, options.channels or 3, bool(options.flip))
        self._pairs, self._swapped = pairs, options.direction == "B2A"
        self._resize = Resize(options.loaded_at(resolution), options.resize, options.upscale)

    @classmethod
    def open(cls, options, resolution):
        found = TwoFolders if options.layout == "folders" else SideBySide
        pairs = cls(found.open(options), options, resolution)
        refuse_if_too_small(pairs)
        return pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def describe(self, index: int) -> str:
        return self._pairs.describe(index)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Cut out of the middle and not mirrored: what figures are made of."""
        images = self._both(index)
        return {name: self._cut(image, self._middle(image)) for name, image in images.items()}

    def sample(self, index, rng):
        images = self._both(index)
        cut = self._anywhere(images["image_a"], rng)
        return {name: self._cut(image, cut) for name, image in images.items()}

    def _both(self, index: int) -> dict[str, np.ndarray]:
        read = self._pairs.read(index, self.channels)
        (name_a, a), (name_b, b) = read
        if a.size != b.size:
            raise ConfigError(
                f"{name_a} has {Size(a.height, a.width)} pixels (height x width) and {name_b} "
                f"{Size(b.height, b.width)}: the images of a pair must have one size"
            )
        images = [self._resize(image, name) for name, image in (read[::-1] if self._swapped else read)]
        return dict(zip(self.names, images, strict=True))

    def notes(self):
        return self._pairs.notes()

    def _identity(self):
        return [self._pairs.identity(), self._swapped]


Read = list[tuple[str, Image.Image]]
"""The images of A and B, each with what to call it in a message."""


class TwoFolders:
    """Pairs are files of one name in two folders, whatever the suffix, and in folders of one name below these."""

    def __init__(self, a: Files, b: Files, key: str):
        """
        Raises:
            ConfigError: an image has no partner, or two. ``key`` is the option that says where B is.
        """
        self._a, self._b = a, b
        in_a, in_b = _by_name(a), _by_name(b)
        alone = [in_a.keys() - in_b.keys(), in_b.keys() - in_a.keys()]
        if any(alone):
            told = [f"no partner of {_some(names)} of {domain}" for names, domain in zip(alone, "AB", strict=True)]
            raise ConfigError(
                f"{key}: there is {' and '.join(t for t, names in zip(told, alone, strict=True) if names)}: the two "
                "images of a pair must have one name, in A and in B, whatever the suffix"
            )
        self._names = [(in_a[stem], in_b[stem]) for stem in sorted(in_a)]

    @classmethod
    def open(cls, options: Paired.Options) -> "TwoFolders":
        found, keys = [], []
        for folder, key in domains(options).items():
            try:
                if not folder.exists():
                    raise ConfigError(f"data.path: there is nothing at {folder}: correct the path")
                found.append(folder_files(folder))
            except ConfigError as error:
                raise ConfigError(str(error).replace("data.path:", f"{key}:", 1)) from error
            keys.append(key)
        if len(found) < 2:
            raise ConfigError("data.path and data.path_b are one folder: name that of A and that of B")
        return cls(*found, keys[1])

    def __len__(self) -> int:
        return len(self._names)

    def describe(self, index: int) -> str:
        return self._a.describe(self._names[index][0])

    def read(self, index: int, channels: int) -> Read:
        files = zip((self._a, self._b), self._names[index], strict=True)
        return [(place.describe(name), _decoded(place, name, channels)) for place, name in files]

    def notes(self) -> list[str]:
        return [*self._a.notes(), *self._b.notes()]

    def identity(self) -> list:
        return self._names


class SideBySide:
    """Pairs are the left and the right half of one image."""

    def __init__(self, files: Files):
        self._files = files

    @classmethod
    def open(cls, options: Paired.Options) -> "SideBySide":
        if options.path_b is not None:
            raise ConfigError("data.path_b is a folder of B, and data.layout is side_by_side: leave one of them out")
        path = expanded(options.path, "data.path")
        folder = path / (options.split or "train")
        if not (folder.is_dir() or options.split):
            folder = path
        if not folder.exists():
            raise ConfigError(f"data.path: there is nothing at {folder}: correct the path")
        return cls(folder_files(folder))

    def __len__(self) -> int:
        return len(self._files.names)

    def describe(self, index: int) -> str:
        return self._files.describe(self._files.names[index])

    def read(self, index: int, channels: int) -> Read:
        name, image = self.describe(index), _decoded(self._files, self._files.names[index], channels)
        if image.width % 2:
            raise ConfigError(
                f"{name} is {image.width} pixels wide, which cannot be halved: data.layout side_by_side needs images "
                "of an even width, A on the left and B on the right"
            )
        middle = image.width // 2
        halves = image.crop((0, 0, middle, image.height)), image.crop((middle, 0, image.width, image.height))
        return [(f"the {side} half of {name}", half) for side, half in zip(("left", "right"), halves, strict=True)]

    def notes(self) -> list[str]:
        return self._files.notes()

    def identity(self) -> list:
        return self._files.names


def _decoded(files: Files, name: str, channels: int) -> Image.Image:
    try:
        return decode(files.read(name), channels)
    except Exception as error:  # Pillow raises a dozen kinds on damaged bytes
        raise DataError(f"{files.describe(name)} cannot be decoded: {error}") from error


def _by_name(files: Files) -> dict[str, str]:
    """The images by their names without suffixes.

    Raises:
        ConfigError: two have one.
    """
    found: dict[str, str] = {}
    for name in files.names:
        stem = plain(str(PurePosixPath(name).with_suffix("")))
        if stem in found:
            raise ConfigError(
                f"{files.describe(found[stem])} and {files.describe(name)} have one name, so that nobody can tell "
                "which of them is of a pair: rename or remove one"
            )
        found[stem] = name
    return found


def _some(names: Iterable[str]) -> str:
    """The first few of ``names``, and how many more there are."""
    names = sorted(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
