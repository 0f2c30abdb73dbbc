"""``ganfleet sample``: grids, figures, animations and single images from a checkpoint."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path

import click

from ganfleet.cli import Read, check_writable, example
from ganfleet.cli.progress import progress
from ganfleet.errors import ConfigError
from ganfleet.fleet import start_mindspore
from ganfleet.strategies.options import described, numbers, read_options, read_words

LABEL = 60  # characters of a prompt
SEEDS, SEEDS_OF_ROWS = range(64), range(10)  # where none are given


@click.command(
    "sample",
    epilog=example(
        "ganfleet sample --checkpoint runs/first --out grid.png --seeds 0-15",
        "ganfleet sample --checkpoint runs/first --out-dir images --seeds 0-49999",
        "ganfleet sample --checkpoint runs/first --figures",
        'ganfleet sample --checkpoint runs/base --out cars.png --prompt "a red car"',
    ),
)
@click.option("--checkpoint", "path", required=True, type=click.Path(path_type=Path), help="A checkpoint or run.")
@click.option(
    "--then", "following", multiple=True, type=click.Path(path_type=Path), help="One that goes on from there."
)
@click.option("--out", type=click.Path(path_type=Path), help="The picture: .png, .jpg or .webp; or the animation.")
@click.option("--out-dir", type=click.Path(path_type=Path), help="A folder for one PNG per image, in its true size.")
@click.option("--seeds", type=Read("seeds", numbers), help="One image per seed, such as 0-63,99.  [default: 0-63]")
@click.option("--classes", type=Read("classes", numbers), help="One row of these classes each, such as 0-9.")
@click.option("--prompt", "prompts", multiple=True, help="One row of what this text says each.")
@click.option("--prompts", "listed", type=click.Path(path_type=Path), help="A file with a --prompt on each line.")
@click.option("--columns", type=click.IntRange(1), help="Images per row.  [default: nearly square]")
@click.option("--ema/--no-ema", default=None, help="Averaged weights or the last ones; averaged where there are any.")
@click.option("--figure", help="Draw this figure of the checkpoint's strategy instead of a plain grid.")
@click.option("--figures", "listing", is_flag=True, help="List the figures and options that the checkpoint offers.")
@click.option(
    "--strategy", "codes", multiple=True, help="Import this module:Class; for --checkpoint, then each --then."
)
@click.argument("words", nargs=-1, metavar="[OPTION=VALUE]...")
def command(
    path, following, out, out_dir, seeds, classes, prompts, listed, columns, ema, figure, listing, codes, words
):
    """Draw images. Seed s gives the same latents here as in a run's own grids.

    OPTION=VALUE are those of the figure and of the checkpoint's strategy, as --figures lists them. The ranks that msrun
    or mpiexec starts share the work.
    """
    options = read_words(words)
    prompts = [*prompts, *(lines(listed) if listed else ())]
    if not listing:
        check_targets(out, out_dir, figure)
        check_choices(figure, seeds, classes, prompts, columns, following, out_dir, options)

    start_mindspore()
    from ganfleet.data.labels import described as described_classes
    from ganfleet.engine.loaded import load

    paths = [path, *following]
    if len(codes) > len(paths):
        raise ConfigError(
            f"--strategy is given {len(codes)} times for {len(paths)} checkpoints: give it once for each, or not"
        )
    with ExitStack() as opened:
        loaded = [opened.enter_context(load(*each, ema)) for each in zip_longest(paths, codes)]
        if loaded[0].class_names:
            names = described_classes(loaded[0].class_names)
            loaded[0].fleet.first(lambda: click.echo(f"classes: {names}"))
        if listing:
            loaded[0].fleet.first(lambda: click.echo(offered(loaded[0])))
        elif figure:
            draw_figure(loaded[0], figure, classes, options, out)
        elif out_dir:
            draw_files(Rows(loaded, classes, prompts, options), seeds, out_dir)
        else:
            draw_grid(Rows(loaded, classes, prompts, options), seeds, columns, out)


class Rows:
    """Images row by row: of each class, of each prompt, or of neither in one row.

    Raises:
        ConfigError: the checkpoints do not go together, or one of ``options`` is unknown.
    """

    def __init__(self, loaded: list, classes: list[int] | None, prompts: Sequence[str], options: dict):
        self._loaded, self.fleet = loaded, loaded[0].fleet
        self.several = bool(classes or prompts)
        # Rows of classes are drawn together: runs of a sampler have room for many images.
        given = [(prompt, [None]) for prompt in prompts] or [(None, classes or [None])]
        with self.fleet.agreeing():
            tell_cut(loaded[0], [*prompts, *([options["prompt"]] if "prompt" in options else [])])
            self._batches = [(self._chained(prompt), self._options(options, prompt), rows) for prompt, rows in given]
        names = loaded[0].class_names
        self.labels = [_shortened(prompt) for prompt in prompts] or [
            class_label(names, label) for label in classes or ()
        ]
        self.prefixes = [f"prompt-{i:03d}-" for i in range(len(prompts))]
        self.prefixes = self.prefixes or [f"class-{label:03d}-" for label in classes or ()] or [""]

    def _chained(self, prompt: str | None):
        """What draws with the checkpoints one after the other, each of which is told ``prompt`` if it takes one."""
        drawing = self._loaded[0]
        for each in self._loaded[1:]:
            takes = prompt is not None and "prompt" in each.strategy.SampleOptions.model_fields
            drawing = drawing.then(each, **({"prompt": prompt} if takes else {}))
        return drawing

    def _options(self, options: dict, prompt: str | None) -> dict:
        options = options | ({} if prompt is None else {"prompt": prompt})
        read_options(options, self._loaded[0].strategy.SampleOptions)
        return options

    def images(self, seeds: Sequence[int]):
        """The images of all rows, one for each seed in a row."""
        import numpy as np

        drawn, before = [], 0
        with self._progress(seeds) as told:
            for drawing, options, rows in self._batches:
                more = partial(_after, told, before)
                drawn.append(drawing.sample(*of_rows(seeds, rows), progress=more, **options))
                before += len(drawn[-1])
        return np.concatenate(drawn)

    def each(self, seeds: Sequence[int]):
        """This rank's share of them, with the row that an image is in, and its seed."""
        first = 0
        with self._progress(seeds) as told:
            for drawing, options, rows in self._batches:
                for i, image in drawing.each(*of_rows(seeds, rows), **options):
                    yield first + i // len(seeds), seeds[i % len(seeds)], image
                    told(first * len(seeds) + i + 1)
                first += len(rows)

    @contextmanager
    def _progress(self, seeds: Sequence[int]):
        """What is told how many images are done."""
        total = sum(len(rows) for *_, rows in self._batches) * len(seeds)
        with progress() as (_, show):
            yield lambda done: show("images", done, total)


