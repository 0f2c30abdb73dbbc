"""``ganfleet blend``: two related checkpoints as one, by resolution."""

import re
from pathlib import Path

import click

from ganfleet.cli import check_new, example
from ganfleet.errors import ConfigError
from ganfleet.fleet import start_mindspore
from ganfleet.store import checkpoint

PATH = click.Path(path_type=Path)


@click.command(
    "blend",
    epilog=example(
        "ganfleet blend runs/base runs/tuned --out blended --share 4:0,8:0,16:.5,32:1",
        "ganfleet blend runs/base runs/tuned --out blended --sigmoid 32:1",
    ),
)
@click.argument("base", type=PATH)
@click.argument("tuned", type=PATH)
@click.option("--out", required=True, type=PATH, help="The checkpoint to make.")
@click.option("--share", "listed", help="By resolution, how much is TUNED's: 4:0,8:.5,16:1.")
@click.option("--sigmoid", help="MIDDLE:WIDTH: half at MIDDLE pixels, rising over WIDTH doublings.")
@click.option("--strategy", help="Import this module:Class, which a checkpoint alone may not ask for.")
def command(base: Path, tuned: Path, out: Path, listed: str | None, sigmoid: str | None, strategy: str | None):
    """Make a checkpoint of two: BASE's mapping, and each resolution's layers mixed with TUNED's.

    BASE and TUNED are checkpoints or runs, and TUNED began with the weights of BASE (train.init_from). With coarse
    layers of BASE and fine ones of TUNED, images keep the shapes of the one and get the style of the other. What comes
    out samples like any other checkpoint.
    """
    if (listed is None) == (sigmoid is None):
        raise ConfigError("give either --share or --sigmoid")
    given = shares(listed) if listed is not None else width(sigmoid)
    check_new(out)
    start_mindspore()
    from ganfleet.engine import blend as engine

    made = engine.blend(base, tuned, given if isinstance(given, dict) else engine.sigmoid(*given), strategy)
    checkpoint.write(out, made)
    told = ", ".join(f"{height}: {share:.3g}" for height, share in made.facts["blend"]["shares"].items())
    click.echo(f"{out}: {base} with {tuned} at {told}")


def shares(text: str) -> dict[int, float]:
    """``4:0,8:.5`` as numbers.

    Raises:
        ConfigError: it is no such list, a share is not from 0 to 1, or a resolution comes twice.
    """
    found: dict[int, float] = {}
    for part in text.split(","):
        matched = re.fullmatch(r"(\d{1,5}):(1(?:\.0*)?|0?\.\d+|0)", part.strip(), re.ASCII)
        if not matched:
            raise ConfigError(f"--share {part!r}: write RESOLUTION:SHARE with a share from 0 to 1, such as 64:.5")
        height = int(matched[1])
        if height in found:
            raise ConfigError(f"--share has {height} twice: leave one out")
        found[height] = float(matched[2])
    return found


def width(text: str) -> tuple[float, float]:
    """``32:1`` as two numbers.

    Raises:
        ConfigError: they are not, or not above 0.
    """
    matched = re.fullmatch(r"(\d{1,5}(?:\.\d+)?):(\d{0,3}(?:\.\d+)?)", text, re.ASCII)
    if not matched or not matched[2] or not all(float(each) > 0 for each in matched.groups()):
        raise ConfigError(
            f"--sigmoid {text!r}: write MIDDLE:WIDTH, two numbers above 0 without an exponent, such as 32:1 or 32:0.5"
        )
    return float(matched[1]), float(matched[2])
