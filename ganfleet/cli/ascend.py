"""``ganfleet ascend``: what MindSpore's Ascend back end makes of a config, without a card."""

import json
from pathlib import Path

import click
from rich.table import Table

from ganfleet.cli import console, example
from ganfleet.errors import ConfigError

MIB = 2**20


@click.group("ascend", epilog=example("ganfleet ascend check --config quickstart"))
def command() -> None:
    """Check what Ascend cards would make of a config, without a card."""


@command.command(
    epilog=example(
        "ganfleet ascend check --config quickstart",
        "ganfleet ascend check --config quickstart --world-size 8 train.lanes=8",
        "ganfleet ascend check --strategy my_gan:MyGAN strategy.resolution=16",
    )
)
@click.option("--config", "paths", multiple=True, help="A YAML file, a folder of them, or a recipe; repeatable.")
@click.option("--strategy", "strategies", multiple=True, help="A strategy with its own defaults; repeatable.")
@click.option("--world-size", default=1, show_default=True, type=click.IntRange(1), help="As rank 0 of so many cards.")
@click.option(
    "--table",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The kernels to compare with.  [default: kernels.json beside the first config]",
)
@click.option("--update", is_flag=True, help="Write the kernels into the table, instead of comparing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def check(
    paths: tuple[str, ...],
    strategies: tuple[str, ...],
    world_size: int,
    table: Path | None,
    update: bool,
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Compile every graph for Ascend, and name the kernels it got.

    MindSpore's own Ascend back end compiles them, with empty libraries in place of CANN's. Nothing is run. It needs
    MindSpore's wheel for Linux and a C++ compiler; without these it ends with "not checked".
    """
    from ganfleet.ascend import check as checks
    from ganfleet.ascend import stubs
    from ganfleet.store import publish

    files = [file for path in paths for file in _files(path)]
    subjects = [checks.Subject(path, None, overrides, world_size) for path in files]
    subjects += [checks.Subject(None, name, overrides, world_size) for name in strategies]
    if not subjects:
        raise ConfigError("nothing to check: name a config with --config, or a strategy with --strategy")
    wheel = stubs.wheel()
    folder = stubs.build(wheel)
    table = table or checks.default_table(subjects)
    known = checks.read_table(table)
    results, differ = [], False
    for subject in subjects:
        result = checks.check(subject, wheel, folder, controls=not results)
        if not update and result.parts:
            differences = checks.differences(result, known, wheel)
            result.findings += differences
            differ |= bool(differences)
        results.append(result)
        if not as_json:
            _show(result)
    found = sum(len(result.findings) for result in results)
    if update and not found:
        publish.file(table, checks.updated(results, known, wheel).encode())
    if as_json:
        report = {
            "mindspore": {"version": wheel.version, "sha256": wheel.sha256},
            "table": str(table) if wheel.sha256 in known else None,
            "passed": not found,
            "configs": [result.as_dict() for result in results],
            "not_verified": list(checks.NOT_VERIFIED),
        }
        click.echo(json.dumps(report, indent=2))
    else:
        _show_end(wheel, table, known, update and not found, checks.NOT_VERIFIED)
    if found:
        table_too = "; if only the table of kernels differs and is right so, write it with --update" if differ else ""
        raise ConfigError(f"the check for Ascend has failed: mend what is marked FAILED above{table_too}")


def _files(path: str) -> list[str]:
    """The configs that ``path`` names."""
    if not Path(path).is_dir():
        return [path]
    found = sorted(map(str, Path(path).glob("*.yaml")))
    if not found:
        raise ConfigError(f"--config {path} has no *.yaml in it: name a folder that has")
    return found


def _show(result) -> None:
    """Print what came of one config."""
    terminal = console()
    if not result.parts:  # the config cannot run
        _show_findings(terminal, result)
        return
    copies = ", ".join(f"{count} (stage {stage})" for stage, count in result.copies.items()) or "not known"
    types = list(dict.fromkeys(kind for part in result.parts for kind in part.kernels))
    table = Table(title=result.name, title_justify="left")
    columns = ["stage", "phase or part", *types, "share of aclop", "sent", "memory"]
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:2] else "right", overflow="fold")
    for part in result.parts:
        computing = part.count("aclop", "aclnn")
        share = f"{part.count('aclop') / computing:.0%}" if computing else "-"
        sent = ", ".join(f"{name} {size:,} B" for name, size in part.collectives) or "-"
        memory = f"{part.memory_bytes / MIB:,.2f} MiB" if part.memory_bytes else "-"
        counts = [str(part.count(kind)) if kind in part.kernels else "-" for kind in types]
        table.add_row(part.stage, part.name, *counts, share, sent, memory)
    terminal.print(table)
    for kind in types:
        totals: dict[str, int] = {}
        for part in result.parts:
            for operator, count in part.kernels.get(kind, {}).items():
                totals[operator] = totals.get(operator, 0) + count
        names = ", ".join(f"{name} {count}" for name, count in sorted(totals.items(), key=lambda each: -each[1]))
        terminal.print(f"{kind}: {names}", soft_wrap=True)
    terminal.print(f"share of aclop: {result.aclop_share:.1%}; tensors of a step that the host copies: {copies}")
    _show_findings(terminal, result)


def _show_findings(terminal, result) -> None:
    for finding in result.findings:
        terminal.print(f"FAILED {result.name}: {finding}", soft_wrap=True)


def _show_end(wheel, table: Path, known: dict, written: bool, not_verified: tuple[str, ...]) -> None:
    terminal = console()
    terminal.print(f"MindSpore {wheel.version}, SHA-256 of its files {wheel.sha256}", soft_wrap=True)
    if written:
        terminal.print(f"{table}: written")
    elif wheel.sha256 not in known:
        terminal.print(f"no table of kernels to compare with for this MindSpore ({table})", soft_wrap=True)
    terminal.print("not verified:")
    for each in not_verified:
        terminal.print(f"  {each}", soft_wrap=True)
