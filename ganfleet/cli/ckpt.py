"""``ganfleet ckpt``: list, verify, digest, compare and export checkpoints. ``store.checkpoint`` knows the format."""

from pathlib import Path

import click

from ganfleet.cli import check_writable, example
from ganfleet.errors import CheckpointDamaged
from ganfleet.store import checkpoint, weights

PATH = click.Path(path_type=Path)


@click.group("ckpt", epilog=example("ganfleet ckpt ls runs/first"))
def command() -> None:
    """List, verify, digest, compare and export checkpoints."""


@command.command(epilog=example("ganfleet ckpt ls runs/first"))
@click.argument("path", type=PATH)
def ls(path: Path) -> None:
    """List the checkpoints of a run directory (or of its checkpoints directory), each verified."""
    rows = [("name", "step", "kimg", "size", "valid")] + [_row(found) for found in checkpoint.within(path)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *others in rows:
        numbers = [text.rjust(width) for text, width in zip(others[:-1], widths[1:], strict=False)]
        click.echo("  ".join([name.ljust(widths[0]), *numbers, others[-1]]))


@command.command(epilog=example("ganfleet ckpt verify runs/first"))
@click.argument("path", type=PATH)
def verify(path: Path) -> None:
    """Check every byte of a checkpoint, or of all in a run directory. Exits with 65 on damage."""
    damaged = []
    for found in checkpoint.within(path):
        try:
            checkpoint.load(found)
            click.echo(f"{found} valid")
        except CheckpointDamaged as error:
            damaged.append(str(error))
    if damaged:
        raise CheckpointDamaged("\n".join(damaged))


@command.command(epilog=example("ganfleet ckpt digest runs/first"))
@click.argument("path", type=PATH)
def digest(path: Path) -> None:
    """Print one `<component> <sha256>` line per component and a last line `total <sha256>`.

    PATH is a checkpoint, or a run directory, whose newest valid checkpoint is taken. That of an older release has the
    digest that it had then.
    """
    for component, sha256 in checkpoint.digest(_load(path, as_written=True)).items():
        click.echo(f"{component} {sha256}")


@command.command(epilog=example("ganfleet ckpt diff runs/first runs/second --most 5"))
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option("--most", default=20, show_default=True, type=click.IntRange(min=1), help="Lines to print at most.")
def diff(a: Path, b: Path, most: int) -> None:
    """Print what differs between two checkpoints (or the newest of two runs), the largest first."""
    differences = checkpoint.diff(_load(a), _load(b))
    for found in differences[:most]:
        amount = found.note or f"max abs {found.absolute:.3g}  max rel {found.relative:.3g}"
        click.echo(f"{'/'.join(filter(None, (found.component, found.name)))}  {amount}")
    hidden = len(differences) - most
    if hidden > 0:
        click.echo(f"and {hidden} more (--most {len(differences)} shows all)")
    if not differences:
        click.echo("no difference")


@command.command(epilog=example("ganfleet ckpt export runs/first --player G --out G.safetensors"))
@click.argument("path", metavar="CHECKPOINT", type=PATH)
@click.option("--player", required=True, help="Whose networks, such as G.")
@click.option("--ema/--no-ema", default=None, help="Averaged weights or the last ones; averaged where there are any.")
@click.option("--out", required=True, type=PATH, help="The .safetensors file to write.")
def export(path: Path, player: str, ema: bool | None, out: Path) -> None:
    """Write the weights and buffers of a player's networks as one .safetensors file.

    CHECKPOINT may be a run directory, whose newest valid checkpoint is taken.
    """
    check_writable(out)
    tensors = weights.networks(_load(path), player, ema)
    weights.write(out, tensors)
    click.echo(f"{out}: {len(tensors)} tensors, sha256 {weights.sha256(tensors)}")


def _load(path: Path, as_written: bool = False) -> checkpoint.Snapshot:
    found, damaged = checkpoint.resolve(path)
    for line in damaged:
        click.echo(f"skipped: {line}", err=True)
    if found != path:
        click.echo(f"using {found}", err=True)
    return checkpoint.load(found, as_written)


def _row(path: Path) -> tuple[str, str, str, str, str]:
    mebibytes = sum(file.stat().st_size for file in path.glob("*")) / 2**20
    try:
        clock = checkpoint.load(path).facts.get("clock", {})
        step, kimg, valid = (
            str(clock.get("step", "-")),
            f"{clock['nimg'] / 1000:.1f}" if "nimg" in clock else "-",
            "yes",
        )
    except CheckpointDamaged as error:
        step, kimg, valid = "-", "-", f"no: {error}"
    return path.name, step, kimg, f"{mebibytes:.1f} MiB", valid
