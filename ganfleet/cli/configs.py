"""``ganfleet configs``: the recipes that come with ganfleet, which ``--config`` finds by name."""

from pathlib import Path

import click

from ganfleet import recipes
from ganfleet.cli import check_writable, example
from ganfleet.errors import ConfigError
from ganfleet.store import publish


@click.group("configs", invoke_without_command=True, epilog=example("ganfleet configs"))
@click.pass_context
def command(context: click.Context) -> None:
    """List the recipes that come with ganfleet. --config takes their names.

    A file with such a name in the working directory comes before the recipe.
    """
    if context.invoked_subcommand is None:
        formatter = click.HelpFormatter(width=80)
        formatter.write_dl([(name, recipes.summary(name)) for name in recipes.names()])
        click.echo(formatter.getvalue(), nl=False)


@command.command(epilog=example("ganfleet configs copy quickstart --out my.yaml"))
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="The file to write.  [default: NAME.yaml]")
def copy(name: str, out: Path | None) -> None:
    """Copy a recipe, to be changed. A file that is there already is not overwritten."""
    recipe = recipes.path(name)
    out = out or Path(recipe.name)
    if out.is_dir():
        out = out / recipe.name
    if out.exists():
        raise ConfigError(f"{out} is there already: remove it, or choose another file with --out")
    check_writable(out)
    publish.file(out, recipe.read_bytes())
    click.echo(f"{out}: start it with ganfleet train --config {out}")
