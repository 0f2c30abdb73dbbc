"""The user's code while the engine runs it: whatever it raises becomes one error that says where."""

import inspect
import os
import re
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganfleet.errors import GanfleetError, NotEnoughMemory, StrategyFailed

# MindSpore writes pages about a mistake in a graph, with its place, into the current folder, or where this says.
OM_PATH = "MS_OM_PATH"
_OURS = "ganfleet-analysis-"
if _OURS in os.environ.get(OM_PATH, _OURS):
    os.environ[OM_PATH] = os.path.join(tempfile.gettempdir(), f"{_OURS}{os.getpid()}")


IN_A_GRAPH = (
    "MindSpore does not say where. It is compiled into a graph, in which tensors have no values yet: use operations of "
    "tensors only, not NumPy, asnumpy() or float()"
)


@contextmanager
def running(what: str, code: object, unplaced: str = "") -> Iterator[None]:
    """While the user's ``code`` runs, which is ``what`` in a message: whatever it raises becomes one error.

    ``unplaced`` is added where nothing tells the line that it came from.

    Raises:
        StrategyFailed: with the line of the user's file that it came from.
        NotEnoughMemory: it asks for more than there is.
    """
    try:
        with folder_kept():
            yield
    except GanfleetError:
        raise
    except MemoryError as error:
        raise NotEnoughMemory(f"{what} asks for more memory than there is{_place(error, code)}: {error}") from error
    except Exception as error:
        place = _place(error, code)
        hint = f". {unplaced}" if unplaced and not place else ""
        raise StrategyFailed(f"{what} failed{place}: {_first_line(error)}{hint}") from error


@contextmanager
def folder_kept() -> Iterator[None]:
    """The current folder is afterwards what it was before: a run's paths may be relative to it."""
    folder = _current_folder()
    try:
        yield
    finally:
        if folder is not None and _current_folder() != folder:
            os.chdir(folder)


def _current_folder() -> str | None:
    """None where somebody has removed it."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _place(error: Exception, code: object) -> str:
    """Where in the file of ``code`` ``error`` came from: `` at my_gan.py:31``; nothing where that cannot be told."""
    try:
        file = inspect.getsourcefile(code)
    except TypeError:
        return ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    # Of what a graph runs, MindSpore tells the place in the message or in its pages about it.
    told = re.findall(r"(?m)^# \d+ In file (.+?):(\d+)", f"{error}\n{_analysis()}")
    lines += [int(line) for path, line in told if path == file]
    return f" at {Path(file).name}:{lines[-1]}" if lines else ""


def _analysis() -> str:
    """What MindSpore has written about a mistake in a graph. It is removed, unless the user has said where it goes."""
    folder = Path(os.environ.get(OM_PATH, "."))
    text = "".join(path.read_text(errors="replace") for path in folder.glob("rank_*/om/analyze_fail.ir"))
    if _OURS in folder.name:
        shutil.rmtree(folder, ignore_errors=True)
    return text


def _first_line(error: Exception) -> str:
    """The kind of ``error`` and the first line of what it says; in MindSpore's errors, the rest is for its authors."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip(" -")), "")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
