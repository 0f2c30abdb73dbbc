"""Start MindSpore, or say why it cannot be used here."""

import gc
import re
import sys
import tempfile
from types import ModuleType

from ganfleet.errors import ConfigError, StorageError

OLDEST = (2, 8)


def start_mindspore() -> ModuleType:
    """Import MindSpore.

    Raises:
        ConfigError: it is missing, broken, or too old.
        StorageError: it finds no folder for its temporary files.
    """
    try:
        tempfile.gettempdir()  # MindSpore's import would fail for want of one, and abort the process at its end
    except FileNotFoundError as error:  # it lists where it looked
        raise StorageError(
            f"MindSpore cannot start ({error.strerror or error}): free space there, or set TMPDIR to a folder that can "
            "be written"
        ) from error
    is_new = "mindspore" not in sys.modules
    try:
        import mindspore
    except Exception as error:
        cure = ". Run pip install --upgrade protobuf" if "protobuf" in str(error).lower() else ""
        raise ConfigError(f"MindSpore cannot start: {type(error).__name__}: {str(error).rstrip('.')}{cure}") from error
    if is_new:
        gc.freeze()  # MindSpore collects garbage before each graph, and would look through all that was imported
    check_version(mindspore.__version__)
    return mindspore


def check_version(version: str) -> None:
    """Refuse a MindSpore on which a run would fail later.

    Raises:
        ConfigError: ``version`` is too old.
    """
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST:
        raise ConfigError(
            f"ganfleet needs MindSpore 2.8 or newer, and this is {version}, which has no mint.split on CPUs: "
            "pip install 'mindspore>=2.8'"
        )
