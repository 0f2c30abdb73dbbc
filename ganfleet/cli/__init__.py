"""The ``ganfleet`` command, and how every command of the project ends: one message, one exit code.

A verb's module is imported when the verb is used, so that ``ganfleet --help`` answers at once.
"""

import atexit
import contextlib
import errno
import importlib
import io
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from keyword import iskeyword
from pathlib import Path
from typing import Any, NoReturn

import click

from ganfleet import __version__
from ganfleet.errors import INTERRUPTED, ConfigError, GanfleetError, NotEnoughMemory, StorageError
from ganfleet.fleet import launcher

VERBS = {
    "plan": "Show what a config would do, without training.",
    "train": "Train, in this process or as one rank of a fleet.",
    "launch": "Train on a fleet that is watched, and restarted where that helps.",
    "sample": "Draw images from a checkpoint.",
    "translate": "Translate images from one domain to the other with a checkpoint.",
    "evaluate": "Measure a checkpoint's images: FID, KID and others.",
    "blend": "Make a checkpoint of two related ones, by resolution.",
    "pairs": "Draw the same latents with two checkpoints, as pairs to train on.",
    "report": "Show a run in one HTML file, and write its model card.",
    "import": "Make a checkpoint of another program's weights.",
    "export": "Write a checkpoint's networks as ONNX, MindIR or safetensors.",
    "chaos": "Train while faults of a plan happen.",
    "ckpt": "List, verify, compare and export checkpoints.",
    "data": "Prepare training data.",
    "ascend": "Check what Ascend cards would make of a config, without a card.",
    "configs": "List the recipes that come with ganfleet, and copy one.",
    "strategies": "List the strategies there are, installed ones too.",
    "doctor": "Check whether this machine can train, and say what mends it.",
}
DOCTOR = "doctor"  # reports variables that contradict each other, beside what else it finds
# Those that a launcher may start as one rank of many.
FLEET_VERBS = ("train", "sample", "translate", "evaluate", "pairs", DOCTOR)
# Those whose processes are a fleet, if one of one rank, which has its own ways with SIGTERM.
FLEETS = {*FLEET_VERBS, "launch", "chaos"} - {DOCTOR}
INTERNAL_ERROR = 70
PIPED = 200  # characters in a line of a table that goes into a file or another program


def run(command: click.Command, args: list[str] | None = None, prog_name: str | None = None) -> NoReturn:
    """Run ``command`` on ``args`` (the process's own by default) and exit as the project's exit codes say.

    A GanfleetError is printed as its message alone, by the ranks that ``Launcher.telling`` chooses. Any other
    exception, sys.exit too, is a fault of ganfleet's or of a custom strategy, and keeps its traceback. What is no verb
    of a fleet ignores what a launcher has left in the environment.
    """
    _open_standard_streams()
    launcher.follow()
    _escape_what_cannot_be_shown()
    args = sys.argv[1:] if args is None else args
    rank = launcher.Launcher()
    try:
        verb = command.verb(args) if isinstance(command, Verbs) else FLEET_VERBS[0]
        if verb in FLEET_VERBS and not (verb == DOCTOR and launcher.contradiction()):
            rank = launcher.detect()
        with contextlib.nullcontext() if verb in FLEETS or rank.kind != "none" else _sigterm_as_ctrl_c():
            code = command.main(args, prog_name, standalone_mode=False) or 0
    except (Exception, SystemExit) as error:
        code = tell(error, rank if rank.kind == "none" else launcher.detect())  # which knows more once it has connected
    _flush()
    rank.report_exit(code)
    if launcher.is_abandoned() or (rank.kind == "msrun" and launcher.has_connected()):
        _leave(code)
    sys.exit(code)


def _leave(code: int) -> NoReturn:
    """End a rank of msrun once it has left the fleet.

    Without the destructors of MindSpore's C++ objects: one that runs while a thread of its network still works has
    crashed ranks whose run was over and saved.
    """
    if not launcher.is_abandoned():  # otherwise MindSpore would wait for its scheduler, which has ended too
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _open_standard_streams() -> None:
    """Open the null device in the place of a standard stream that somebody has closed. Another file would get its
    number, and the processes that are started here would lose that file to a stream of their own.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM ends the process as Ctrl-C does: files that are not done are removed, and processes it started end."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _escape_what_cannot_be_shown() -> None:
    """Print a character that the terminal's encoding lacks, or a byte of a file name that is none, as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """Print what is left, if somebody still reads it; otherwise Python's own try at the end would change the code."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(error: BaseException, rank: launcher.Launcher) -> int:
    """Print what ``rank`` has to say about ``error``; the exit code that goes with it."""
    code, lines = _ending(error, rank)
    with contextlib.suppress(OSError):  # the terminal is closed
        for line in lines:
            print(line, file=sys.stderr)
    return code


