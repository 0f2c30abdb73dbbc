"""The directory of one run: planned, then locked, then made. A start that is refused on the way leaves no trace.

What the files in it say is left to those who write them.
"""

import os
import re
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from ganfleet.document import expanded
from ganfleet.errors import ConfigError, RunInUse
from ganfleet.store import publish
from ganfleet.store.lock import Lock
from ganfleet.store.publish import writing

SUBFOLDERS = ("samples", "checkpoints")
ELSEWHERE = "another run.dir"
LONGEST = 255 - len("..lock")  # bytes of a name: a file system takes 255, and the lock beside it has a longer one
SHARED_SECONDS = 15  # for a file that another host has just made to be seen here, as over NFS


def plan(root: Path | str, name: str | None, label: str) -> "RunDir":
    """The run directory ``root/name``, or a new ``root/00003-label`` where ``name`` is None. Nothing is made yet.

    Characters of ``label`` that do not belong in a folder name become ``-``; ``~`` in ``root`` is the home directory.

    Raises:
        ConfigError: there is no home directory for ``~`` or ``~user``; the name is too long.
        StorageError: ``root`` is there and cannot be read.
    """
    root = expanded(root, "run.dir")
    if name is not None:
        length = len(os.fsencode(name))
        if length > LONGEST:
            raise ConfigError(f"run.name has {length} bytes, more than the {LONGEST} there are: choose a shorter one")
        return RunDir(root / name)
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", label)
    return RunDir(_next(root, label), label)


def check_shared(path: Path, sign: str) -> None:
    """Make sure that the run ``path`` is here the directory of the process whose ``sign`` this is, see ``RunDir.sign``.

    Raises:
        ConfigError: it is another one, on a disk that the two do not share.
    """
    file, end = _lock_of(path) / sign, time.monotonic() + SHARED_SECONDS
    while True:
        try:
            file.open().close()
            return
        except OSError:
            if time.monotonic() > end:
                raise ConfigError(
                    f"{path.absolute()} is not the folder that rank 0 writes to: the nodes do not share it. Put "
                    "run.dir on a disk that is mounted at the same path on all nodes"
                ) from None
            time.sleep(0.1)


def _lock_of(path: Path) -> Path:
    """Where the lock of a run directory is: it belongs to the place itself, by whatever link that is reached."""
    place = Path(os.path.realpath(path))
    return place.with_name(f".{place.name}.lock")


class RunDir:
    """A run directory that this process alone writes to from ``take`` to ``release``.

    ``with`` takes and releases it. It need not exist before ``create``.
    """

    def __init__(self, path: Path, label: str | None = None):
        self._label = label  # of one that must be new
        self._lock: Lock | None = None
        self._made: list[Path] = []  # directories that go again if nothing comes into them
        self.path = path

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def sign(self) -> str:
        """The name of a file beside it that only the process has made which has taken it."""
        return self._lock.name

    @property
    def seems_taken(self) -> bool:
        """Whether there is a lock; its owner may be dead."""
        return _lock_of(self.path).exists()

    def take(self) -> "RunDir":
        """Take its lock. A numbered directory gets the next number if another process was faster.

        Raises:
            RunInUse: another process writes to it; the message says which, and what to do.
            StorageError: the lock, which is beside the directory, cannot be written.
        """
        with writing(self.path.parent, ELSEWHERE):
            self._make(self.path.parent)
            try:
                while not self._taken():
                    self.path = _next(self.path.parent, self._label, after=self.path)
            except BaseException:
                self._unmake()
                raise
        return self

    def create(self) -> Path:
        """Make the directory and its subfolders, where they are not there yet, and see that files can be written.

        Raises:
            StorageError: they cannot be made, or no file can be written in them.
        """
        with writing(self.path, ELSEWHERE):
            for folder in (self.path, *(self.path / each for each in SUBFOLDERS)):
                self._make(folder)
                # A folder that is there may belong to someone else or lie on a read-only disk: only writing tells.
                tempfile.TemporaryFile(dir=folder).close()
        return self.path

    def write_config(self, text: str) -> None:
        """Write ``config.yaml``, whole or not at all: the last step of a start, when nothing can refuse it any more.

        Raises:
            StorageError: it cannot be written.
        """
        publish.file(self.path / "config.yaml", text)
        self._made.clear()  # the run has begun

    def check(self) -> None:
        """Make sure that this process may still write to it.

        Raises:
            RunInUse: it was silent for so long that another process took over.
        """
        if self._lock:
            with writing(self.path, ELSEWHERE):
                self._lock.check()

    def release(self) -> None:
        """Give the lock back; remove the directories that this run made and put nothing into."""
        if self._lock:
            self._unmake(below=self.path)
            self._lock.release()
            self._lock = None
        self._unmake()

    def __enter__(self) -> "RunDir":
        return self.take()

    def __exit__(self, *_) -> None:
        self.release()

    def _taken(self) -> bool:
        """Whether the lock is taken; a numbered directory may turn out to be another run's instead."""
        lock = Lock(_lock_of(self.path), self.path)
        try:
            lock.take()
        except RunInUse:
            if self._label is None:
                raise
            return False
        if self._label is not None and self.path.exists():  # made, and perhaps ended, since it was planned
            lock.release()
            return False
        self._lock = lock
        return True

    def _make(self, folder: Path) -> None:
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        for each in reversed(missing):
            with suppress(FileExistsError):  # another process was faster; if it is a file, writing in it fails
                each.mkdir()
                self._made.append(each)

    def _unmake(self, below: Path | None = None) -> None:
        """Remove the empty directories among those made, or only those at and below a path."""
        for folder in self._made[::-1]:
            if below is None or folder.is_relative_to(below):
                with suppress(OSError):
                    folder.rmdir()
                self._made.remove(folder)


def _next(root: Path, label: str, after: Path | None = None) -> Path:
    """The first number that no run in ``root`` has, and none up to ``after``."""
    try:
        names = [*os.listdir(root), *([after.name] if after else [])]
    except (FileNotFoundError, NotADirectoryError):
        names = []
    except OSError as error:
        with writing(root, ELSEWHERE):
            raise error
    numbers = [int(match[1]) for name in names if (match := re.match(r"(\d{5,})-", name))]
    return root / f"{max(numbers, default=-1) + 1:05d}-{label}"
