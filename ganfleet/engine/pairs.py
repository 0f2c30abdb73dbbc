"""Pairs of images: the same latents, classes and noise through two checkpoints. The fleet shares the work."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ganfleet import __version__
from ganfleet.engine.chain import whole
from ganfleet.engine.loaded import Loaded
from ganfleet.engine.picture_files import is_there
from ganfleet.engine.sampler import CHUNK, shares
from ganfleet.errors import ConfigError
from ganfleet.observe.grid import picture_of, save_picture
from ganfleet.store import publish
from ganfleet.store.publish import writing
from ganfleet.strategies.options import Options, read_options

FOLDERS = ("trainA", "trainB")  # as the source ``paired`` expects them
FACTS = "pairs.json"


def write(
    a: Loaded,
    b: Loaded,
    out: Path,
    seeds: range,
    label: int | None = None,
    options: dict[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, int]:
    """Write an image of ``a`` and one of ``b`` for each of ``seeds``; how many pairs were drawn, and were there before.

    They go to ``out/trainA`` and ``out/trainB`` under equal names, and ``out/pairs.json`` says how they were made.
    Files are there whole or not at all, so that a call that was stopped goes on. ``progress(done, total)`` is told on
    rank 0 how far this rank is.

    Args:
        label: the class of all; None for that of each seed.
        options: sample options of both strategies.

    Raises:
        ConfigError: the two do not take the same latents, an option is unknown, or ``out`` holds something else.
        StorageError: a file cannot be written.
    """
    fleet = a.fleet
    with fleet.agreeing():
        whole("seed", seeds[-1])
        checked = [read_options(options or {}, each.schema)[0] for each in (a, b)]
        refuse_other_latents(a, b, seeds[0], label, checked)
        facts = facts_of(a, b, label, {name: getattr(checked[0], name) for name in options or {}})
    missing = fleet.first(lambda: begin(out, facts, seeds))
    with fleet.agreeing():
        done = 0
        for mine in shares(fleet, len(missing)):
            for loaded, own, folder in zip((a, b), checked, FOLDERS, strict=True):
                inputs = [loaded.inputs(missing[i], label, own) for i in mine]
                for i, image in zip(mine, loaded.draw(inputs), strict=True):
                    save_picture(out / folder / name_of(missing[i]), picture_of(image))
            done = min(done + CHUNK * fleet.world_size, len(missing))
            if fleet.rank == 0:
                progress(done, len(missing))
    fleet.first(lambda: end(out, seeds))
    return len(missing), len(seeds) - len(missing)


def name_of(seed: int) -> str:
    return f"seed-{seed:06d}.png"


def refuse_other_latents(a: Loaded, b: Loaded, seed: int, label: int | None, options: list[Options]) -> None:
    """
    Raises:
        ConfigError: the images of ``seed`` are not made of the same, so that they would be no pair.
    """
    if a.strategy.image.channels != b.strategy.image.channels:
        raise ConfigError(
            f"{a.path} draws images of {a.strategy.image.channels} channels and {b.path} of "
            f"{b.strategy.image.channels}: give two checkpoints of one kind"
        )
    made_of = [loaded.inputs(seed, label, own) for loaded, own in zip((a, b), options, strict=True)]
    # Scalars are what the clock decides, such as how far a layer has faded in.
    first, second = ({name: array for name, array in each.items() if np.ndim(array)} for each in made_of)
    for name in {**first, **second}:
        if name in first and name in second and np.array_equal(first[name], second[name]):
            continue
        told = [
            f"{loaded.path} has {'none' if name not in each else f'one of shape {np.shape(each[name])[1:]}'}"
            for loaded, each in ((a, first), (b, second))
        ]
        raise ConfigError(
            f"the two checkpoints make the image of seed {seed} of different {name!r}: {' and '.join(told)}. Pairs "
            "need networks that take the same, such as a model and what was fine-tuned or blended from it"
        )


def facts_of(a: Loaded, b: Loaded, label: int | None, options: dict[str, Any]) -> dict[str, Any]:
    """What the pairs depend on beside their seeds."""
    facts = {
        name: {"checkpoint": str(loaded.checkpoint), "weights": loaded.drawn_with()[0], "ema": loaded.ema}
        for name, loaded in (("a", a), ("b", b))
    }
    return facts | {"class": label, "options": {name: str(value) for name, value in options.items()}}


def begin(out: Path, facts: dict[str, Any], seeds: range) -> list[int]:
    """Make the folder, or find what is in it already; the seeds of which a file is missing.

    Raises:
        ConfigError: there is something else in it, or pairs that were made otherwise.
        StorageError: it cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file: name a folder")
    with writing(out):
        before = read_facts(out)
        if before is None and out.is_dir() and any(out.iterdir()):
            raise ConfigError(f"--out {out} is not empty, and has no {FACTS}: choose another folder")
        others = [name for name in facts if before and _same(before.get(name)) != _same(facts[name])]
        if others:
            option = others[0] if others[0] == "options" else f"--{others[0]}"
            raise ConfigError(
                f"--out {out}: its pairs were made with {option} {_told(before.get(others[0]))}, not "
                f"{_told(facts[others[0]])}: "
                "choose another folder, or give what they were made with"
            )
        for folder in FOLDERS:
            (out / folder).mkdir(parents=True, exist_ok=True)
    _write(out, facts | {"seeds": (before or {}).get("seeds"), "ganfleet": __version__})
    return [seed for seed in seeds if not all(is_there(out / folder / name_of(seed)) for folder in FOLDERS)]


def end(out: Path, seeds: range) -> None:
    """Note that the pairs of ``seeds`` are there, beside those of earlier calls that came to their end."""
    facts = read_facts(out)
    first, last = facts["seeds"] or [seeds[0], seeds[-1]]
    _write(out, facts | {"seeds": [min(first, seeds[0]), max(last, seeds[-1])]})


def _write(out: Path, facts: dict[str, Any]) -> None:
    publish.file(out / FACTS, json.dumps(facts, indent=2) + "\n")


def read_facts(out: Path) -> dict[str, Any] | None:
    """How the pairs in ``out`` were made; their seeds are None where no call has come to its end.

    Raises:
        ConfigError: the file that says so says something else.
    """
    path = out / FACTS
    if not path.exists():
        return None
    try:
        facts = json.loads(path.read_text("utf-8"))
        seeds = facts["seeds"] and [int(each) for each in facts["seeds"]]
        if seeds is not None and len(seeds) != 2:
            raise ValueError("seeds are not a first and a last one")
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} does not say how pairs were made ({error}): choose another --out") from error
    return facts | {"seeds": seeds}


def _same(fact: Any) -> Any:
    """What must be equal of ``fact``: of a checkpoint its weights, wherever it is now."""
    return {name: value for name, value in fact.items() if name != "checkpoint"} if isinstance(fact, dict) else fact


def _told(fact: Any) -> str:
    """``fact`` in a message."""
    if not isinstance(fact, dict):
        return "none" if fact is None else str(fact)
    if "checkpoint" in fact:
        return f"{fact['checkpoint']} with {'averaged' if fact.get('ema') else 'trained'} weights"
    return ", ".join(f"{name}={value}" for name, value in fact.items()) or "none"
