"""The ``ganfleet`` command, and how every command of the project ends: one message, one exit code.

A verb's module is imported when the verb is used, so that ``ganfleet --help`` answers at once.
"""

import importlib
import sys
import traceback
from typing import NoReturn

import click

from ganfleet import __version__
from ganfleet.errors import INTERRUPTED, GanfleetError, StorageError
from ganfleet.fleet import launcher

VERBS = {
    "plan": "Show what a config would do, without training.",
    "train": "Train, in this process or as one rank of a fleet.",
    "sample": "Draw images from a checkpoint.",
    "translate": "Translate images from one domain to the other with a checkpoint.",
    "ckpt": "List, verify, compare and export checkpoints.",
    "data": "Prepare training data.",
    "strategies": "List the strategies there are, installed ones too.",
}
INTERNAL_ERROR = 70


def run(command: click.Command, args: list[str] | None = None, prog_name: str | None = None) -> NoReturn:
    """Run ``command`` on ``args`` (the process's own by default) and exit as the project's exit codes say.

    A GanfleetError is printed as its message alone, once where all ranks met it alike. Any other exception, sys.exit
    too, is a fault of ganfleet's or of a custom strategy, and keeps its traceback.
    """
    rank = launcher.detect()
    try:
        code = command.main(args, prog_name, standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        code = INTERRUPTED
    except GanfleetError as error:
        if rank.speaks or not error.alike:
            print(f"ganfleet: {'' if error.alike else rank.prefix}error: {error}", file=sys.stderr)
        code = error.exit_code
    except (Exception, SystemExit) as error:  # code that exits early would leave the other ranks waiting
        traceback.print_exc()
        print(f"ganfleet: {rank.prefix}internal error: {type(error).__name__} (traceback above)", file=sys.stderr)
        code = INTERNAL_ERROR
    rank.report_exit(code)
    sys.exit(code)


class Verbs(click.Group):
    """A group whose commands live in ``ganfleet.cli.<verb>``, each as ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return importlib.import_module(f"ganfleet.cli.{name}").command if name in VERBS else None

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
            raise StorageError("the output was closed before its end") from error

    def main(self, args=None, prog_name=None, standalone_mode=True, **extra):
        if standalone_mode:
            run(self, args, prog_name)
        return super().main(args, prog_name, standalone_mode=False, **extra)


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="ganfleet")
def main() -> None:
    """Train GANs over a fleet of cards, with the same bits for any number of them."""
