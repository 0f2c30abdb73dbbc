"""``ganfleet chaos``: train while the faults of a plan happen, and say what came of them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import click

from ganfleet.cli import example, main
from ganfleet.errors import ConfigError
from ganfleet.store import publish

INJECTOR = "ganfleet.chaos.inject:Chaos"


@click.command(
    "chaos",
    context_settings={"ignore_unknown_options": True},
    epilog=example(
        "ganfleet chaos --plan faults.yaml -- --workers 2 --config quickstart",
        "ganfleet chaos --plan faults.yaml --keep seen -- --config my.yaml",
        "ganfleet chaos --plan faults.yaml -- launch -n 2 -- --config my.yaml",
    ),
)
@click.option("--plan", "path", required=True, type=click.Path(path_type=Path), help="A YAML file that lists faults.")
@click.option("--keep", type=click.Path(path_type=Path), help="A folder that keeps which faults have happened.")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- [VERB] OPTIONS")
def command(path: Path, keep: Path | None, words: tuple[str, ...]):
    """Train while the faults of a plan happen, to see what a fleet does about them.

    What follows -- is a command of ganfleet's without its first word, `ganfleet train` where it begins with an option.
    Each fault happens once: with --keep, also if the run is started again with the same folder.
    """
    from ganfleet.chaos import plan

    faults = plan.read(path).faults
    words = ("train", *words) if words[0].startswith("-") else words
    if words[0] == "chaos":
        raise ConfigError("the command after -- must be another one than chaos: give the options of `ganfleet train`")
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ganfleet-chaos-")))
        _keep(path, folder)
        stack.callback(_report, faults, folder.resolve())
        stack.enter_context(_variables(GANFLEET_CHAOS=str(folder.resolve()), GANFLEET_CALLBACKS=_with_injector()))
        return main.main(list(words), standalone_mode=False)


def _keep(path: Path, folder: Path) -> None:
    """Put the plan ``path`` where the ranks look for it.

    Raises:
        ConfigError: the faults that have happened there are those of another plan.
        StorageError: it cannot be written.
    """
    from ganfleet.chaos.events import PLAN, Events

    kept = folder / PLAN
    with publish.writing(folder, "another folder with --keep"):
        folder.mkdir(parents=True, exist_ok=True)
        if Events(folder).happened() and kept.read_bytes() != path.read_bytes():
            raise ConfigError(f"{folder} keeps which faults of another plan have happened: choose another with --keep")
        if not (kept.exists() and kept.samefile(path)):
            publish.file(kept, path.read_bytes())


def _with_injector() -> str:
    return " ".join([*os.environ.get("GANFLEET_CALLBACKS", "").split(), INJECTOR])


@contextmanager
def _variables(**values: str) -> Iterator[None]:
    """While it lasts, the environment has these variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _report(faults, folder: Path) -> None:
    """A line for each fault: when it happened."""
    from ganfleet.chaos.events import Events

    seen = [each for each in Events(folder).read() if each["event"] == "fault"]
    for index, fault in enumerate(faults):
        steps = [each for each in seen if each["fault"] == index]
        when = ", ".join(f"step {each['step']} at {datetime.fromtimestamp(each['time']):%H:%M:%S}" for each in steps)
        print(f"chaos: {fault}: {when or 'has not happened'}")
