"""Where a run begins: at the newest checkpoint of its own, with the weights of another run, or anew."""

import sys
from pathlib import Path
from typing import NamedTuple

from ganfleet import config as configs
from ganfleet.config import Change, Config
from ganfleet.engine import lineage
from ganfleet.engine.trainer import Trainer
from ganfleet.errors import CheckpointMismatch, ConfigError
from ganfleet.fleet import Fleet
from ganfleet.nn import forms
from ganfleet.store import checkpoint, rundir
from ganfleet.store.snapshot import Snapshot

SHOWN = 4  # of the weights that do not match, in an error


class Found(NamedTuple):
    """The checkpoint that a run goes on from: where it is, what is in it, and the changes of config it goes on with."""

    path: str
    snapshot: Snapshot
    accepted: list[Change]


def find(config: Config, run_dir: Path, connected: Fleet) -> Found | None:
    """The checkpoint to go on from, on every rank; its form of operators is in force from now on.

    Raises:
        ConfigError: the run has checkpoints that this start would overwrite; ``train.init_from`` is this run.
        CheckpointDamaged: checkpoints are there, and none is whole.
        CheckpointMismatch: the config has changed in what the result depends on; this machine has not that form.
    """
    connected.first(lambda: check_init_from(config.train.init_from, run_dir))
    path = connected.first(lambda: find_checkpoint(config, run_dir))
    if path is None:
        return None
    with connected.agreeing():  # a node may not see what rank 0 sees
        snapshot = checkpoint.load(Path(path))
        accepted = check_same_config(snapshot.config, config, path)
        accepted += use_form(snapshot.facts["form"], config, path)
    return Found(path, snapshot, accepted)


def refuse_early(config: Config) -> None:
    """Refuse the config that ``find`` would refuse, before work that takes long; it may still refuse it later.

    Raises:
        ConfigError, CheckpointMismatch: as ``find``.
    """
    if config.run.name is None or config.checkpoint.resume != "auto":
        return
    run_dir = rundir.plan(config.run.dir, config.run.name, "")
    check_init_from(config.train.init_from, run_dir.path)
    kept = checkpoint.config_of_newest(run_dir.checkpoints)
    if kept is not None and not run_dir.seems_taken:  # by whom is what comes first then
        check_same_config(kept, config, run_dir.path)


def use_form(form: str, config: Config, path: str) -> list[Change]:
    """Compile in the ``form`` of the checkpoint, or as the config says if ``checkpoint.accept`` allows that.

    Raises:
        CheckpointMismatch: this machine cannot run that form.
    """
    own = forms.form()
    if configs.accepts(config, "fleet.kernels"):
        return [] if own == form else [Change("the form of the kernels", form, own)]
    try:
        forms.use(form)
    except ConfigError as error:
        raise CheckpointMismatch(
            f"{path} goes on with other bits here: {error}. Go on where that form runs, or set "
            "checkpoint.accept='[fleet.kernels]' to go on with the change"
        ) from error
    return []


def resume(trainer: Trainer, found: Found) -> list[str]:
    """Bring ``trainer`` to where its run stopped, and say so in a line, and in one for each accepted change.

    Raises:
        CheckpointMismatch: the networks or the data are not those of the checkpoint.
    """
    path, snapshot, accepted = found
    try:
        trainer.restore(snapshot)
    except CheckpointMismatch as error:
        if not accepted:
            raise
        keys = " and ".join(key for key, _, _ in accepted)
        raise CheckpointMismatch(
            f"checkpoint.accept allows {keys} to change, and {path} cannot go on with it ({error}). Put it back, or "
            f"begin a new run with train.init_from={trainer.directory}"
        ) from error
    lines = [f"resumed from {path} at {trainer.clock.kimg:g} kimg"]
    for key, old, new in accepted:
        change = {"step": trainer.clock.step, "key": key, "was": old, "is": new}
        trainer.accepted.append(change)
        lines.append(f"accepted: {key} was {old}, is {new} from step {trainer.clock.step} on")
    return lines


def check_init_from(given: str | None, run_dir: Path) -> None:
    """Refuse to begin a run with its own weights: it would go on from its newest checkpoint.

    Raises:
        ConfigError: ``given`` is in the run's directory.
    """
    if given is not None and Path(given).resolve().is_relative_to(run_dir.resolve()):
        raise ConfigError(
            f"train.init_from is {given}, which is of this run: leave it out to go on from the newest checkpoint, or "
            "choose another run.name to begin a new run with these weights"
        )


def find_checkpoint(config: Config, run_dir: Path) -> str | None:
    """The checkpoint that ``checkpoint.resume`` asks for.

    Raises:
        ConfigError: the run has checkpoints that this start would overwrite.
    """
    wanted, own = config.checkpoint.resume, run_dir / "checkpoints"
    if wanted != "auto" and checkpoint.checkpoints(own):
        raise ConfigError(
            f"{run_dir} has checkpoints and checkpoint.resume is {wanted}: set it to auto to go on from them, or "
            "choose another run.name"
        )
    match wanted:
        case "never":
            return None
        case "auto":
            path, damaged = checkpoint.newest_valid(own)
        case given:
            path, damaged = checkpoint.resolve(Path(given))
    for line in damaged:
        print(f"ganfleet: {line}", file=sys.stderr)
    return str(path) if path else None


def check_same_config(kept: dict, config: Config, path: str | Path) -> list[Change]:
    """Refuse to go on from ``path``, made with the config ``kept``, with one that would have given another model; the
    changes that the user accepted.

    Raises:
        CheckpointMismatch: naming each changed key with both values.
    """
    changed, accepted = configs.differences(kept, config)
    if changed:
        lines = "; ".join(f"{key} was {old}, is {new}" for key, old, new in changed)
        keys = ", ".join(key for key, _, _ in changed)
        raise CheckpointMismatch(
            f"{path} was made with another config: {lines}. Put these back, start a new run (another run.name), or "
            f"set checkpoint.accept='[{keys}]' to go on with the change"
        )
    return accepted


def initialize(trainer: Trainer) -> list[str]:
    """Begin with the weights and averages of another run (``train.init_from``); lines on what did not match.

    Raises:
        ConfigError: there is no checkpoint; frozen networks do not go together.
        CheckpointMismatch: weights do not match, and ``train.init_strict`` is set.
    """
    train, connected = trainer.config.train, trainer.fleet
    trainer.program.check_frozen()
    if train.init_from is None:
        return []
    path = connected.first(lambda: str(checkpoint.resolve(Path(train.init_from))[0]))
    with connected.agreeing():
        snapshot = checkpoint.load(Path(path))
    unmatched = trainer.program.adopt(snapshot.tensors)
    if unmatched and train.init_strict:
        theirs, own = snapshot.config["strategy"]["name"], trainer.config.strategy.name
        told = f"it is of the strategy {theirs}, and this run of {own}; " if theirs != own else ""
        more = f"; and {len(unmatched) - SHOWN} more" if len(unmatched) > SHOWN else ""
        raise CheckpointMismatch(
            f"train.init_from: {path} does not match these networks: {told}{'; '.join(unmatched[:SHOWN])}{more}. Set "
            "train.init_strict to false to begin with what matches"
        )
    trainer.ancestors = lineage.ancestors(snapshot)
    return [f"weights from {path}", *(f"not matched: {line}" for line in unmatched)]
