"""``ganfleet export``: a checkpoint's networks as files for other programs."""

from pathlib import Path

import click

from ganfleet.cli import check_writable, example
from ganfleet.fleet import start_mindspore

PATH = click.Path(path_type=Path)
FORMATS = ("onnx", "mindir", "safetensors")


@click.command(
    "export",
    epilog=example(
        "ganfleet export --checkpoint runs/first --to onnx --out G.onnx",
        "ganfleet export --checkpoint runs/x --to mindir --graph A2B --out A2B.mindir",
    ),
)
@click.option("--checkpoint", "path", required=True, type=PATH, help="A checkpoint or run.")
@click.option("--to", "form", required=True, type=click.Choice(FORMATS), help="The format of the file.")
@click.option("--out", required=True, type=PATH, help="The file to write.")
@click.option("--graph", help="Which one, where the model has several, such as A2B.")
@click.option("--count", type=click.IntRange(1), help="For exactly so many images at a time.  [default: any number]")
@click.option("--ema/--no-ema", default=None, help="Averaged weights or the last ones; averaged where there are any.")
@click.option("--strategy", help="Import this module:Class, which a checkpoint alone may not ask for.")
def command(
    path: Path, form: str, out: Path, graph: str | None, count: int | None, ema: bool | None, strategy: str | None
):
    """Write what makes the images, from latents or from other images, for use without ganfleet.

    onnx runs with onnxruntime and others, mindir with mindspore.load; safetensors has the weights alone, by ganfleet's
    names. Graphs compute in float32. The command prints what the graph takes.
    """
    check_writable(out)
    start_mindspore()
    from ganfleet.engine.export import export
    from ganfleet.engine.loaded import load

    with load(path, strategy, ema) as loaded:
        for line in export(loaded, form, out, graph, count):
            click.echo(line)
