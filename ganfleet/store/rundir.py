"""The directory of one run: where it is, what it is called, and whether it can be written.

What the files in it say is left to those who write them; they turn an OSError into a StorageError with ``writing``.
"""

import re
import tempfile
from contextlib import contextmanager
from pathlib import Path

from ganfleet.errors import StorageError

SUBFOLDERS = ("samples", "checkpoints")


@contextmanager
def writing(path: Path):
    """Turns an OSError inside the block into a StorageError that names ``path`` and the reason."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}. Free or unlock this place, or choose another run.dir."
        ) from error


def create(root: Path, name: str | None, label: str) -> Path:
    """The run directory ``root/name``, or a new ``root/00003-label`` where ``name`` is None, with its subfolders.

    A named directory that exists is used again. A numbered one is always new, also when several processes create
    theirs at the same moment. Characters of ``label`` that do not belong in a folder name become ``-``.

    Raises:
        StorageError: the directory cannot be created, or no file can be written in it.
    """
    root = Path(root)
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        run_dir = _numbered(root, label) if name is None else root / name
    with writing(run_dir):
        for folder in (run_dir, *(run_dir / each for each in SUBFOLDERS)):
            folder.mkdir(parents=True, exist_ok=True)
            # A folder that is there may still belong to someone else or lie on a read-only disk: only writing tells.
            tempfile.TemporaryFile(dir=folder).close()
    return run_dir


def _numbered(root: Path, label: str) -> Path:
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", label)
    while True:
        numbers = [int(match[1]) for each in root.iterdir() if (match := re.match(r"(\d{5,})-", each.name))]
        run_dir = root / f"{max(numbers, default=-1) + 1:05d}-{label}"
        try:
            run_dir.mkdir()
            return run_dir
        except FileExistsError:
            continue  # another process was faster; its directory counts in the next round
