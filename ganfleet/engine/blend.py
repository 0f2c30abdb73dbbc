"""Layer swapping (arXiv:2010.05334): networks of two related runs as one, each weight by the resolution it works at."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ganfleet import config as configs
from ganfleet.engine.lineage import unrelated
from ganfleet.engine.run import new_strategy
from ganfleet.engine.running import running
from ganfleet.engine.schedule import stage_of
from ganfleet.errors import CheckpointMismatch, ConfigError
from ganfleet.store import checkpoint
from ganfleet.store.snapshot import Snapshot
from ganfleet.strategies.base import ImageSpec, Stage, Strategy

Share = Callable[[int], float]
"""How much of the tuned weights is taken at a resolution, from 0 to 1."""
AVERAGED = (".weights", ".ema")


def blend(base: Path, tuned: Path, shares: dict[int, float] | Share, strategy: str | None = None) -> Snapshot:
    """The checkpoint ``base`` with its weights moved towards those of ``tuned``, by their resolutions.

    Weights that work at no resolution, such as a mapping's, and all that is not blended, stay those of ``base``. At a
    share of 0 a weight is the base's, bit for bit, and at 1 the tuned one's.

    Args:
        base: a checkpoint, or a run, whose newest valid one is taken.
        tuned: another, of a run that began with the weights of ``base``, or the like.
        shares: by the height of each resolution, or a function of it.
        strategy: whose code to use; see ``ganfleet.load``.

    Raises:
        ConfigError: ``shares`` leave out a resolution, or name another; the strategy's networks cannot be blended.
        CheckpointMismatch: they are not siblings.
    """
    base, tuned = (checkpoint.resolve(path)[0] for path in (base, tuned))
    mine, theirs = checkpoint.load(base), checkpoint.load(tuned)
    made = _strategy_of(mine, strategy)
    stage = stage_of(mine, made)
    heights = _heights(mine, made, stage, base)
    _check_siblings(mine, theirs, heights, base, tuned)
    share = _share_of(shares, sorted(set(heights.values())))
    for component, tensors in mine.tensors.items():
        if component.endswith(AVERAGED):
            for name in tensors.keys() & heights.keys():
                tensors[name] = mixed(tensors[name], theirs.tensors[component][name], share(heights[name]))
    taken = {str(height): share(height) for height in sorted(set(heights.values()))}
    mine.facts["blend"] = {"base": str(base), "tuned": str(tuned), "shares": taken}
    return mine


def mixed(own: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """``own`` at a share of 0 and ``other`` at 1, bit for bit."""
    if share in (0, 1):
        return other if share else own
    return (own + (other.astype(np.float64) - own) * share).astype(own.dtype)


def sigmoid(middle: float, width: float) -> Share:
    """1 / (1 + exp(−x / ``width``)), x being the doublings from the resolution ``middle``; there it is ½."""
    # By the hyperbolic tangent, which no argument is too large for.
    return lambda height: (1 + math.tanh(math.log2(height / middle) / width / 2)) / 2


def _strategy_of(snapshot: Snapshot, strategy: str | None) -> Strategy:
    config, source = configs.from_resolved(snapshot.config, strategy), snapshot.facts["source"]
    return new_strategy(config, ImageSpec.of(source))


def _heights(snapshot: Snapshot, strategy: Strategy, stage: Stage, path: Path) -> dict[str, int]:
    """The height at which each weight works that works at one.

    Raises:
        ConfigError: none does.
    """
    names = [name for component, each in snapshot.tensors.items() if component.endswith(".weights") for name in each]
    with running(f"{type(strategy).__name__}.works_at()", type(strategy)):
        heights = {name: strategy.works_at(name, stage) for name in names}
    heights = {name: height for name, height in heights.items() if height is not None}
    if not heights:
        raise ConfigError(
            f"{path} is a {snapshot.config['strategy']['name']}, whose weights do not belong to resolutions: use "
            "checkpoints of a strategy that has a method works_at(), or give this one such a method"
        )
    return heights


def _check_siblings(mine: Snapshot, theirs: Snapshot, heights: dict[str, int], base: Path, tuned: Path) -> None:
    """
    Raises:
        CheckpointMismatch: they differ in strategy, names, shapes or averages, or neither comes from the other.
    """
    told = f"{base} and {tuned} are not siblings"
    strategies = [each.config["strategy"]["name"] for each in (mine, theirs)]
    if strategies[0] != strategies[1]:
        raise CheckpointMismatch(f"{told}: one is a {strategies[0]}, the other a {strategies[1]}")
    for component in [name for name in mine.tensors if name.endswith(AVERAGED)]:
        own = {name: array.shape for name, array in mine.tensors[component].items() if name in heights}
        other = {name: array.shape for name, array in theirs.tensors.get(component, {}).items()}
        for name, shape in own.items():
            if other.get(name) != shape:
                has = f"has shape {other[name]}" if name in other else "is not there"
                raise CheckpointMismatch(
                    f"{told}: {component}/{name} has shape {shape} in the first and {has} in the second. Use a run "
                    "that was tuned with the networks of the base, to the same resolution"
                )
    if unrelated(mine, theirs):
        raise CheckpointMismatch(
            f"{told}: neither began with the weights of the other, nor both with those of a third, so their layers do "
            "not fit together. Use a run that begins with the base's weights, by train.init_from"
        )


def _share_of(shares: dict[int, float] | Share, heights: list[int]) -> Share:
    """
    Raises:
        ConfigError: a resolution has no share, or a share is for none.
    """
    if not isinstance(shares, dict):
        return shares
    missing, unknown = (
        [each for each in heights if each not in shares],
        [each for each in shares if each not in heights],
    )
    if missing or unknown:
        problem = f"leaves out {_listed(missing)}" if missing else f"has {_listed(unknown)}"
        raise ConfigError(f"--share {problem}: these networks have the resolutions {_listed(heights)}")
    return shares.__getitem__


def _listed(heights: list[int]) -> str:
    return ", ".join(map(str, heights))
