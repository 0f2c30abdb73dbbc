"""The optimizers that a config chooses for players, in place of the strategy's."""

import math
from dataclasses import replace
from numbers import Real

from ganfleet.errors import ConfigError
from ganfleet.nn import ClipByGlobalNorm
from ganfleet.plugins import OPTIMIZERS
from ganfleet.strategies.base import Player


def chosen(players: dict[str, Player], own: dict[str, dict]) -> dict[str, Player]:
    """``players`` with the optimizers of their ``own`` that the config chose for some (``strategy.optimizers``).

    Raises:
        ConfigError: there is no such player or optimizer, or it does not take these settings.
    """
    unknown = [name for name in own if name not in players]
    if unknown:
        raise ConfigError(
            f"strategy.optimizers names a player {unknown[0]!r}, and this strategy has {', '.join(players)}"
        )
    made = {}
    for name, settings in own.items():
        settings = dict(settings)
        if "name" not in settings:
            raise ConfigError(f"strategy.optimizers.{name} has no name: write {{name: adam, …}}")
        found, clip_norm = OPTIMIZERS.find(str(settings.pop("name"))), settings.pop("clip_norm", None)
        lr_before = players[name].optimizer.lr
        lr = settings.setdefault("lr", lr_before)
        if not is_number(lr) or lr < 0:
            raise ConfigError(f"strategy.optimizers.{name}.lr is {lr!r}, and must be a number, 0 or more")
        if clip_norm is not None and not (is_number(clip_norm) and clip_norm > 0):
            raise ConfigError(f"strategy.optimizers.{name}.clip_norm is {clip_norm!r}, and must be a number above 0")
        try:
            optimizer = found(**settings)
            optimizer = optimizer if clip_norm is None else ClipByGlobalNorm(optimizer, float(clip_norm))
            made[name] = replace(players[name], optimizer=optimizer, lr_scale=lr / lr_before if lr_before else 1.0)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"strategy.optimizers.{name}: {found.__name__} does not take this: {error}") from error
    return {name: made.get(name, player) for name, player in players.items()}


def is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
