"""Rows of numbers, one for each image, in files of a block each: what a killed evaluation finds again.

A row depends on its image alone, and a block on its rows, so whoever writes a file writes the same bytes.
"""

import hashlib
import io
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ganfleet.document import expanded, user_cache
from ganfleet.errors import StorageError
from ganfleet.store import publish
from ganfleet.store.publish import writing

BLOCK = 32  # images
LIMIT = 4 << 30  # bytes of all folders of rows together; those not used for longest go first
IN_USE = 3600  # seconds for which a folder is not removed after its last use
CHECKSUM = 32  # bytes of SHA-256, at the end of a file
FOLDER = "features"


def place() -> Path:
    """The folder of all rows, in the user's cache.

    Raises:
        ConfigError: this user has no home for it.
    """
    return expanded(user_cache(), "the cache (XDG_CACHE_HOME)") / FOLDER


def key(*facts: object) -> str:
    """A name for what ``facts``, made of lists, strings and numbers, determine."""
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


class Folder:
    """The blocks of one kind of rows."""

    def __init__(self, path: Path):
        self.path = path

    def read(self, name: str) -> np.ndarray | None:
        """The rows of a block; None where they are not there, or damaged."""
        try:
            content = (self.path / name).read_bytes()
        except OSError:
            return None
        data, checksum = content[:-CHECKSUM], content[-CHECKSUM:]
        if hashlib.sha256(data).digest() != checksum:
            return None
        return np.load(io.BytesIO(data), allow_pickle=False)

    def write(self, name: str, rows: np.ndarray) -> None:
        """Put the rows of a block in place, if they are not there.

        Raises:
            StorageError: there is no place for them.
        """
        if (self.path / name).exists() and self.read(name) is not None:
            return
        content = io.BytesIO()
        np.save(content, rows, allow_pickle=False)
        data = content.getvalue()
        with writing(self.path, "another cache with XDG_CACHE_HOME"):
            self.path.mkdir(parents=True, exist_ok=True)
        publish.file(self.path / name, data + hashlib.sha256(data).digest(), durable=False)

    def used(self) -> None:
        """Note that these rows are of use now, and remove those of others that take too much room."""
        with suppress(OSError):
            os.utime(self.path)
            _prune(self.path)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _prune(used: Path) -> None:
    """Remove folders beside the one just ``used``."""
    found = sorted(((each.stat().st_mtime, each) for each in used.parent.iterdir()), reverse=True)
    total = 0
    for used_at, folder in found:
        total += sum(file.stat().st_size for file in folder.iterdir())
        if total > LIMIT and folder != used and time.time() - used_at > IN_USE:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Rows:
    """Rows (n, d) in ``folder``, in the order of the blocks' ``names``. Only a block is in memory at a time."""

    folder: Folder
    names: Sequence[str]
    lengths: Sequence[int]

    def __len__(self) -> int:
        return sum(self.lengths)

    def blocks(self) -> Iterator[np.ndarray]:
        """The rows of one block after the other. They were checked when they were collected.

        Raises:
            StorageError: a file went away.
        """
        for name in self.names:
            try:
                rows = np.load(self.folder.path / name, allow_pickle=False)
            except (OSError, ValueError) as error:
                raise StorageError(
                    f"{self.folder.path / name} went away while it was in use: evaluate again, which makes it anew"
                ) from error
            if len(rows):
                yield rows

    def chunks(self, size: int) -> Iterator[np.ndarray]:
        """``size`` rows at a time, float64, the last time fewer."""
        waiting: list[np.ndarray] = []
        for rows in self.blocks():
            waiting.append(rows.astype(np.float64))
            if sum(map(len, waiting)) >= size:
                whole = np.concatenate(waiting)
                yield from (whole[i : i + size] for i in range(0, len(whole) - size + 1, size))
                waiting = [whole[len(whole) - len(whole) % size :]]
        rest = np.concatenate(waiting) if waiting else np.empty(0)
        if len(rest):
            yield rest

    def all(self) -> np.ndarray:
        """All rows, float64."""
        return np.concatenate(list(self.chunks(BLOCK)))

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The rows of these ``indices``, float64, in their order."""
        order = np.argsort(indices, kind="stable")
        found, start, i = None, 0, 0
        for rows in self.blocks():
            first = i
            while i < len(order) and indices[order[i]] < start + len(rows):
                i += 1
            if i > first:
                if found is None:
                    found = np.empty((len(indices), rows.shape[1]))
                found[order[first:i]] = rows[indices[order[first:i]] - start]
            start += len(rows)
        return found