def _ending(error: BaseException, rank: launcher.Launcher) -> tuple[int, list[str]]:
    match error:
        case click.ClickException():
            told = rank.telling(ConfigError())
            return error.exit_code, [] if told is None else _usage(error)
        case click.Abort():
            return INTERRUPTED, []
        case OSError(errno=errno.ENOSPC):
            return _ending(StorageError(f"the disk is full ({error}): free space where the output goes"), rank)
        case MemoryError():
            told = f"more memory is needed than there is ({error}): choose fewer or smaller images or networks"
            return _ending(NotEnoughMemory(told), rank)
        case GanfleetError():
            told = rank.telling(error)
            return error.exit_code, [] if told is None else [f"ganfleet: error: {told}"]
    # Code that exits early is among the rest: it would leave the other ranks waiting.
    last = f"ganfleet: internal error: {rank.prefix}{type(error).__name__} (traceback above)"
    return INTERNAL_ERROR, ["".join(traceback.format_exception(error)).rstrip(), last]


def _usage(error: click.ClickException) -> list[str]:
    shown = io.StringIO()
    error.show(shown)
    return [shown.getvalue().rstrip()]


class Number(click.FloatRange):
    """An option's number; nan and inf, which Python takes for numbers too, are none."""

    def convert(self, value, param, ctx):
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not finite.", param, ctx)
        return number


def console():
    """Where tables are printed: as wide as the terminal, or wide enough for them where there is none."""
    from rich.console import Console

    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED
    return Console(highlight=False, markup=False, width=wide)


def example(*lines: str) -> str:
    """What ``--help`` shows at its end: commands as a user types them."""
    return "\n".join(["\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)])


class Read(click.ParamType):
    """What ``read`` makes of the text, which it refuses with a ValueError."""

    def __init__(self, name: str, read: Callable[[str], Any]):
        self.name, self._read = name, read

    def convert(self, value, param, ctx):
        try:
            return self._read(value)
        except ValueError as error:
            return self.fail(str(error), param, ctx)


def check_writable(out: Path) -> None:
    """Refuse a file ``--out`` that cannot be written, before anything is made.

    Raises:
        ConfigError: there is no such folder, or a folder in the file's place.
    """
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder: name a file in it")
    _check_parent(out)


def check_new(out: Path) -> None:
    """Refuse a directory ``--out`` that is there already, or cannot be made, before anything is computed.

    Raises:
        ConfigError: something is there, or there is no folder for it.
    """
    if out.exists():
        raise ConfigError(f"--out {out} is there already: choose another name")
    _check_parent(out)


def _check_parent(out: Path) -> None:
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}, make it first")


def forget_folder(script: str) -> None:
    """Keep what lies beside ``script`` from being imported: Python takes it for modules that a user may have too."""
    folder = os.path.dirname(os.path.realpath(script))
    sys.path[:] = [each for each in sys.path if os.path.realpath(each) != folder]


class Verbs(click.Group):
    """A group whose commands live in ``ganfleet.cli.<verb>``, each as ``command``; ``import_``, a word of Python's."""

    def verb(self, args: list[str]) -> str | None:
        """The verb among ``args``; no option of the group takes a value."""
        return next((each for each in args if each in VERBS), None)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        return importlib.import_module(f"ganfleet.cli.{name}_" if iskeyword(name) else f"ganfleet.cli.{name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context):
        """Run the verb.

        Raises:
            StorageError: as with ``| head``, nobody reads the output any more. click and rich would exit with 1.
        """
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, SystemExit) as error:
            if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
                raise
            raise StorageError("the output was closed before its end: read all of it") from error

    def main(self, args=None, prog_name=None, standalone_mode=True, **extra):
        if standalone_mode:
            run(self, args, prog_name)
        return super().main(args, prog_name, standalone_mode=False, **extra)


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=example(
        "ganfleet train --config quickstart run.name=first",
        "ganfleet sample --checkpoint runs/first --out first.png",
    ),
)
@click.version_option(__version__, "-V", "--version", prog_name="ganfleet")
def main() -> None:
    """Train GANs over a fleet of cards, with the same bits for any number of them."""
