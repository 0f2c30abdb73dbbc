"""What a strategy owes the engine, checked where it is asked for: one error names the culprit. Losses: phase.py."""

import inspect
from collections.abc import Collection
from numbers import Real

from mindspore import nn

from ganfleet.clock import Clock
from ganfleet.engine import optimizers
from ganfleet.engine.running import running
from ganfleet.errors import ConfigError
from ganfleet.nn.optim import refuse_hyper
from ganfleet.size import Size, factor
from ganfleet.strategies.base import Ema, Frozen, ImageSpec, Phase, Player, Stage, Strategy


def make(found: type[Strategy], options, image: ImageSpec, batch_size: int) -> Strategy:
    """A strategy of the class ``found``.

    Raises:
        ConfigError: it does not take what every strategy takes, or refuses it.
        StrategyFailed: its ``__init__`` raised something else.
    """
    try:
        inspect.signature(found).bind(options, image, batch_size)
    except TypeError as error:
        raise ConfigError(f"{found.__name__}.__init__ must take (options, image, batch_size): {error}") from error
    with running(f"{found.__name__}.__init__()", found):
        strategy = found(options, image, batch_size)
    lacking = [name for name in ("options", "image", "batch_size") if not hasattr(strategy, name)]
    if lacking:
        raise ConfigError(
            f"{found.__name__} has no {lacking[0]}: its __init__ must call super().__init__(options, image, batch_size)"
        )
    return strategy


def schedule(strategy: Strategy) -> list[Stage]:
    """Every stage in order.

    Raises:
        ConfigError: they are no list of Stage that begins at 0 images and goes up; one has no resolution or batch size.
    """
    with method(strategy, "schedule"):
        stages = strategy.schedule()
    name = f"{type(strategy).__name__}.schedule()"
    if not (isinstance(stages, list) and stages and all(isinstance(stage, Stage) for stage in stages)):
        raise ConfigError(f"{name} must return a list of Stage, not {shown(stages)}")
    for stage in stages:
        sides = stage.resolution if isinstance(stage.resolution, Size) else (stage.resolution,)
        for what, numbers in (("resolution", sides), ("batch_size", (stage.batch_size,))):
            if not all(_is_whole(number, 1) for number in numbers):
                raise ConfigError(
                    f"{name}: stage {stage.name!r} has {what} {getattr(stage, what)!r}, and it must be 1 or more"
                )
        if not factor(strategy.options.resolution, stage.resolution):
            raise ConfigError(
                f"{name}: stage {stage.name!r} has resolution {stage.resolution}, which does not divide "
                f"strategy.resolution={strategy.options.resolution}"
            )
    starts = [stage.starts_at for stage in stages]
    if starts[0] != 0 or not all(_is_whole(start, 0) for start in starts) or starts != sorted(set(starts)):
        raise ConfigError(f"{name}: stages must start at 0 images, then each after the one before, not at {starts}")
    names = [stage.name for stage in stages]
    twice = next((each for each in names if names.count(each) > 1), None)
    if twice is not None:
        raise ConfigError(f"{name}: two stages are named {twice!r}: give each a name of its own")
    return stages


