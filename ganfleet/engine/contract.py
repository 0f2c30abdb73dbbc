"""What a strategy owes the engine, checked where the engine asks for it: one error that names the culprit.

What a loss owes is checked where its graph is run, in program.py.
"""

import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np
from mindspore import nn

from ganfleet.clock import Clock
from ganfleet.errors import ConfigError
from ganfleet.nn import ClipByGlobalNorm
from ganfleet.plugins import OPTIMIZERS
from ganfleet.strategies.base import Frozen, Phase, Player, Stage, Strategy


def samples(strategy: Strategy, names: Collection[str]) -> None:
    """Check that ``strategy`` can train on samples whose images are called ``names``.

    Raises:
        ConfigError: it reads others.
    """
    if not set(strategy.reads) <= set(names):
        raise ConfigError(
            f"this strategy trains on samples of {' and '.join(strategy.reads)}, and this source's have "
            f"{' and '.join(names)}: choose a data.source that has these, such as unpaired for image_a and image_b"
        )


# What a Strategy had in the first release, and what does the same now.
GONE = {
    "learning_rate": "return {'lr': …} from hyper(player, clock)",
    "after_step": "what moves by statistics is a ganfleet.nn.Buffer in a network",
    "state": "what training changes is a ganfleet.nn.Buffer in a network",
    "load_state": "what training changes is a ganfleet.nn.Buffer in a network",
}


def current(strategy: Strategy) -> None:
    """Check that ``strategy`` was written for this release.

    Raises:
        ConfigError: it has a method that nothing calls any more.
    """
    for name, instead in GONE.items():
        if hasattr(strategy, name):
            raise ConfigError(f"{type(strategy).__name__}.{name}() is of an older ganfleet and never called: {instead}")


def players(strategy: Strategy, stage: Stage) -> dict[str, Player]:
    """The players of ``stage`` by name.

    Raises:
        ConfigError: they are no such dict, a player's networks are no Cells, or two networks have one name.
    """
    declared = strategy.players(stage)
    if not (isinstance(declared, dict) and declared and all(isinstance(p, Player) for p in declared.values())):
        raise ConfigError(f"the strategy's players() must return a dict of Player by name, not {_shown(declared)}")
    owners: dict[str, str] = {}
    for name, player in declared.items():
        for net_name, net in networks(name, player).items():
            if not isinstance(net, nn.Cell):
                raise ConfigError(f"network {net_name!r} of player {name!r} must be a Cell, not {_shown(net)}")
            if net_name in owners:
                raise ConfigError(
                    f"players {owners[net_name]!r} and {name!r} both have a network named {net_name!r}: rename one"
                )
            owners[net_name] = name
    return _with_own_optimizers(declared, strategy.options.optimizers)


def _with_own_optimizers(players: dict[str, Player], chosen: dict[str, dict]) -> dict[str, Player]:
    """``players`` with the optimizers that the config chose for some of them (``strategy.optimizers``).

    Raises:
        ConfigError: there is no such player or optimizer, or it does not take these settings.
    """
    unknown = [name for name in chosen if name not in players]
    if unknown:
        raise ConfigError(
            f"strategy.optimizers names a player {unknown[0]!r}, and this strategy has {', '.join(players)}"
        )
    made = {}
    for name, settings in chosen.items():
        settings = dict(settings)
        found, clip_norm = OPTIMIZERS.find(str(settings.pop("name", None))), settings.pop("clip_norm", None)
        own_lr = players[name].optimizer.lr
        lr = settings.setdefault("lr", own_lr)
        try:
            optimizer = found(**settings)
            optimizer = ClipByGlobalNorm(optimizer, clip_norm) if clip_norm else optimizer
            made[name] = replace(players[name], optimizer=optimizer, lr_scale=lr / own_lr)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"strategy.optimizers.{name}: {found.__name__} does not take this: {error}") from error
    return {name: made.get(name, player) for name, player in players.items()}


def networks(name: str, player: Player) -> dict[str, nn.Cell]:
    """The networks of the player called ``name``, by name."""
    return player.nets if isinstance(player.nets, dict) else {name: player.nets}


