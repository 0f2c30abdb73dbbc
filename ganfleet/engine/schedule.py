"""A strategy's schedule against a run: how long it lasts, whether lanes can share its batches, which stage it is in."""

from ganfleet.clock import Clock
from ganfleet.engine import contract
from ganfleet.errors import CheckpointMismatch, ConfigError
from ganfleet.store.snapshot import Snapshot
from ganfleet.strategies.base import Stage, Strategy


def total_nimg(kimg: float | None, steps: int | None, strategy: Strategy) -> int:
    """The images of a whole run: ``kimg`` thousands, or where that is None those of ``steps`` steps."""
    if kimg is not None:
        return round(kimg * 1000)
    clock = Clock(total_nimg=0)
    for _ in range(steps):
        clock.tick(strategy.stage(clock).batch_size)
    return clock.nimg


def check_schedule(strategy: Strategy, lanes: int) -> None:
    """Refuse a schedule whose batches ``lanes`` lanes cannot share.

    Raises:
        ConfigError: naming the stage.
    """
    for stage in contract.schedule(strategy):
        if stage.batch_size % lanes:
            raise ConfigError(
                f"stage {stage.name!r} has batches of {stage.batch_size}, which do not divide among train.lanes={lanes}"
            )
        strategy.check(stage, stage.batch_size // lanes)


def stage_of(snapshot: Snapshot, strategy: Strategy) -> Stage:
    """The stage whose networks are in ``snapshot``; at the end of a stage, the clock may already say the next one.

    Raises:
        CheckpointMismatch: the strategy has no such stage.
    """
    name = snapshot.facts["stage"]
    for stage in strategy.schedule():
        if stage.name == name:
            return stage
    raise CheckpointMismatch(
        f"the checkpoint is of stage {name!r}, which this config's schedule does not have: restore the schedule"
    )
