"""A folder for a process's own files, which does not outlive it for long, even if the process is killed."""

import atexit
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

LOCK = "in-use"
_held: list[int] = []  # open, and so locked, until this process ends, however that is


def scratch(prefix: str) -> Path:
    """A new folder among the temporary files, removed at exit. Those that killed processes have left are removed now.

    ``prefix`` begins the folder's name, and no other program's.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    held = os.open(folder / LOCK, os.O_CREAT | os.O_WRONLY, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    os.write(held, b"locked")
    _held.append(held)
    for other in folder.parent.glob(f"{prefix}*"):
        if _is_left(other):
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _is_left(folder: Path) -> bool:
    """Whether its process has ended. A process id would not tell: it may be another container's."""
    try:
        lock = os.open(folder / LOCK, os.O_WRONLY)
    except OSError:  # it is being made, or it is somebody else's
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(lock).st_size > 0  # empty before its process has locked it
    except OSError:
        return False
    finally:
        os.close(lock)
