"""``ganfleet sample``: grids, figures and animations from a checkpoint."""

import re
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from ganfleet.errors import ConfigError

NOISE_PANELS = {"all": "all noise", "none": "none", "fine": "fine", "coarse": "coarse"}
NOISE_DRAWS = 32  # whose standard deviation a noise figure shows
ANIMATIONS = (".gif", ".webp", ".mp4")


class Numbers(click.ParamType):
    """``0-63``, ``7`` or ``0-3,9``: seeds or classes, in order."""

    def __init__(self, name: str):
        self.name = name

    def convert(self, value, param, ctx):
        try:
            return numbers(value)
        except ValueError:
            return self.fail(f"{value!r} is no list of {self.name}: write 0-63 or 0-3,9", param, ctx)


def numbers(text: str) -> list[int]:
    """The numbers that ``text`` lists.

    Raises:
        ValueError: it is no such list, or one of none.
    """
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
        raise ValueError(text)
    listed = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        listed += range(int(first), int(last or first) + 1)
    if not listed:
        raise ValueError(text)
    return listed


class Mix(click.ParamType):
    """One of the three words of ``--mix``, ``key=value``."""

    name = "rows=… cols=… layers=…"

    def convert(self, value, param, ctx):
        key, equals, given = value.partition("=")
        if not equals or key not in ("rows", "cols", "layers"):
            self.fail(f"{value!r}: write rows=0-3 cols=4-8 layers=coarse", param, ctx)
        if key == "layers":
            return key, given
        return key, Numbers("seeds").convert(given, param, ctx)


@dataclass
class Look:
    """What is asked of every image: its class, truncation and noise."""

    label: int | None
    truncation: float | None
    truncation_layers: int | None
    noise: str

    def of(self, studio, seed: int, label: int | None = None) -> dict[str, np.ndarray]:
        """What the image of ``seed`` is made of, looked at this way."""
        from ganfleet.strategies.stylegan import figures

        inputs = studio.inputs(seed, self.label if label is None else label)
        if self.truncation is not None:
            inputs = figures.truncated(inputs, self.truncation, self.truncation_layers)
        return inputs if self.noise == "all" else figures.with_noise(inputs, self.noise)


@click.command("sample")
@click.option("--checkpoint", "path", required=True, type=click.Path(path_type=Path), help="A checkpoint or run.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The picture to write.")
@click.option("--seeds", type=Numbers("seeds"), help="One image per seed, such as 0-63,99.  [default: 0-63]")
@click.option("--classes", type=Numbers("classes"), help="One row of these classes each, such as 0-9.")
@click.option("--columns", type=click.IntRange(1), help="Images per row.  [default: nearly square]")
@click.option("--ema/--no-ema", default=True, show_default=True, help="The averaged weights, or the training ones.")
@click.option("--truncation", type=float, help="Move w to its mean, to this share of its distance, such as 0.7.")
@click.option("--truncation-layers", type=click.IntRange(1), help="In the first layers only.  [default: in all]")
@click.option(
    "--noise", type=click.Choice(list(NOISE_PANELS)), default="all", show_default=True, help="In which layers."
)
@click.option("--mix", nargs=3, type=Mix(), help="Styles of the rows' seeds in layers coarse, middle, fine or a-b.")
@click.option(
    "--noise-figure", is_flag=True, help="Each seed with noise in all, no, fine and coarse layers; its spread."
)
@click.option(
    "--interpolate", type=Numbers("seeds"), help="An animation over these seeds and back; .gif, .webp or .mp4."
)
@click.option("--frames", type=click.IntRange(1), default=60, show_default=True, help="Of the animation, 20 a second.")
def command(
    path,
    out,
    seeds,
    classes,
    columns,
    ema,
    truncation,
    truncation_layers,
    noise,
    mix,
    noise_figure,
    interpolate,
    frames,
):
    """Draw images. Seed s gives the same latents here as in a run's own grids.

    Started by msrun or mpiexec, the fleet shares the work.
    """
    figures = [
        name
        for name, given in (("--mix", mix), ("--noise-figure", noise_figure), ("--interpolate", interpolate))
        if given
    ]
    check_options(figures, seeds, classes, noise, truncation, truncation_layers, out)

    from ganfleet.engine.run import Studio
    from ganfleet.observe.grid import save_animation, save_png

    studio = Studio(path)
    look = Look(classes[0] if figures and classes else None, truncation, truncation_layers, noise)

    def draw(inputs):
        return studio.images(inputs, ema)

    if mix:
        images, layout = mixing(studio, look, draw, **dict(mix))
    elif noise_figure:
        images, layout = noise_panels(studio, look, draw, seeds or [0, 1, 2, 3])
    elif interpolate:
        images, layout = draw(animation(studio, look, interpolate, frames)), {}
    elif classes:
        images, layout = class_rows(studio, look, draw, classes, seeds or list(range(10)))
    else:
        images, layout = draw([look.of(studio, seed) for seed in (seeds or range(64))]), {"columns": columns}
    studio.close()
    if studio.fleet.rank == 0:
        save_animation(out, images) if interpolate else save_png(out, images, **layout)


