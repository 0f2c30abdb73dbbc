"""A network that nobody trains: where its weights come from, and whether they are those that the run needs."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from ganfleet.document import expanded
from ganfleet.engine import contract
from ganfleet.errors import CheckpointDamaged, ConfigError
from ganfleet.store import checkpoint, weights
from ganfleet.store.snapshot import Snapshot
from ganfleet.strategies.base import Frozen, Strategy


class FrozenNetwork:
    """A strategy's ``declared`` network with its weights, and without a gradient.

    Attributes:
        sha256: of its weights, and of what ``declared`` says that it computes with them.
        path: where the weights are from; None where the strategy has loaded them.
    """

    def __init__(self, name: str, declared: Frozen, strategy: Strategy, of: Path | None = None):
        """``of`` is the checkpoint that is loaded: a run that is not at its path any more may be beside that one's.

        Raises:
            ConfigError: there are no weights of this network at its path, or none at all; the run that they are from
                was made with other options.
        """
        self.name, self.net, self._declared, self._strategy = name, declared.net, declared, strategy
        self._option = f"strategy.{declared.option}" if declared.option else f"the frozen network {name!r}"
        self._facts: dict | None = None  # of the checkpoint that the weights are from
        self.path = self._found(of)
        if self.path is not None:
            self._take(self.path)
        for parameter in self.net.get_parameters():
            if getattr(parameter, "initial", None) is not None and (parameter.asnumpy() != parameter.asnumpy()).all():
                raise ConfigError(
                    f"the frozen network {name!r} has no weights ({parameter.name} was never set): name a file in "
                    "Frozen(net, weights=…), or load them before"
                )
            parameter.requires_grad = False
        self.net.set_train(False)
        self.sha256 = self._digest()

    def be(self, sha256: str) -> bool:
        """Take the weights of the checkpoint of then, where the run that they are from has gone on and still has it.

        Whether the network has that ``sha256`` now; otherwise it is as before.
        """
        older = checkpoint.within(self.path)[:-1] if self.path and self.path.is_dir() else []
        now = self.path
        for path in reversed(older):
            with suppress(ConfigError, CheckpointDamaged):  # then it is not this one
                self._take(path)
            if self._digest() == sha256:
                self.path, self.sha256 = path, sha256
                return True
        if older:
            self._take(now)
        return False

    def check(self, others: dict[str, "FrozenNetwork"]) -> None:
        """Refuse a network out of a run that was trained on other captions, or behind others than these.

        Raises:
            ConfigError: it was.
        """
        if self._facts is None:
            return
        facts, text = self._facts, self._strategy.image.text
        theirs = facts["source"].get("text")
        if text and theirs and text.sha256 and theirs["sha256"] not in ("", text.sha256):
            raise ConfigError(
                f"{self._option}: {self.path} was trained on captions of the encoder {theirs['encoder']}, and "
                f"data.encoder is {text.encoder}: use the same, or train it anew"
            )
        for name, sha256 in facts.get("frozen", {}).items():
            other = others.get(name)
            if other is not None and other.sha256 != sha256:
                now = other.path
                cure = f"set {other._option} to {other.path}" if other.be(sha256) else "train it anew behind this one"
                raise ConfigError(
                    f"{self._option}: {self.path} was trained behind another {name} than {other._option} gives "
                    f"({now}): {cure}"
                )

    def _found(self, of: Path | None) -> Path | None:
        given = self._declared.weights
        if given is None:
            return None
        path = expanded(given, self._option)
        # A step-* directory is two folders below its run's.
        own = Path(*path.parts[-3:]) if path.name.startswith("step-") else Path(path.name)
        moved = of.resolve().parent.parent.parent / own if of else path
        if not path.exists() and not moved.exists():
            raise ConfigError(f"{self._option} is {given}, and nothing is there: name what its weights are read from")
        return path if path.exists() else moved

    def _take(self, path: Path) -> None:
        """Set the weights to those at ``path``."""
        snapshot, prefix = None, self._declared.prefix
        try:
            if path.is_dir():
                snapshot = checkpoint.load(checkpoint.resolve(path)[0])
                self._check_options(path, snapshot)
                tensors = weights.beginning(prefix, weights.networks(snapshot), path)
            else:
                tensors = weights.read(path, prefix)
            weights.into(self.net, tensors, self._own_prefix())
        except ConfigError as error:
            raise ConfigError(f"{self._option}: {error}{self._hint(snapshot)}") from error
        self._facts = snapshot and snapshot.facts

    def _check_options(self, path: Path, snapshot: Snapshot) -> None:
        own, theirs = self._strategy.options.model_dump(mode="json"), snapshot.config["strategy"]
        for name, their_name in self._declared.same.items():
            if their_name in theirs and theirs[their_name] != own[name]:
                then, now = json.dumps(theirs[their_name]), json.dumps(own[name])
                raise ConfigError(
                    f"{path} was made with strategy.{their_name} {then}, and strategy.{name} is {now}: give the same"
                )

    def _hint(self, snapshot: Snapshot | None) -> str:
        text, theirs = self._strategy.image.text, snapshot and snapshot.facts["source"].get("text")
        if not (text and theirs and theirs["tokens"] != text.tokens):
            return ""
        return f" (it was made with data.tokens {theirs['tokens']}, and here it is {text.tokens}: give the same)"

    def _own_prefix(self) -> str:
        """What parameters' names begin with: that of the network, once a program has named them."""
        return f"{self.name}." if contract.is_named(self.net, self.name) else ""

    def _digest(self) -> str:
        own = self._own_prefix()
        of_weights = weights.sha256({p.name.removeprefix(own): p.asnumpy() for p in self.net.get_parameters()})
        if not self._declared.computes:
            return of_weights
        return hashlib.sha256(f"{of_weights} {self._declared.computes}".encode()).hexdigest()