def _after(told: Callable[[int], None], before: int, done: int) -> None:
    told(before + done)


def of_rows(seeds: Sequence[int], labels: Sequence[int | None]) -> tuple[list[int], list[int] | None]:
    """A seed and a class for each image, class by class."""
    if labels == [None]:
        return list(seeds), None
    return [*seeds] * len(labels), [label for label in labels for _ in seeds]


def _shortened(prompt: str) -> str:
    """As a label."""
    return prompt if len(prompt) <= LABEL else f"{prompt[: LABEL - 1]}…"


def tell_cut(loaded, prompts: list[str]) -> None:
    """Say, as the first rank, which prompts have more tokens than the model was trained with."""
    from ganfleet.text.encoder import find

    text = getattr(loaded.strategy, "text", None)
    for prompt in prompts if text else ():
        if find(text.encoder).tokenize([prompt], text.tokens).cut and not loaded.fleet.rank:
            click.echo(f"{_shortened(prompt)!r} has more than {text.tokens} tokens, and is cut", err=True)


def draw_grid(rows: Rows, seeds, columns, out: Path) -> None:
    """One image per seed, or one row per class or prompt with one column per seed."""
    from ganfleet.observe.grid import grid, save_picture

    rows.fleet.first(lambda: check_writable(out))
    seeds = chosen(seeds, rows)
    images = rows.images(seeds)
    layout = {"columns": len(seeds), "row_labels": rows.labels} if rows.several else {"columns": columns}
    rows.fleet.first(lambda: save_picture(out, grid(images, **layout)))


def draw_files(rows: Rows, seeds, out_dir: Path) -> None:
    """One file per image, which the rank writes that drew it."""
    from ganfleet.observe.grid import picture_of, save_picture
    from ganfleet.store.publish import writing

    with rows.fleet.agreeing():
        with writing(out_dir):
            out_dir.mkdir(parents=True, exist_ok=True)
        for row, seed, image in rows.each(chosen(seeds, rows)):
            save_picture(out_dir / f"{rows.prefixes[row]}seed-{seed:06d}.png", picture_of(image))