def check_options(figures, seeds, classes, noise, truncation, truncation_layers, out: Path) -> None:
    """Refuse options that do not go together, before anything is loaded.

    Raises:
        ConfigError: naming them.
    """
    if len(figures) > 1:
        raise ConfigError(f"{' and '.join(figures)} are figures of their own: choose one")
    if figures and classes and len(classes) > 1:
        raise ConfigError(f"{figures[0]} shows one class: give --classes one number")
    if seeds and figures in (["--mix"], ["--interpolate"]):
        raise ConfigError(f"{figures[0]} names its own seeds: leave --seeds out")
    if "--noise-figure" in figures and noise != "all":
        raise ConfigError("--noise-figure shows every choice of --noise: leave that out")
    if truncation_layers and truncation is None:
        raise ConfigError("--truncation-layers is for --truncation: give that too")
    if "--interpolate" in figures and out.suffix.lower() not in ANIMATIONS:
        raise ConfigError(f"--out {out}: an animation is one of {', '.join(ANIMATIONS)}")


def class_rows(studio, look: Look, draw, classes: list[int], seeds: list[int]):
    """One row per class, one column per seed."""
    images = draw([look.of(studio, seed, label) for label in classes for seed in seeds])
    return images, {"columns": len(seeds), "row_labels": [f"class {label}" for label in classes]}


def mixing(studio, look: Look, draw, rows=None, cols=None, layers=None):
    """The style-mixing figure: sources down the left and along the top; inside, the row's styles in ``layers``."""
    from ganfleet.strategies.stylegan import figures

    if not (rows and cols and layers):
        raise ConfigError("--mix needs rows=, cols= and layers=, each once")
    sources, targets = ([look.of(studio, seed) for seed in seeds] for seeds in (rows, cols))
    chosen = figures.layer_range(layers, targets[0])
    inputs = [*targets]
    for source in sources:
        inputs += [source, *(figures.mixed(source, target, chosen) for target in targets)]
    images = draw(inputs)
    corner = np.ones_like(images[:1])
    return np.concatenate([corner, images]), {
        "columns": 1 + len(cols),
        "row_labels": [f"{layers} of:", *map(str, rows)],
        "column_labels": ["", *map(str, cols)],
    }


def noise_panels(studio, look: Look, draw, seeds: list[int]):
    """Each seed with noise in all layers, none, the fine ones and the coarse ones, and how much noise moves each pixel.

    The last column is the standard deviation over NOISE_DRAWS draws of the noise, the mean of the channels; white is
    the largest of each image.
    """
    from ganfleet.strategies.stylegan import figures

    images, labels = [], []
    for seed in seeds:
        own = look.of(studio, seed)
        others = [figures.with_noise_of(own, studio.inputs(other)) for other in range(1000, 1000 + NOISE_DRAWS)]
        drawn = draw([figures.with_noise(own, which) for which in NOISE_PANELS] + others)
        spread = drawn[len(NOISE_PANELS) :].std(0).mean(0, keepdims=True)
        shown = 2 * spread / max(spread.max(), 1e-9) - 1
        images += [*drawn[: len(NOISE_PANELS)], np.broadcast_to(shown, drawn.shape[1:])]
        labels.append(f"seed {seed}, std <= {spread.max() * 127.5:.1f}")
    columns = [*NOISE_PANELS.values(), "std"]
    return np.stack(images), {"columns": len(columns), "row_labels": labels, "column_labels": columns}


def animation(studio, look: Look, seeds: list[int], frames: int):
    """The inputs of each frame of the way over ``seeds`` and back."""
    from ganfleet.strategies.stylegan import figures

    return figures.interpolated([look.of(studio, seed) for seed in seeds], frames)
