"""``ganfleet strategies``: what a config can name under ``strategy.name``."""

import click
from rich.table import Table

from ganfleet import strategies
from ganfleet.cli import console, example
from ganfleet.fleet import start_mindspore


@click.command("strategies", epilog=example("ganfleet strategies"))
def command() -> None:
    """List the strategies there are: ganfleet's own, and those of installed packages. Broken ones are warned of."""
    start_mindspore()
    listed = strategies.listed()
    table = Table("name", "from", "what it is")
    for each in listed:
        table.add_row(each.name, each.origin, "broken, see below" if each.problem else each.summary)
    console().print(table)
    for each in listed:
        if each.problem:
            click.echo(f"ganfleet: warning: {each.problem}", err=True)
