"""``ganfleet train``: one process of a fleet, or with ``--workers`` a whole fleet on this machine."""

from pathlib import Path

import click

from ganfleet.cli import example
from ganfleet.cli.workers import start
from ganfleet.errors import ConfigError


@click.command(
    "train",
    epilog=example(
        "ganfleet train --config quickstart --workers 2 run.name=first",
        "ganfleet train --config my.yaml data.source=folder data.path=my/images",
    ),
)
@click.option("--config", "path", required=True, help="A YAML file, or a name that `ganfleet configs` lists.")
@click.option("--workers", type=click.IntRange(1), help="Start so many ranks on this machine.")
@click.option("--log-dir", type=click.Path(path_type=Path), help="For the workers' output.  [default: none is kept]")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def command(path: str, workers: int | None, log_dir: Path | None, overrides: tuple[str, ...]):
    """Train the GAN that a config describes; overrides such as train.seed=1 come after it.

    Without --workers this is one rank of the fleet that msrun or mpiexec starts, or a fleet of one.
    """
    from ganfleet.engine import signals

    if log_dir and workers is None:
        raise ConfigError("--log-dir keeps what the ranks print that --workers starts: add --workers, or leave it out")
    with signals.stopping_at_once():
        if workers is None:
            return train_alone(path, overrides)
        return start(workers, ["train", "--config", path, *overrides], log_dir)


def train_alone(path: str, overrides: tuple[str, ...]) -> None:
    """Train in this process."""
    from ganfleet.fleet import start_mindspore, subnormals

    if start_mindspore().get_context("device_target") == "CPU":
        subnormals.flush()  # ``connect`` does so, too late for a plugin that computes when it is imported
    from ganfleet import config
    from ganfleet.engine.run import train

    train(config.load(path, overrides))
