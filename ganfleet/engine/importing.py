"""A checkpoint out of files in which another program keeps its weights; strategies know whose these are."""

from typing import Any

import numpy as np

from ganfleet import config as configs
from ganfleet.engine.program import Program
from ganfleet.engine.run import new_strategy
from ganfleet.engine.running import running
from ganfleet.errors import ConfigError
from ganfleet.plugins import STRATEGIES
from ganfleet.store.foreign import Foreign
from ganfleet.store.snapshot import Snapshot
from ganfleet.strategies.base import ImageSpec, Strategy
from ganfleet.strategies.imported import Imported

SEED = 0  # of what is not in the files


def imported(files: list[Foreign], name: str | None = None) -> tuple[Snapshot, list[str]]:
    """A checkpoint with the weights in ``files``, as of a run that has just ended, and what it lacks, a line each.

    What is not in the files, such as a discriminator, is as drawn at the start of a run.

    Args:
        name: the strategy whose networks they are; None for the first that knows them.

    Raises:
        ConfigError: no strategy knows them, or they are not quite like its networks.
    """
    # ganfleet's own first: an installed one may be a subclass.
    known = sorted(STRATEGIES.names(), key=lambda each: each not in STRATEGIES.builtin)
    name, found = _found(files, [name] if name else known)
    config = configs.Config.from_dict(
        {
            "strategy": {"name": name, **found.options},
            "data": {"source": "given"},
            "train": {"batch_size": found.batch_size, "lanes": 1, "steps": 1, "seed": SEED},
        }
    )
    image = ImageSpec(found.channels, found.classes)
    strategy = new_strategy(config, image)
    stage = strategy.schedule()[-1]
    program = Program(strategy, stage, SEED)
    tensors = program.tensors()
    _fill(tensors, found, files)
    facts = {
        "clock": {"step": 0, "nimg": stage.starts_at},
        "stage": stage.name,
        "data": {"position": 0, "bad": []},
        "source": _source(files, image),
        "guard": {"nonfinite": 0},
        "frozen": program.frozen,
        "form": program.form,
        "scaler": {},
        "accepted": [],
        "imported": {str(each.path): each.sha256 for each in files},
    }
    return Snapshot(tensors | {"lanes": {}}, facts, config.resolved()), list(found.notes)


def _found(files: list[Foreign], names: list[str]) -> tuple[str, Imported]:
    """The first strategy of ``names`` that knows ``files``, and what it found in them."""
    for name in names:
        try:
            strategy: type[Strategy] = STRATEGIES.find(name)
        except ConfigError:
            if len(names) == 1:
                raise
            continue  # a broken plug-in; `ganfleet strategies` tells of it
        with running(f"{strategy.__name__}.imported()", strategy):
            found = strategy.imported(files)
        if found is not None:
            return name, found
    told = " and ".join(str(each.path) for each in files)
    held = sorted({name for each in files for name in [*each.tensors, *(n.function for n in each.networks)]})[:3]
    raise ConfigError(
        f"{told}: no strategy knows these networks ({', '.join(held)} …). docs/weights.md says what can be "
        "imported; for other networks, give a strategy a method imported()"
    )


def _fill(tensors: dict[str, dict[str, np.ndarray]], found: Imported, files: list[Foreign]) -> None:
    """Put what was found into the ``tensors`` of a program.

    Raises:
        ConfigError: a weight has no place there, or another shape.
    """
    left = dict(found.weights)
    for component, own in tensors.items():
        kind = component.rpartition(".")[2]
        for name in own:
            if kind in ("weights", "buffers") and name in left:
                own[name] = _fitting(name, left.pop(name), own[name], files)
            elif kind == "ema" and name in found.weights:
                own[name] = _fitting(name, found.averages.get(name, found.weights[name]), own[name], files)
    if left:
        raise ConfigError(
            f"{files[0].path} has {next(iter(left))}, which the strategy's networks have not: correct its imported()"
        )


def _fitting(name: str, array: np.ndarray, own: np.ndarray, files: list[Foreign]) -> np.ndarray:
    if array.shape != own.shape:
        raise ConfigError(
            f"{files[0].path}: {name} would have the shape {array.shape}, but it must be {own.shape}: these are "
            "networks of another architecture"
        )
    if not np.isfinite(array).all():
        raise ConfigError(f"{files[0].path}: {name} has values that are not finite: fetch the file again")
    return array.astype(own.dtype)


def _source(files: list[Foreign], image: ImageSpec) -> dict[str, Any]:
    """What stands for the data of the run; the files' own name keeps other imports from being taken for related."""
    names = " ".join(each.sha256 for each in files)
    return {"images": 0, "names": names, "channels": image.channels, "classes": image.classes}
