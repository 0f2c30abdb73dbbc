"""``ganfleet evaluate``: metrics of a checkpoint's images, over the fleet."""

from pathlib import Path

import click

from ganfleet.cli import example
from ganfleet.cli.progress import progress
from ganfleet.fleet import start_mindspore
from ganfleet.strategies.options import read_words

PATH = click.Path(path_type=Path)


@click.command(
    "evaluate",
    epilog=example(
        "ganfleet evaluate --checkpoint runs/first --metrics kid,pr",
        "ganfleet evaluate --checkpoint runs/faces --data faces --count 50000 psi=0.7",
        "ganfleet evaluate --checkpoint runs/x --direction A2B --input a --data b",
    ),
)
@click.option("--checkpoint", "path", required=True, type=PATH, help="A checkpoint or run.")
@click.option("--data", type=PATH, help="Real images: folder, ZIP or idx file.  [default: the run's]")
@click.option("--split", help="This part of the run's data, such as test.")
@click.option("--metrics", "names", default="kid", show_default=True, help="Names, separated by commas; see below.")
@click.option("--count", default=10_000, show_default=True, type=click.IntRange(20), help="Images to draw.")
@click.option("--real-count", type=click.IntRange(20), help="Real images to read.  [default: all, up to 50,000]")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="The first of the images.")
@click.option("--inception", type=PATH, help="Weights of FID's Inception-v3, .pth or .safetensors.")
@click.option("--ema/--no-ema", default=None, help="Averaged weights or the last ones; averaged where there are any.")
@click.option("--direction", help="Measure translations in this direction, such as A2B,")
@click.option("--input", "originals", type=PATH, help="of the images in this folder or ZIP file.")
@click.option("--strategy", help="Import this module:Class, which a checkpoint alone may not ask for.")
@click.argument("words", nargs=-1, metavar="[OPTION=VALUE]...")
def command(path, names, words, **chosen):
    """Measure the images of a checkpoint, and add the numbers to metrics.jsonl in its run.

    Metrics are fid, kid, pr (precision and recall), dc (density and coverage), is, ppl, diversity, ms_ssim; of models
    that take prompts r_precision too; of translations l1, psnr and ssim; and those of installed packages. Features are
    EfficientNet-Lite0's, or with --inception those of FID.

    OPTION=VALUE are the strategy's, as for `ganfleet sample`. The ranks that msrun or mpiexec starts share the work,
    and any number of them gives the same bits. An evaluation that was stopped goes on where it was.
    """
    options = read_words(words)
    start_mindspore()
    from ganfleet.engine.evaluate import evaluate
    from ganfleet.engine.signals import stopping_at_once

    metrics = [name.strip() for name in names.split(",") if name.strip()]
    with stopping_at_once(), progress() as (told, show):
        values = evaluate(path, metrics=metrics, warn=told, progress=show, **chosen, **options)
    from ganfleet.fleet import launcher

    if launcher.detect().speaks:
        width = max(map(len, values))
        for name, value in values.items():
            click.echo(f"{name:{width}}  {value:.6g}")