def frozen(strategy: Strategy, stage: Stage, players: dict[str, Player]) -> dict[str, Frozen]:
    """The frozen networks of ``stage`` by name.

    Raises:
        ConfigError: they are no dict of Frozen, or one has the name of a network that is trained.
    """
    declared = strategy.frozen(stage)
    if not (isinstance(declared, dict) and all(isinstance(each, Frozen) for each in declared.values())):
        raise ConfigError(f"the strategy's frozen() must return a dict of Frozen by name, not {_shown(declared)}")
    trained = {net for name, player in players.items() for net in networks(name, player)}
    for name, each in declared.items():
        if not isinstance(each.net, nn.Cell):
            raise ConfigError(f"the frozen network {name!r} must be a Cell, not {_shown(each.net)}")
        if name in trained:
            raise ConfigError(f"a network that is trained and a frozen one are both named {name!r}: rename one")
    return declared


def phases(strategy: Strategy, stage: Stage, players: Collection[str]) -> list[Phase]:
    """The phases of a step in ``stage``, due or not.

    Raises:
        ConfigError: they are no list of Phase; one updates none of ``players``, or is never due; two have one name.
    """
    declared = strategy.phases(stage)
    if not (isinstance(declared, list) and declared and all(isinstance(phase, Phase) for phase in declared)):
        raise ConfigError(f"the strategy's phases() must return a list of Phase, not {_shown(declared)}")
    names = [phase.name for phase in declared]
    for phase in declared:
        if phase.player not in players:
            raise ConfigError(
                f"phase {phase.name!r} updates player {phase.player!r}, which players() does not have: it has "
                f"{', '.join(players)}"
            )
        if not isinstance(phase.every, int) or phase.every < 1:
            raise ConfigError(f"phase {phase.name!r} is never due: its every is {phase.every!r}, and must be 1 or more")
        if phase.due is not None and not callable(phase.due):
            raise ConfigError(f"phase {phase.name!r} has due={phase.due!r}, which must be a function of the clock")
        if names.count(phase.name) > 1:
            raise ConfigError(f"two phases are named {phase.name!r}: give one of them another name=")
    return declared


def hyper(strategy: Strategy, player: str, clock: Clock) -> dict[str, float]:
    """What of ``player``'s hyper-parameters follows a schedule, at ``clock``.

    Raises:
        ConfigError: it is no dict of finite numbers.
    """
    given = strategy.hyper(player, clock)
    if not isinstance(given, dict) or not all(isinstance(value, int | float) for value in given.values()):
        raise ConfigError(f"the strategy's hyper({player!r}, clock) must return a dict of numbers, not {_shown(given)}")
    for name, value in given.items():
        if not math.isfinite(value):
            raise ConfigError(f"the strategy's hyper({player!r}, clock) gives {name} = {value} at step {clock.step}")
    return given


def draw(strategy: Strategy, rng: np.random.Generator, n: int, clock: Clock, phase: Phase) -> dict[str, np.ndarray]:
    """What ``phase`` needs beside a lane's ``n`` real samples.

    Raises:
        ConfigError: it is no dict, or an array in it has not ``n`` rows.
    """
    drawn = strategy.draw(rng, n, clock)
    if not isinstance(drawn, dict):
        raise ConfigError(
            f"the strategy's draw() must return a dict of arrays, not {_shown(drawn)} (phase {phase.name!r})"
        )
    for name, array in drawn.items():
        shape = np.shape(array)
        if shape and shape[0] != n:
            raise ConfigError(
                f"draw() gave {name!r} with shape {shape} for a lane of {n} samples (phase {phase.name!r}): its first "
                "dimension must be the number of samples"
            )
    return drawn


def _shown(given) -> str:
    """What kind of thing was given instead, in few words."""
    if isinstance(given, dict | list | tuple) and not given:
        return f"an empty {type(given).__name__}"
    if isinstance(given, dict | list | tuple):
        values = given.values() if isinstance(given, dict) else given
        return f"a {type(given).__name__} of {', '.join(sorted({type(value).__name__ for value in values}))}"
    return "None" if given is None else f"a {type(given).__name__}"
