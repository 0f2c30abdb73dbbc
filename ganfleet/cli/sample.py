"""``ganfleet sample``: a grid of images from a checkpoint."""

import re
from pathlib import Path

import click


class Seeds(click.ParamType):
    """``0-63``, ``7`` or ``0-3,9``: the seeds of a grid, in order."""

    name = "seeds"

    def convert(self, value, param, ctx):
        if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", value):
            self.fail(f"{value!r} is no list of seeds: write 0-63 or 0-3,9", param, ctx)
        seeds = []
        for part in value.split(","):
            first, _, last = part.partition("-")
            seeds += range(int(first), int(last or first) + 1)
        return seeds or self.fail(f"{value!r} names no seed", param, ctx)


@click.command("sample")
@click.option("--checkpoint", "path", required=True, type=click.Path(path_type=Path), help="A checkpoint or run.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The PNG to write.")
@click.option("--seeds", default="0-63", type=Seeds(), show_default=True, help="One image per seed, such as 0-63,99.")
@click.option("--columns", type=click.IntRange(1), help="Images per row.  [default: nearly square]")
@click.option("--ema/--no-ema", default=True, show_default=True, help="The averaged weights, or the training ones.")
def command(path: Path, out: Path, seeds: list[int], columns: int | None, ema: bool):
    """Draw a grid of images. Seed s gives the same latents here as in a run's own grids.

    Started by msrun or mpiexec, the fleet shares the work.
    """
    from ganfleet.engine.run import sample
    from ganfleet.observe.grid import save_png

    images = sample(path, seeds, ema)
    if images is not None:
        save_png(out, images, columns=columns)
