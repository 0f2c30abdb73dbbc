"""``ganfleet pairs``: what two checkpoints make of the same latents, as pairs for a model that learns to translate."""

from functools import partial
from pathlib import Path

import click

from ganfleet.cli import Number, example
from ganfleet.cli.progress import progress
from ganfleet.cli.workers import start
from ganfleet.errors import ConfigError
from ganfleet.fleet import start_mindspore
from ganfleet.strategies.options import read_words

PATH = click.Path(path_type=Path)
PSI = "truncation"  # the sample option that --psi is short for


@click.command(
    "pairs",
    epilog=example(
        "ganfleet pairs --a runs/base --b blended --count 5000 --psi 0.7 --out pairs",
        "ganfleet pairs --a runs/base --b tuned --count 100 --workers 2 --out pairs",
    ),
)
@click.option("--a", "path_a", required=True, type=PATH, help="The checkpoint or run that draws the originals.")
@click.option("--b", "path_b", required=True, type=PATH, help="The one that draws what they are to become.")
@click.option("--count", required=True, type=click.IntRange(1), help="How many pairs.")
@click.option("--out", required=True, type=PATH, help="The folder for trainA, trainB and pairs.json.")
@click.option("--psi", type=Number(), help="Truncation, such as 0.7: short for truncation=0.7.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="The first of the seeds.")
@click.option("--class", "label", type=click.IntRange(0), help="Draw this class only.  [default: that of each seed]")
@click.option("--ema/--no-ema", default=None, help="Averaged weights or the last ones; averaged where there are any.")
@click.option("--workers", type=click.IntRange(1), help="Start so many ranks on this machine.")
@click.option("--strategy", help="Import this module:Class, which a checkpoint alone may not ask for.")
@click.argument("words", nargs=-1, metavar="[OPTION=VALUE]...")
def command(path_a, path_b, count, out, psi, seed, label, ema, workers, strategy, words):
    """Draw the same latents, classes and noise with two checkpoints, as pairs.

    OUT/trainA and OUT/trainB get files of equal names: data.source=paired reads them. OUT/pairs.json says what made
    them. A call that was stopped goes on where it was, and one with a larger --count adds pairs.

    OPTION=VALUE are sample options of the checkpoints' strategy, as `ganfleet sample --figures` lists them. The ranks
    that --workers, msrun or mpiexec start share the work.
    """
    options = read_words(words)
    if psi is not None:
        if PSI in options:
            raise ConfigError(f"--psi and {PSI}= say the same: give one of them")
        options[PSI] = psi
    if workers is not None:
        return start(workers, _alone(path_a, path_b, count, out, seed, label, ema, strategy, options))
    start_mindspore()
    from ganfleet.engine import pairs
    from ganfleet.engine.loaded import load
    from ganfleet.engine.signals import stopping_at_once

    with (
        stopping_at_once(),
        load(path_a, strategy, ema) as a,
        load(path_b, strategy, ema) as b,
        progress() as (_, show),
    ):
        shown = partial(show, "pairs")
        made, before = pairs.write(a, b, out, range(seed, seed + count), label, options, shown)
        if a.fleet.rank == 0:
            click.echo(f"drew {made} pairs into {out}" + (f", {before} were there already" if before else ""))


def _alone(path_a, path_b, count, out, seed, label, ema, strategy, options: dict) -> list[str]:
    """The same command as one rank's."""
    words = ["pairs", "--a", path_a, "--b", path_b, "--count", count, "--out", out, "--seed", seed]
    words += ["--class", label] if label is not None else []
    words += [] if ema is None else ["--ema" if ema else "--no-ema"]
    words += ["--strategy", strategy] if strategy else []
    return [*map(str, words), *(f"{name}={value}" for name, value in options.items())]
