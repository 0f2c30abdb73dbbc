"""What one stage compiles to: players, frozen networks, phases and samplers. Built once, when the stage begins."""

from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms

from ganfleet import nn
from ganfleet.engine import contract
from ganfleet.engine.frozen import FrozenNetwork
from ganfleet.engine.phase import CompiledPhase
from ganfleet.engine.player import FlatPlayer, Tensors
from ganfleet.engine.shards import ShardedPlayer
from ganfleet.errors import CheckpointMismatch, ConfigError
from ganfleet.fleet import Fleet
from ganfleet.nn import forms
from ganfleet.nn import precision as precisions
from ganfleet.strategies.base import Stage, Strategy


class Program:
    """The networks of one stage and everything compiled from them.

    ``nets`` has each network by name as an attribute, ``players`` are what trains them, and ``phases`` are the step's,
    in order. ``form`` is the form of operators that was in force when it was built (see ``nn.forms``). Where it is made
    for the checkpoint ``of`` a run, the runs whose networks are frozen here may have moved with it.

    On a ``fleet`` that ``shards_optimizer`` state, all ranks must call ``tensors``, ``load``, ``adopt`` and
    ``averaged`` together. With ``recompute``, blocks of the networks that players train are computed again for their
    gradients, instead of keeping what they computed (see ``nn.recompute``).

    Raises:
        ConfigError: the strategy gives something that does not fit; an optimizer cannot be sharded; there is nothing
            to recompute.
    """

    def __init__(
        self,
        strategy: Strategy,
        stage: Stage,
        seed: int,
        precision: str = "float32",
        recompute: bool = False,
        fleet: Fleet | None = None,
        of: Path | None = None,
    ):
        self.form = forms.form()
        # In MindSpore's default mode the thread that waits for a graph spins, on the core the kernels are pinned to.
        ms.set_context(mode=ms.GRAPH_MODE)
        self.strategy, self.stage = strategy, stage
        with nn.reproducible(seed):
            declared = contract.players(strategy, stage)
            frozen = contract.frozen(strategy, stage, declared)
        nets = {}
        for name, player in declared.items():
            nets |= contract.networks(name, player)
        if recompute and not sum(map(nn.recompute, nets.values())):
            raise ConfigError(
                "train.recompute is set, and no network has a block that can be computed again: leave it out, or give "
                "blocks of the networks the attribute recomputable = True"
            )
        for name, net in nets.items():
            _prefix(net, name)
            net.set_train(True)
            for parameter in net.get_parameters():
                nn.initialize(parameter, seed)
        self._frozen = {name: FrozenNetwork(name, each, strategy, of) for name, each in frozen.items()}
        for name, each in frozen.items():
            _prefix(each.net, name)
        self._never_trained = [p for each in frozen.values() for p in each.net.get_parameters()]
        nets |= {name: each.net for name, each in frozen.items()}
        for net in nets.values():
            precisions.set_compute_type(net, precision)
        self.nets = SimpleNamespace(**nets)
        sharded = fleet is not None and fleet.shards_optimizer
        self.players = {
            name: ShardedPlayer(name, player, fleet) if sharded else FlatPlayer(name, player)
            for name, player in declared.items()
        }
        self.phases = [
            CompiledPhase(phase, self.players[phase.player], self.nets, scaled=precision == "float16")
            for phase in contract.phases(strategy, stage, self.players)
        ]

    @property
    def frozen(self) -> dict[str, str]:
        """The SHA-256 of each network that nobody trains, by name."""
        return {name: each.sha256 for name, each in self._frozen.items()}

    def check_frozen(self) -> None:
        """Refuse frozen networks that do not go together, where a run begins; later a checkpoint knows them.

        Raises:
            ConfigError: one was trained on other captions, or behind another than the one here.
        """
        for each in self._frozen.values():
            each.check(self._frozen)

    # ── State

    def tensors(self) -> dict[str, Tensors]:
        """The tensors of every player, by checkpoint component."""
        return {name: tensors for player in self.players.values() for name, tensors in player.tensors().items()}

    def replicated(self) -> dict[str, tuple[ms.Tensor, list[tuple[str, int]]]]:
        """All on the device that every rank must hold alike (see ``FlatPlayer.replicated``), frozen networks too."""
        vectors = {f"frozen/{p.name}": (p, [("", p.size)]) for p in self._never_trained}
        for player in self.players.values():
            vectors |= player.replicated()
        return vectors

    def load(self, tensors: dict[str, Tensors], frozen: dict[str, str] | None = None) -> None:
        """Take back what ``tensors`` gave, made with the ``frozen`` networks of these SHA-256.

        Raises:
            CheckpointMismatch: a tensor that these networks need is missing or has another shape, or a frozen network
                has other weights now.
        """
        for name, sha256 in (frozen or {}).items():
            own = self._frozen.get(name)
            if own is not None and own.sha256 != sha256 and not own.be(sha256):
                where = f" ({own.path})" if own.path else ""
                raise CheckpointMismatch(
                    f"the frozen network {name!r}{where} is another than when the checkpoint was made (SHA-256 "
                    f"{own.sha256[:12]}…, then {sha256[:12]}…): bring the weights and the config of then back"
                )
        try:
            for player in self.players.values():
                player.load(tensors)
        except (KeyError, ValueError) as error:
            raise CheckpointMismatch(
                f"the checkpoint does not fit the networks of its config ({error}): use the strategy's code of then"
            ) from error

    def inherit(self, tensors: dict[str, Tensors]) -> None:
        """Take over weights, buffers and EMA by name from another stage's ``tensors``; optimizers start afresh.

        Raises:
            ConfigError: a weight has another shape here, and the strategy does not say what becomes of it.
        """
        for player in self.players.values():
            player.inherit(tensors, self.strategy.carry_over)

    def adopt(self, tensors: dict[str, Tensors]) -> list[str]:
        """Take over weights, buffers and EMA by name from another run's ``tensors``, whatever matches; what does not.

        Players are matched by name too. Averages that the other run does not have begin at the weights. Buffers that
        only the other run has, and those that are not ``carried``, are not looked at.
        """
        unmatched, fitting = [], {}
        mine = self.tensors()
        own = {each.value.name for player in self.players.values() for each in player.buffers if not each.carried}
        for component in [name for name in mine if name.endswith((".weights", ".buffers"))]:
            theirs = tensors.get(component, {})
            names = mine[component].keys() | (theirs.keys() if component.endswith(".weights") else set())
            for name in sorted(names - own):
                a, b = mine[component].get(name), theirs.get(name)
                if a is None or b is None:
                    unmatched.append(f"{name} is only {'there' if a is None else 'here'}")
                elif a.shape != b.shape:
                    unmatched.append(f"{name} is {b.shape} there and {a.shape} here")
                else:
                    fitting.setdefault(component, {})[name] = b
                    ema = component.replace(".weights", ".ema")
                    fitting.setdefault(ema, {})[name] = tensors.get(ema, {}).get(name, b)
        for player in self.players.values():
            player.inherit(fitting, self.strategy.carry_over)
        return unmatched

    # ── Sampling

    @contextmanager
    def averaged(self):
        """While it lasts, networks hold the EMA of their weights, where they have one."""
        with ExitStack() as stack:
            for player in self.players.values():
                stack.enter_context(player.averaged())
            yield


def _prefix(net, name: str) -> None:
    """Give the parameters of ``net`` their full names; one that a strategy gives again has them already."""
    if not contract.is_named(net, name):
        net.update_parameters_name(f"{name}.")
