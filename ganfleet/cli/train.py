"""``ganfleet train``: one process of a fleet, or with ``--workers`` a whole fleet through msrun."""

import tempfile
from pathlib import Path

import click


@click.command("train")
@click.option("--config", "path", required=True, type=click.Path(path_type=Path), help="A YAML file, see configs/.")
@click.option("--workers", type=click.IntRange(1), help="Start so many ranks on this machine, through msrun.")
@click.option("--log-dir", type=click.Path(path_type=Path), help="For the workers' output.  [default: a new one]")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def command(path: Path, workers: int | None, log_dir: Path | None, overrides: tuple[str, ...]):
    """Train the GAN that a config describes; overrides such as train.seed=1 come after it.

    Without --workers this is one rank of the fleet that msrun or mpiexec starts (launch/train.py), or a fleet of one.
    """
    from ganfleet.engine import guard

    with guard.stopping_at_once():
        return train_alone(path, overrides) if workers is None else train_fleet(path, overrides, workers, log_dir)


def train_alone(path: Path, overrides: tuple[str, ...]) -> None:
    """Train in this process."""
    from ganfleet import config
    from ganfleet.engine.run import train

    train(config.load(path, overrides))


def train_fleet(path: Path, overrides: tuple[str, ...], workers: int, log_dir: Path | None) -> int:
    """Train in ``workers`` processes; the fleet's exit code."""
    from ganfleet import config
    from ganfleet.fleet import msrun
    from ganfleet.store.publish import writing

    loaded = config.load(path, overrides)
    config.check_world_size(loaded, workers)
    log_dir = log_dir or Path(tempfile.mkdtemp(prefix="ganfleet-"))
    with writing(log_dir):
        log_dir.mkdir(parents=True, exist_ok=True)
    return msrun.launch(workers, __file__, ["--config", str(path), *overrides], log_dir)


if __name__ == "__main__":  # what msrun starts
    from ganfleet.cli import run

    run(command)