def samples(strategy: Strategy, names: Collection[str], are_pairs: bool = True) -> None:
    """Check that ``strategy`` can train on samples whose images are called ``names``, pairs or not.

    Raises:
        ConfigError: it reads others, or pairs.
    """
    if not set(strategy.reads) <= set(names):
        raise ConfigError(
            f"this strategy trains on samples of {' and '.join(strategy.reads)}, and this source's have "
            f"{' and '.join(names)}: choose a data.source that has these, such as paired or unpaired for "
            "image_a and image_b"
        )
    if strategy.reads_pairs and not are_pairs:
        raise ConfigError(
            "this strategy learns from pairs, images that show one thing in two ways, and those of this data.source "
            "are none: choose data.source: paired"
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
        ConfigError: they are no such dict; a player's networks are no Cells, have no weights, or share a name or a
            weight with another; its optimizer or its EMA is none.
    """
    with method(strategy, "players"):
        declared = strategy.players(stage)
    if not (isinstance(declared, dict) and declared and all(isinstance(p, Player) for p in declared.values())):
        raise ConfigError(f"the strategy's players() must return a dict of Player by name, not {shown(declared)}")
    with method(strategy, "completed"):
        declared = strategy.completed(declared, stage)
    owners: dict[str, str] = {}
    weights: dict[int, str] = {}
    for name, player in declared.items():
        _refuse_name("player", name)
        if not networks(name, player):
            raise ConfigError(f"player {name!r} has no networks: give it one")
        if not (hasattr(player.optimizer, "slots") and hasattr(player.optimizer, "update")):
            raise ConfigError(
                f"the optimizer of player {name!r} is {shown(player.optimizer)}, which has no slots() and update(): "
                "use one of ganfleet.nn, such as nn.Adam(2e-4)"
            )
        if not optimizers.is_number(getattr(player.optimizer, "lr", None)):
            raise ConfigError(f"the optimizer of player {name!r} has no learning rate: give it an attribute lr")
        if not (player.ema is None or isinstance(player.ema, Ema)):
            raise ConfigError(f"the ema of player {name!r} must be an Ema, not {shown(player.ema)}")
        if not (player.after_update is None or callable(player.after_update)):
            raise ConfigError(
                f"the after_update of player {name!r} must be a function, not {shown(player.after_update)}"
            )
        for net_name, net in networks(name, player).items():
            if not isinstance(net, nn.Cell):
                raise ConfigError(f"network {net_name!r} of player {name!r} must be a Cell, not {shown(net)}")
            _refuse_name("network", net_name)
            if net_name in owners:
                raise ConfigError(
                    f"players {owners[net_name]!r} and {name!r} both have a network named {net_name!r}: rename one"
                )
            owners[net_name] = name
            for weight in net.get_parameters():
                other = weights.setdefault(id(weight), net_name)
                if other != net_name:
                    raise ConfigError(
                        f"networks {other!r} and {net_name!r} share the weight {weight.name}: make one network of them"
                    )
        if not any(net.trainable_params() for net in networks(name, player).values()):
            raise ConfigError(f"player {name!r} has no weights to train: return its networks from frozen()")
    return optimizers.chosen(declared, strategy.options.optimizers)


def _refuse_name(kind: str, name: object) -> None:
    """
    Raises:
        ConfigError: ``name`` cannot be an attribute of ``nets`` and a part of a checkpoint's names.
    """
    if not (isinstance(name, str) and name.isidentifier()):
        raise ConfigError(f"a {kind} is named {name!r}: give it a name of letters, digits and _, such as 'G'")


def method(strategy: Strategy, name: str):
    return running(f"{type(strategy).__name__}.{name}()", type(strategy))


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def networks(name: str, player: Player) -> dict[str, nn.Cell]:
    """The networks of the player called ``name``, by name."""
    return player.nets if isinstance(player.nets, dict) else {name: player.nets}


def is_named(net: nn.Cell, name: str) -> bool:
    """Whether the parameters of ``net`` have their full names already."""
    return all(parameter.name.startswith(f"{name}.") for parameter in net.get_parameters())


def frozen(strategy: Strategy, stage: Stage, players: dict[str, Player]) -> dict[str, Frozen]:
    """The frozen networks of ``stage`` by name.

    Raises:
        ConfigError: they are no dict of Frozen, or one has the name of a network that is trained.
    """
    with method(strategy, "frozen"):
        declared = strategy.frozen(stage)
    if not (isinstance(declared, dict) and all(isinstance(each, Frozen) for each in declared.values())):
        raise ConfigError(f"the strategy's frozen() must return a dict of Frozen by name, not {shown(declared)}")
    trained = {net for name, player in players.items() for net in networks(name, player)}
    for name, each in declared.items():
        if not isinstance(each.net, nn.Cell):
            raise ConfigError(f"the frozen network {name!r} must be a Cell, not {shown(each.net)}")
        if name in trained:
            raise ConfigError(f"a network that is trained and a frozen one are both named {name!r}: rename one")
    return declared


def phases(strategy: Strategy, stage: Stage, players: Collection[str]) -> list[Phase]:
    """The phases of a step in ``stage``, due or not.

    Raises:
        ConfigError: they are no list of Phase; one updates none of ``players``, or is never due; two have one name.
    """
    with method(strategy, "phases"):
        declared = strategy.phases(stage)
    if not (isinstance(declared, list) and declared and all(isinstance(phase, Phase) for phase in declared)):
        raise ConfigError(f"the strategy's phases() must return a list of Phase, not {shown(declared)}")
    names = [phase.name for phase in declared]
    for phase in declared:
        if not isinstance(phase.name, str) or "/" in phase.name:
            raise ConfigError(f"a phase is named {phase.name!r}: give it a name without /")
        if phase.player not in players:
            raise ConfigError(
                f"phase {phase.name!r} updates player {phase.player!r}, which players() does not have: it has "
                f"{', '.join(players)}"
            )
        if not callable(phase.loss):
            raise ConfigError(f"the loss of phase {phase.name!r} must be a function, not {shown(phase.loss)}")
        if not _is_whole(phase.every, 1):
            raise ConfigError(f"phase {phase.name!r} is never due: its every is {phase.every!r}, and must be 1 or more")
        if phase.due is not None and not callable(phase.due):
            raise ConfigError(f"phase {phase.name!r} has due={phase.due!r}, which must be a function of the clock")
        if phase.prepare is not None and not callable(phase.prepare):
            raise ConfigError(f"phase {phase.name!r} has prepare={phase.prepare!r}, which must be a function")
        if names.count(phase.name) > 1:
            raise ConfigError(f"two phases are named {phase.name!r}: give one of them another name=")
    return declared


def hyper(strategy: Strategy, player: str, optimizer: object, ema: Ema | None, clock: Clock) -> dict[str, float]:
    """What of the hyper-parameters of ``player``, who has this ``optimizer`` and ``ema``, follows a schedule.

    Raises:
        ConfigError: it is no dict of numbers that these can have; nobody reads one of them.
    """
    with method(strategy, "hyper"):
        given = strategy.hyper(player, clock)
    if not isinstance(given, dict) or not all(isinstance(value, Real) for value in given.values()):
        raise ConfigError(f"the strategy's hyper({player!r}, clock) must return a dict of numbers, not {shown(given)}")
    averages = () if ema is None else ("ema_decay",) if ema.decay is not None else ("ema_half_life_kimg",)
    known = getattr(optimizer, "scheduled", None)  # a stranger's optimizer need not tell
    for name, value in given.items():
        try:
            if known is not None and name not in (*known, *averages):
                raise ValueError(f"nobody reads {name}: there are {', '.join((*known, *averages))}")
            refuse_hyper(**{name: value})
        except ValueError as error:
            raise ConfigError(f"the strategy's hyper({player!r}, clock) at step {clock.step}: {error}") from error
    return given


def shown(given) -> str:
    """What kind of thing was given instead, in few words."""
    if isinstance(given, dict | list | tuple) and not given:
        return f"an empty {type(given).__name__}"
    if isinstance(given, dict | list | tuple):
        values = given.values() if isinstance(given, dict) else given
        return f"a {type(given).__name__} of {', '.join(sorted({type(value).__name__ for value in values}))}"
    return "None" if given is None else f"a {type(given).__name__}"
