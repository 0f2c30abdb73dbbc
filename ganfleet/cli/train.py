"""``ganfleet train``: one process of a fleet, or with ``--workers`` a whole fleet through msrun."""

from pathlib import Path

import click


@click.command("train")
@click.option("--config", "path", required=True, type=click.Path(path_type=Path), help="A YAML file, see configs/.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def command(path: Path, overrides: tuple[str, ...]):
    """Train the GAN that a config describes; overrides such as train.seed=1 come after it.

    This is the script that msrun and mpiexec start; by itself it is a fleet of one process.
    """
    from ganfleet import config

    loaded = config.load(path, overrides)
    from ganfleet.engine.run import train

    train(loaded)
