"""``ganfleet.evaluate``: which images of which checkpoint are measured, and with what they are compared."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ganfleet.config import explain
from ganfleet.data import Source, as_source, open_section, open_source
from ganfleet.document import expanded
from ganfleet.engine.evaluation import Evaluation, Extractor, Progress
from ganfleet.engine.loaded import Loaded, load
from ganfleet.engine.measuring import check, extractor_of, found_metrics, keep
from ganfleet.engine.pictures import REAL, Drawn, Pictures, Read, Translated, captions_to_draw, refuse_other_names
from ganfleet.errors import ConfigError
from ganfleet.metrics.builtin import SMALLEST
from ganfleet.strategies.options import read_options

COUNT = 10_000


def evaluate(
    path: str | Path,
    data: Any = None,
    metrics: Sequence[str] = ("kid",),
    *,
    split: str | None = None,
    count: int = COUNT,
    real_count: int | None = None,
    seed: int = 0,
    inception: str | Path | None = None,
    ema: bool | None = None,
    strategy: str | None = None,
    direction: str | None = None,
    originals: str | Path | None = None,
    warn: Callable[[str], None] = print,
    progress: Progress = lambda what, done, total: None,
    **options: Any,
) -> dict[str, float]:
    """Measure the images of a checkpoint, with all ranks that the launcher started; the numbers by name.

    They have the same bits on any number of ranks. What is computed on the way is kept in the user's cache, so that an
    evaluation that was killed goes on. A line with the numbers, and all they depend on, is added to ``metrics.jsonl``
    in the run directory.

    Args:
        path: a checkpoint or a run directory.
        data: what real images are compared with: a folder, ZIP or idx file, or whatever ``ganfleet.train`` takes as
            ``source``; None for the data that the run was trained on. A model that takes prompts is told the captions
            of these images.
        metrics: names, or ``module:Class``.
        split: this part of the run's data instead, such as ``test``.
        count: how many images are drawn, of the seeds ``seed`` and following.
        real_count: how many real images are read; None for all, up to 50,000. If not all, ``seed`` chooses them.
        inception: a file with the weights of FID's Inception-v3; None for EfficientNet-Lite0.
        ema: whether the averaged weights draw; by default they do where there are some.
        strategy: whose code to use, as in ``load``.
        direction: measure translations in this direction, of the images in the folder ``originals``.
        warn: is told what a user should know about a number, on rank 0.
        progress: is told on rank 0 what is computed, and how many images of how many are done.
        options: the strategy's sample options, such as ``psi=0.7``.

    Raises:
        ConfigError: something of this is unknown, missing, or does not go together.
        NonFinite: the networks draw what is no image.
        StorageError: the cache or the run directory cannot be written.
    """
    made = found_metrics(metrics)
    _refuse_counts(count, real_count, seed)
    with load(path, strategy, ema) as loaded:
        with loaded.fleet.agreeing():
            extractor = extractor_of(made, inception)
            source = _source(data, split, loaded) if any(each.reads_real for each in made) else None
            real = source and Read(source, real_count or REAL, seed)
            if direction is None and originals is None:
                generated = _drawn(loaded, count, seed, options, real)
            else:
                generated = _translated(loaded, direction, originals, count, seed, options)
            check(made, loaded.strategy, isinstance(generated, Translated))
            if any(each.paired for each in made):
                refuse_other_names(generated.originals.source, source)
                real = Read(source, len(generated), seed)
        loaded.fleet.same(_facts(source, generated, extractor))
        telling = loaded.fleet.rank == 0
        evaluation = Evaluation(
            loaded,
            generated,
            real,
            extractor,
            seed,
            warn=warn if telling else lambda message: None,
            progress=progress if telling else lambda what, done, total: None,
        )
        values = evaluation.measure(made)
        more = {"options": {name: str(value) for name, value in options.items()}}
        more |= {"ema": loaded.ema, "direction": direction}
        record = evaluation.record(values, checkpoint=loaded.checkpoint.name, **more)
        loaded.fleet.first(lambda: keep(_run_of(loaded.checkpoint), record))
    return values


def _refuse_counts(count: int, real_count: int | None, seed: int) -> None:
    for name, value in (("count", count), ("real_count", real_count)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < SMALLEST):
            raise ConfigError(f"{name} is {value!r}: give a whole number of images, {SMALLEST} or more")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**62:
        raise ConfigError(f"seed is {seed!r}: give a whole number, 0 or more")


def _source(data: Any, split: str | None, loaded: Loaded) -> Source:
    """The real images at the size that ``loaded`` draws.

    Raises:
        ConfigError: there are none, or they do not go with the model.
    """
    resolution, section = loaded.config.strategy.resolution, loaded.config.data
    if split is not None:
        if data is not None or "split" not in type(section).model_fields:
            raise ConfigError(f"--split goes with the run's data, where these have data.split: leave out {split}")
        try:
            section = type(section)(**(section.model_dump() | {"split": split}))
        except ValidationError as error:
            raise ConfigError(f"--split: {explain(error.errors(include_url=False)[0])}") from error
    if data is None:
        if section.source == "given" or loaded.strategy.samples_data:
            raise ConfigError(f"of data.source {section.source}, no single images can be read: name some with --data")
        source = open_section(section, resolution)
    elif isinstance(data, str | Path):
        source = folder_or_file(data, loaded, "--data")
    else:
        source = as_source(data, resolution)
    if source.channels != loaded.strategy.image.channels:
        raise ConfigError(
            f"the real images have {source.channels} channels, and the model draws {loaded.strategy.image.channels}: "
            "give images like those it was trained on"
        )
    return source.at(loaded.stage.resolution)


def folder_or_file(path: str | Path, loaded: Loaded, option: str) -> Source:
    """The images in a folder, a ZIP file or an idx file, brought to size as those that ``loaded`` was trained on.

    Raises:
        ConfigError: there is nothing at ``path``, or no images.
    """
    path = expanded(path, option)
    if not path.exists():
        raise ConfigError(f"{option}: there is nothing at {path}: correct the path")
    kind = "folder" if path.is_dir() else "zip" if zipfile.is_zipfile(path) else "idx"
    section = loaded.config.data
    own = {name: getattr(section, name) for name in ("resize", "upscale") if hasattr(section, name)}
    if kind != "idx":
        own |= {"cache": "none", "classes": "none"}
    channels = loaded.strategy.image.channels
    return open_source(kind, resolution=loaded.config.strategy.resolution, path=path, channels=channels, **own)


def _drawn(loaded: Loaded, count: int, seed: int, options: dict, real: Read | None) -> Pictures:
    if loaded.strategy.samples_data:
        offered = ", ".join(loaded.strategy.translations())
        raise ConfigError(
            f"{loaded.path}, a {loaded.config.strategy.name}, makes images from images: give --input and "
            f"--direction, one of {offered}"
        )
    [checked] = read_options(options, loaded.schema)
    return Drawn(loaded.from_seeds(checked), count, seed, captions_to_draw(checked, real))


def _translated(loaded: Loaded, direction, originals, count: int, seed: int, options: dict) -> Pictures:
    if direction is None or originals is None:
        raise ConfigError("--direction and --input go together: give both to measure translations")
    if options:
        raise ConfigError(f"translations have no option {next(iter(options))}: leave it out")
    translator = loaded.translator(direction)
    source = folder_or_file(originals, loaded, "--input").at(loaded.stage.resolution)
    facts = ("translated", direction, *loaded.drawn_with())
    return Translated(Read(source, count, seed), translator, facts)


def _facts(source: Source | None, generated: Pictures, extractor: Extractor | None) -> dict[str, Any]:
    """What every rank must see alike."""
    return {
        "the real images (SHA-256)": source and source.digest(),
        "the number of images to measure": len(generated),
        "the weights of the network of features (SHA-256)": extractor and extractor.network.sha256,
    }


def _run_of(found: Path) -> Path:
    """The run directory of the checkpoint ``found``; where that lies alone, the folder it lies in."""
    return found.parent.parent if found.parent.name == "checkpoints" else found.parent
