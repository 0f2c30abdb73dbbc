"""What an encoder makes of captions, computed once and kept on disk; all processes of a machine share the work.

Captions are cut into parts. A process computes a part that nobody has and nobody is at, and in the end waits for those
that others are at. A part is there whole or not at all, and has a SHA-256 of its own. Only tokens that count are kept,
in float16, to which prompts are rounded too.
"""

import fcntl
import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ganfleet.errors import ConfigError, StorageError
from ganfleet.fleet import heartbeat
from ganfleet.store import publish
from ganfleet.text.encoder import Encoder

FORMAT = 1
PART = 1024  # captions


@dataclass(frozen=True)
class Part:
    """``values`` float16 (all tokens, features); those of caption i are from ``starts[i]`` to ``starts[i + 1]``."""

    values: np.ndarray
    starts: np.ndarray

    def get(self, i: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Features float32 (tokens, features) of caption ``i`` of this part, and their mask float32 (tokens,)."""
        found = self.values[self.starts[i] : self.starts[i + 1]]
        features, mask = np.zeros((tokens, self.values.shape[1]), np.float32), np.zeros(tokens, np.float32)
        features[: len(found)], mask[: len(found)] = found, 1
        return features, mask


class Embeddings:
    """Features of ``captions``, which are all different, by ``encoder`` with at most ``tokens`` tokens each.

    They are in a folder of their own below ``root``, or computed first.

    Raises:
        ConfigError: ``root`` is in the user's home, and there is none; or the encoder cannot be used.
        StorageError: they cannot be stored.
    """

    def __init__(self, encoder: Encoder, captions: Sequence[str], tokens: int, root: Path):
        if root.parts[0].startswith("~"):
            raise ConfigError(
                f"data.cache: features of captions would go to {root}, but this user has no home: set data.cache to a "
                "folder"
            )
        self.tokens = tokens
        facts = [FORMAT, encoder.sha256, tokens, list(captions)]
        folder = root / f"text-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}"
        with _storing(root):
            folder.mkdir(parents=True, exist_ok=True)
            self._parts = _shared_out(folder, encoder, captions, tokens)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Features float32 (tokens, features) of caption ``i``, 0 behind its last token, and their mask (tokens,)."""
        return self._parts[i // PART].get(i % PART, self.tokens)


def rounded(features: np.ndarray) -> np.ndarray:
    """``features`` as the cache would give them back."""
    return features.astype(np.float16).astype(np.float32)


@contextmanager
def _storing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot store features of captions in {root}: {error.strerror or error}. Free or unlock this place, or "
            "set data.cache to another folder."
        ) from error


def _shared_out(folder: Path, encoder: Encoder, captions: Sequence[str], tokens: int) -> list[Part]:
    """All parts in ``folder``, of which this process makes those that no other one makes."""
    count = -(-len(captions) // PART)
    parts: dict[int, Part] = {}
    told = False
    for wait in (False, True):
        for number in range(count):
            if number in parts:
                continue
            with _locked(folder / f"{number}.lock", wait) as mine:
                if not mine:
                    continue
                found = _load(folder / str(number))
                if found is None:
                    if not told:
                        what = "1 caption" if len(captions) == 1 else f"{len(captions):,} captions"
                        print(f"ganfleet: encoding {what} once, into {folder}", file=sys.stderr)
                        told = True
                    _make(folder / str(number), encoder, captions[number * PART : (number + 1) * PART], tokens)
                    found = _load(folder / str(number))
                    heartbeat.beat()
                parts[number] = found
    return [parts[number] for number in range(count)]


@contextmanager
def _locked(path: Path, wait: bool) -> Iterator[bool]:
    """Whether this process has the lock, which goes with it, however it ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def _make(folder: Path, encoder: Encoder, captions: Sequence[str], tokens: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # it is damaged
    features, mask = encoder.encode(captions, tokens)
    lengths = mask.sum(1).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    values = np.concatenate([row[:length] for row, length in zip(features, lengths, strict=True)]).astype(np.float16)
    # Not durable: what a power failure spoils, the checksum tells.
    with publish.directory(folder, durable=False) as made:
        np.save(made / "starts.npy", starts)
        np.save(made / "values.npy", values)
        (made / "sha256").write_text(_sha256(starts, values))


def _load(folder: Path) -> Part | None:
    """What is in ``folder``; None unless it is whole."""
    try:
        values, starts = np.load(folder / "values.npy", mmap_mode="r"), np.load(folder / "starts.npy")
        whole = (folder / "sha256").read_text() == _sha256(starts, values)
    except (OSError, ValueError, EOFError):  # not there, or too short
        return None
    return Part(values, starts) if whole else None


def _sha256(starts: np.ndarray, values: np.ndarray) -> str:
    return hashlib.sha256(starts.tobytes() + hashlib.sha256(np.ascontiguousarray(values)).digest()).hexdigest()
