"""``ganfleet import``: weights of other programs as a checkpoint. Which ones, strategies say."""

from pathlib import Path

import click

from ganfleet.cli import check_new, example
from ganfleet.errors import ConfigError
from ganfleet.fleet import start_mindspore
from ganfleet.store import checkpoint, foreign

PATH = click.Path(path_type=Path)


@click.command(
    "import",
    epilog=example(
        "ganfleet import network-final.pkl --out faces",
        "ganfleet import latest_net_G_A.pth latest_net_G_B.pth --out horses",
    ),
)
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--out", required=True, type=PATH, help="The checkpoint to make.")
@click.option("--as", "roles", multiple=True, help="The network in a file, such as G_BA; once for each, in order.")
@click.option("--strategy", help="Whose networks they are, by name or as module:Class.  [default: all are asked]")
def command(files: tuple[Path, ...], out: Path, roles: tuple[str, ...], strategy: str | None):
    """Make a checkpoint of FILES, in which another program keeps its weights.

    FILES are .pkl files of NVlabs or .pth files of PyTorch. Nothing that a file says is run. What
    comes out samples and translates like any other checkpoint, and runs begin with it (train.init_from).
    """
    if roles and len(roles) != len(files):
        raise ConfigError(f"--as is given {len(roles)} times for {len(files)} files: give it once for each, or never")
    check_new(out)
    read = [foreign.read(path, role) for path, role in zip(files, roles or [None] * len(files), strict=True)]
    start_mindspore()
    from ganfleet.engine.importing import imported

    made, notes = imported(read, strategy)
    checkpoint.write(out, made)
    config = made.config["strategy"]
    click.echo(f"{out}: {config['name']} of {config['resolution']} pixels, from {', '.join(map(str, files))}")
    for note in notes:
        click.echo(f"note: {note}")
