"""``ganfleet doctor``: whether this machine, or a whole fleet, can train, and what to do where it cannot."""

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import click
from rich.text import Text

from ganfleet.cli import Number, console, example
from ganfleet.cli.workers import start
from ganfleet.doctor import CHECKS, Finding, Settings, alone, environment, examine, worst
from ganfleet.doctor.finding import FAILURE, OK, SKIPPED, WARNING
from ganfleet.fleet import launcher

COLOURS = {OK: "green", WARNING: "yellow", FAILURE: "bold red", SKIPPED: "dim"}


@click.command(
    "doctor",
    epilog=example(
        "ganfleet doctor", "ganfleet doctor --json versions folders", "ganfleet doctor --workers 8 allreduce"
    ),
)
@click.option(
    "--run-dir", type=click.Path(path_type=Path), default="runs", show_default=True, help="Where runs are (run.dir)."
)
@click.option("--workers", type=click.IntRange(2), default=2, show_default=True, help="Ranks of the all-reduce.")
@click.option("--timeout", type=Number(1, 86400), default=120, show_default=True, help="Seconds for a check.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--alone", "here", is_flag=True, hidden=True, help="Run one check in this process.")
@click.option("--fleet", type=click.Path(path_type=Path), hidden=True, help="Start --workers, which log there.")
@click.argument("checks", nargs=-1, type=click.Choice([*CHECKS]), metavar="[CHECK]...")
def command(run_dir, workers, timeout, as_json, here, fleet, checks):
    """Check what a run needs: versions, cards, variables, ports, memory, limits, folders, and an all-reduce.

    Whatever fails is shown with what mends it. Started by msrun or mpiexec, it checks the all-reduce among all ranks of
    that fleet, and that their versions are equal.
    """
    settings = Settings(run_dir, workers, timeout)
    if here:
        return click.echo(json.dumps(alone(checks[0], settings)))
    if not launcher.contradiction() and launcher.detect().kind != "none":
        return among_ranks(as_json, timeout)
    if fleet:
        return start(workers, ["doctor", "--json"], fleet)
    names = [name for name in CHECKS if not checks or name in checks]
    found: dict[str, list[Finding]] = {}
    for name, findings in examine(names, settings):
        found[name] = findings
        if not as_json:
            show(name, findings)
    error = worst(found)
    if as_json:
        listed = [{"check": name, **asdict(each)} for name, findings in found.items() for each in findings]
        report = {"ok": error is None, "exit_code": error.exit_code if error else 0, "findings": listed}
        click.echo(json.dumps(report | {"environment": environment()}, indent=2))
    if error:
        failed = [name for name, findings in found.items() if any(each.status == FAILURE for each in findings)]
        raise error(
            f"{len(failed)} of {len(names)} checks failed: {', '.join(failed)}. Do what the arrows point to, then run "
            f"`ganfleet doctor {' '.join(failed)}` again"
        )


def among_ranks(as_json: bool, seconds: float) -> None:
    """The all-reduce of the fleet of which this process is a rank; rank 0 prints it.

    Where msrun has not said how long ranks wait for each other, that is ``seconds``.
    """
    from ganfleet.doctor.allreduce import in_words, measure

    started = launcher.detect()
    waits = int(os.environ.setdefault("MS_TOPO_TIMEOUT", str(math.ceil(seconds)))) if started.kind == "msrun" else None
    if started.speaks:
        limit = f" for up to {waits} s; unset {started.sign} to check this machine alone" if waits else ""
        click.echo(
            f"{started.sign} says that this is one of {started.world_size} ranks: it waits for the others{limit}",
            err=True,
        )
    measured = measure()
    if launcher.detect().speaks:
        click.echo(json.dumps(measured) if as_json else in_words(measured))


def show(name: str, findings: Iterable[Finding]) -> None:
    """Print what a check has found, and after an arrow what mends it."""
    terminal = console()
    for finding in findings:
        line = Text(f"{name:<10}") + Text(f"{finding.status:<8}", COLOURS[finding.status]) + Text(f" {finding.text}")
        terminal.print(line, soft_wrap=True)
        if finding.remedy:
            terminal.print(f"{'→':>18} {finding.remedy}", soft_wrap=True)