def chosen(seeds: Sequence[int] | None, rows: Rows) -> list[int]:
    return list(seeds or (SEEDS_OF_ROWS if rows.several else SEEDS))


def draw_figure(loaded, name: str, classes, options: dict, out: Path) -> None:
    """A figure of the strategy's."""
    from ganfleet.observe.grid import ANIMATIONS, PICTURES, grid, save_animation, save_picture

    with loaded.fleet.agreeing():
        found = loaded.find_figure(name)
        suffixes = ANIMATIONS if found.animated else PICTURES
        if out.suffix.lower() not in suffixes:
            kind = "an animation" if found.animated else "a picture"
            raise ConfigError(f"--out {out}: the figure {name} is {kind}, one of {', '.join(suffixes)}")
        loaded.figure_options(found, options)
    loaded.fleet.first(lambda: check_writable(out))
    drawn = loaded.figure(name, label=classes[0] if classes else None, **options)

    def save():
        if found.animated:
            save_animation(out, drawn.frames)
        else:
            labels = {"row_labels": drawn.row_labels, "column_labels": drawn.column_labels}
            save_picture(out, grid(drawn.images, drawn.columns, **labels))

    loaded.fleet.first(save)


def class_label(names: Sequence[str], number: int) -> str:
    """What a row of images of class ``number`` is called."""
    return f"class {number} {names[number]}" if number < len(names) else f"class {number}"


def offered(loaded) -> str:
    """What ``--figure`` and OPTION=VALUE can be for this checkpoint."""
    blocks = [(f"--figure {name}: {figure.help}", figure.Options) for name, figure in loaded.strategy.figures().items()]
    blocks.append(("options of every image", loaded.strategy.SampleOptions))
    lines = []
    for heading, schema in blocks:
        options = described(schema)
        lines.append(heading if options or schema is not blocks[-1][1] else f"{heading}: none")
        width = max((len(option) for option, _ in options), default=0)
        lines += [f"  {option:{width}}  {meaning}" for option, meaning in options]
    return "\n".join(lines)


def lines(path: Path) -> list[str]:
    """The prompts in the file at ``path``.

    Raises:
        ConfigError: it cannot be read as UTF-8, or has none.
    """
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"--prompts {path} cannot be read: {why}. Give a text file in UTF-8") from error
    prompts = [line for line in found if line]
    if not prompts:
        raise ConfigError(f"--prompts {path} is empty: write a prompt on each line")
    return prompts


def check_targets(out: Path | None, out_dir: Path | None, figure: str | None) -> None:
    """Refuse a target that cannot be, as far as that can be told without the checkpoint.

    Raises:
        ConfigError: naming the option.
    """
    from ganfleet.observe.grid import ANIMATIONS, PICTURES

    if (out is None) == (out_dir is None):
        raise ConfigError("give one of --out FILE, for one picture, and --out-dir FOLDER, for a file per image")
    if out_dir is not None and out_dir.exists() and not out_dir.is_dir():
        raise ConfigError(f"--out-dir {out_dir} is a file: name a folder")
    suffixes = {**dict.fromkeys(PICTURES), **dict.fromkeys(ANIMATIONS if figure else ())}
    if out is not None and out.suffix.lower() not in suffixes:
        raise ConfigError(f"--out {out}: a picture is a file that ends in one of {', '.join(suffixes)}")


def check_choices(figure, seeds, classes, prompts, columns, following, out_dir, options) -> None:
    """Refuse options that do not go together.

    Raises:
        ConfigError: naming them.
    """
    if figure:
        if following:
            raise ConfigError(
                "--then does not go with --figure: a figure shows the networks of one checkpoint. Leave out one of them"
            )
        for option, given in (("--seeds", seeds), ("--columns", columns)):
            if given:
                raise ConfigError(
                    f"{option} does not go with --figure: use the options of the figure, which --figures lists"
                )
        if out_dir:
            raise ConfigError("--figure is one picture: give --out instead of --out-dir")
        if prompts:
            raise ConfigError("--prompt does not go with --figure: write prompt=… instead")
        if classes and len(classes) > 1:
            raise ConfigError("--figure shows one class: give --classes one number")
    if prompts and classes:
        raise ConfigError("--prompt does not go with --classes: each is a row of its own. Leave out one of them")
    if prompts and "prompt" in options:
        raise ConfigError("--prompt and prompt= say the same: leave one out")
    if columns and (classes or prompts or out_dir):
        other = "--classes" if classes else "--prompt" if prompts else "--out-dir"
        raise ConfigError(f"--columns does not go with {other}: leave it out")
