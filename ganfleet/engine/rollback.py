"""A run that has diverged goes back to its last checkpoint, and on from there with lower learning rates."""

from pathlib import Path
from typing import TYPE_CHECKING

from ganfleet.errors import NonFinite, ReplicasDiverged
from ganfleet.store import checkpoint

if TYPE_CHECKING:
    from ganfleet.engine.trainer import Trainer


def go_back(run: "Trainer", error: NonFinite | ReplicasDiverged) -> None:
    """Bring ``run`` to its newest valid checkpoint. Every rank has met ``error`` after the same step.

    A run gives the same bits again, so after a NonFinite it would fail again: each time lowers its learning rates by
    ``train.rollback_lr``. Replicas that differ are a fault of the machine: what follows is as it would have been.

    Raises:
        NonFinite, ReplicasDiverged: ``error``, where the config does not allow to go back, or not so often, or where
            there is no checkpoint.
    """
    train, of_machine = run.config.train, isinstance(error, ReplicasDiverged)
    times = run.repeats if of_machine else run.rollbacks
    if times >= train.rollbacks or run.directory is None or (of_machine and train.on_diverged != "rollback"):
        raise error
    run.tell("on_setback", error)  # which finishes the checkpoint that is being written
    path = run.fleet.first(lambda: checkpoint.newest_valid(run.directory / "checkpoints")[0])
    if path is None:
        raise error
    with run.fleet.agreeing():  # a node may not see what rank 0 sees
        snapshot = checkpoint.load(Path(path))
    before = run.rollbacks
    run.restore(snapshot)
    if of_machine:
        run.repeats += 1
    else:
        run.went_back(before + 1)
    run.tell("on_rollback")
    told = "" if of_machine else f", learning rates are {run.stepper.lr_factor:g} of the config's"
    run.alarm(f"{error}. The run goes back to {path} ({times + 1} of {train.rollbacks} times){told}")
