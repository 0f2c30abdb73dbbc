"""Which run trained a checkpoint, and which runs its weights came from by ``train.init_from``."""

import hashlib
import json

from ganfleet.store.snapshot import Snapshot


def identity(snapshot: Snapshot) -> str:
    """A name of the run that made ``snapshot``: of the weights it began with, and of its data.

    All checkpoints of the run have the same, with whatever config it went on. Runs that share it drew equal weights.
    """
    train, strategy = snapshot.config["train"], snapshot.config["strategy"]["name"]
    parts = [strategy, train["seed"], train.get("init_from"), snapshot.facts["source"]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def ancestors(snapshot: Snapshot) -> list[str]:
    """The runs that the weights of ``snapshot`` came from, its own last."""
    return [*snapshot.facts.get("ancestors", []), identity(snapshot)]


def unrelated(a: Snapshot, b: Snapshot) -> bool:
    """Whether neither of two checkpoints comes from the other, nor both from a third.

    A release that did not note ancestors leaves that open: then they are not held to be unrelated.
    """
    if any(each.config["train"].get("init_from") and "ancestors" not in each.facts for each in (a, b)):
        return False
    return not {*ancestors(a)} & {*ancestors(b)}
