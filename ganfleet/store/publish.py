"""The one way to put a file or a directory in place: it is whole under its name, or it is not there.

Everything is made under a temporary name in the same folder and renamed. What a file says, and which older ones may go,
is left to the caller. Temporary names do not contain the final one: a name may be as long as the file system allows.
"""

import errno
import hashlib
import itertools
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ganfleet.errors import StorageError
from ganfleet.store import process

TEMPORARY = ".tmp-"
DAY = 24 * 3600  # seconds
_numbers = itertools.count()
_swept: set[Path] = set()


@contextmanager
def writing(path: Path, elsewhere: str = "another place") -> Iterator[None]:
    """Turns an OSError inside the block into a StorageError that names ``path``, the reason, and what to choose."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}. Free or unlock this place, or choose {elsewhere}."
        ) from error


def is_full(error: StorageError) -> bool:
    """Whether it was raised because the disk is full, or the user's share of it."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)


def file(path: Path, content: bytes | str, durable: bool = True) -> None:
    """Put ``content`` at ``path``, where a reader sees what was there before or all of it.

    Text is written as UTF-8 whatever the locale. A link stays, and what it points to is replaced. A pipe or a device
    is written to.

    Args:
        durable: whether it must survive a power failure once this returns. Pictures need not: they are made again.

    Raises:
        StorageError: the file cannot be written; one that was there before is as before.
    """
    content = content.encode() if isinstance(content, str) else content
    with writing(path):
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file() and not target.is_dir():
            target.write_bytes(content)
            return
        made = temporary(target.parent)
        try:
            new_file(made, content, durable)
            rename(made, target, durable)
        finally:
            made.unlink(missing_ok=True)


@contextmanager
def directory(path: Path, durable: bool = True) -> Iterator[Path]:
    """A new directory to fill; it gets the name ``path`` when the block ends, and vanishes if the block fails.

    With ``durable`` the directory and its name survive a power failure; make the files in it with ``new_file``.

    Raises:
        OSError: it cannot be written, or ``path`` is there already. What that means, the caller can say best.
    """
    made = temporary(path.parent)
    os.mkdir(made)
    try:
        yield made
        if durable:
            fsync(made)
        rename(made, path, durable)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def new_file(path: Path, content: bytes, durable: bool = True) -> None:
    """Write a file that must not be there yet, under a name that nobody reads yet.

    Raises:
        OSError: it cannot be written.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(handle, rest) :]
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)


def rename(source: Path, target: Path, durable: bool = True) -> None:
    """Rename in one step, over an existing file or an empty directory; both are in the same folder."""
    os.rename(source, target)
    if durable:
        fsync(target.parent)


def remove(path: Path) -> None:
    """Remove a directory: out of sight in one step, so that a kill on the way leaves nothing that looks damaged.

    Of a link only the link goes.
    """
    trash = temporary(path.parent)
    os.rename(path, trash)
    _erase(trash)


def fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def temporary(folder: Path) -> Path:
    """A name in ``folder`` for something unfinished, which no other process and no other call gets.

    The first call for a folder removes what killed processes left there.
    """
    if folder not in _swept:
        _swept.add(folder)
        sweep(folder)
    return folder / f"{TEMPORARY}{_host()}-{os.getpid()}-{next(_numbers)}"


def sweep(folder: Path, every: bool = False) -> None:
    """Remove the temporary files and directories of dead processes from ``folder``; with ``every``, of all processes.

    A process of another host counts as dead when what it left has not changed for a day.
    """
    with suppress(OSError):
        for path in [Path(entry) for entry in os.scandir(folder) if entry.name.startswith(TEMPORARY)]:
            with suppress(OSError):
                if every or _abandoned(path):
                    _erase(path)


def _erase(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def _abandoned(path: Path) -> bool:
    host, _, rest = path.name.removeprefix(TEMPORARY).partition("-")
    pid = rest.partition("-")[0]
    if host == _host() and pid.isdigit():
        return not process.alive(int(pid))
    newest = max(each.stat().st_mtime for each in (path, *(path.iterdir() if path.is_dir() else ())))
    return time.time() - newest > DAY


def _host() -> str:
    """Eight characters for where this process's number counts."""
    return hashlib.sha256(process.namespace().encode()).hexdigest()[:8]
