"""``ganfleet evaluate``: metrics of a checkpoint's images, over the fleet."""

import sys
import time
from contextlib import contextmanager
from pathlib import Path

import click

from ganfleet.cli import example
from ganfleet.fleet import start_mindspore
from ganfleet.strategies.options import read_words

LINE_SECONDS = 10  # between two lines of progress where nobody watches a terminal
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

    Metrics are fid, kid, pr (precision and recall), dc (density and coverage), is, ppl, diversity, ms_ssim; of
    translations l1, psnr and ssim too; and those of installed packages. Features are EfficientNet-Lite0's, or with
    --inception those of FID.

    OPTION=VALUE are the strategy's, as for `ganfleet sample`. The ranks that msrun or mpiexec starts share the work,
    and any number of them gives the same bits. An evaluation that was stopped goes on where it was.
    """
    options = read_words(words)
    start_mindspore()
    from ganfleet.engine.evaluate import evaluate
    from ganfleet.engine.guard import stopping_at_once

    metrics = [name.strip() for name in names.split(",") if name.strip()]
    with stopping_at_once(), progress() as (told, show):
        values = evaluate(path, metrics=metrics, warn=told, progress=show, **chosen, **options)
    from ganfleet.fleet import launcher

    if launcher.detect().speaks:
        width = max(map(len, values))
        for name, value in values.items():
            click.echo(f"{name:{width}}  {value:.6g}")


@contextmanager
def progress():
    """What shows a line above the progress, and what shows the progress: a bar where a person looks, else lines."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if console.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console) as bar:
            shown = Bars(bar)
            yield bar.console.print, shown
    else:
        yield lambda line: print(line, file=sys.stderr, flush=True), Lines()


class Bars:
    """A bar for each thing that is computed."""

    def __init__(self, bar):
        self._bar, self._tasks = bar, {}

    def __call__(self, what: str, done: int, total: int) -> None:
        task = self._tasks.get(what)
        if task is None or self._bar.tasks[task].finished:
            task = self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(task, completed=done)


class Lines:
    """A line every few seconds, and at the end of each thing that took as long."""

    def __init__(self):
        self._shown_at = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        if time.monotonic() - self._shown_at >= LINE_SECONDS:
            self._shown_at = time.monotonic()
            print(f"{what}: {done:,} of {total:,} images", file=sys.stderr, flush=True)
