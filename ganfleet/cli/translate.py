"""``ganfleet translate``: image files from one domain to the other, with a checkpoint that knows how."""

from functools import partial
from pathlib import Path

import click

from ganfleet.cli import example
from ganfleet.cli.progress import progress
from ganfleet.fleet import start_mindspore


@click.command(
    "translate",
    epilog=example("ganfleet translate --checkpoint runs/x --direction A2B --input a --output b"),
)
@click.option("--checkpoint", "path", required=True, type=click.Path(path_type=Path), help="A checkpoint or run.")
@click.option("--direction", required=True, help="From which domain to which, such as A2B.")
@click.option("--input", "source", required=True, type=click.Path(path_type=Path), help="An image or a folder of them.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The folder for the translations.")
@click.option("--panel", is_flag=True, help="Also write each original and its translation side by side.")
@click.option("--strategy", help="Import this module:Class, which a checkpoint alone may not ask for.")
def command(path: Path, direction: str, source: Path, output: Path, panel: bool, strategy: str | None):
    """Translate images of any size. Names are kept, files become PNG; what is there already is not done again.

    A GIF animation stays one, with its durations. Images of more than 1.5 million pixels are translated in tiles that
    overlap and are blended. With --panel, OUTPUT/panels has each image, its translation and, where the model knows the
    way, that translated back. The ranks that msrun or mpiexec starts share the files.
    """
    start_mindspore()
    from ganfleet.engine.loaded import load
    from ganfleet.engine.translate import jobs, translate

    with load(path, strategy) as loaded:
        with loaded.fleet.agreeing():
            translator = loaded.translator(direction)
        todo = loaded.fleet.first(lambda: jobs(source, output, panel))
        with progress() as (_, show):
            made, before = translate(translator, loaded.fleet, todo, partial(show, "translated"))
        if loaded.fleet.rank == 0:
            click.echo(f"translated {made} images into {output}" + (f", {before} were there already" if before else ""))
