"""A folder of prepared data that is there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganfleet.errors import ConfigError, StorageError


def refuse_if_used(out: Path) -> None:
    """
    Raises:
        ConfigError: there is something at ``out`` already, other than an empty folder.
    """
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        kind = "is not empty" if out.is_dir() else "is a file"
        raise ConfigError(f"--out: {out} {kind}: choose another place, or remove it first.")


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write into. It becomes ``out`` at the end of the block, or is removed on an error.

    Raises:
        ConfigError: ``out`` is in use.
        StorageError: a file cannot be written.
    """
    out = out.absolute()
    refuse_if_used(out)
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        unfinished.rename(out)
    except OSError as error:
        raise StorageError(
            f"cannot write {out}: {error.strerror or error}. Free or unlock this place, or choose another --out."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
