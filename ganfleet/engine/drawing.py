"""What a strategy draws, checked: a phase's random inputs, what an image is made of, and the images.

Raises a ConfigError that names the method to mend.
"""

import numpy as np

from ganfleet.clock import Clock
from ganfleet.engine.contract import method, shown
from ganfleet.errors import ConfigError, NonFinite
from ganfleet.strategies.base import Inputs, Phase, Strategy


def draw(strategy: Strategy, rng: np.random.Generator, n: int, clock: Clock, phase: Phase) -> dict[str, np.ndarray]:
    """What ``phase`` needs beside a lane's ``n`` real samples.

    Raises:
        ConfigError: it is no dict, or an array in it has not ``n`` rows.
    """
    wanted = f"a lane of {n} samples (phase {phase.name!r})"
    with method(strategy, "draw"):
        drawn = strategy.draw(rng, n, clock)
    with method(strategy, "draw_beside"):
        beside = strategy.draw_beside(rng, n, clock)
    return _arrays(drawn, n, "draw()", wanted) | _arrays(beside, n, "draw_beside()", wanted)


Shapes = dict[str, tuple[int, ...]]


def shapes(inputs: Inputs) -> Shapes:
    """By name."""
    return {name: np.shape(array) for name, array in inputs.items()}


def same_shapes(inputs: Inputs, first: tuple[int, Shapes], step: int, phase: Phase) -> None:
    """A phase has one graph, so what it draws must keep its names and shapes as long as the stage lasts.

    Raises:
        ConfigError: they are others at ``step`` than they were at the step that ``first`` names.
    """
    before, now = first[1], shapes(inputs)
    if now == before:
        return
    name = next(name for name in {**before, **now} if before.get(name) != now.get(name))
    was, got = (f"of shape {each[name]}" if name in each else "not there" for each in (before, now))
    raise ConfigError(
        f"draw() for phase {phase.name!r}: {name!r} is {got} at step {step}, and was {was} at step {first[0]}: it must "
        "stay the same within a stage"
    )


def sample_inputs(
    strategy: Strategy, rng: np.random.Generator, clock: Clock, label: int | None
) -> dict[str, np.ndarray]:
    """What one image is made of.

    Raises:
        ConfigError: it is no dict of arrays of one row.
    """
    with method(strategy, "sample_inputs"):
        drawn = strategy.sample_inputs(rng, clock, label)
    return _arrays(drawn, 1, "sample_inputs()", "one image")


def images(strategy: Strategy, made: object, n: int) -> np.ndarray:
    """``n`` images that ``strategy`` has drawn.

    Raises:
        ConfigError: they are no images of its channels.
        NonFinite: they have pixels that are no numbers.
    """
    channels = strategy.image.channels
    shape = getattr(made, "shape", None)
    if shape is None or len(shape) != 4 or shape[:2] != (n, channels) or made.dtype.kind != "f":
        got = shown(made) if shape is None else f"{made.dtype} of shape {tuple(shape)}"
        raise ConfigError(
            f"the images of {type(strategy).__name__} must be float of shape ({n}, {channels}, height, width) for {n} "
            f"samples of {channels} channels, not {got}: mend its sample() or sampler()"
        )
    if not np.isfinite(made).all():
        raise NonFinite(
            f"the images that {type(strategy).__name__} draws are not finite: its weights have diverged, or its "
            "sample() divides by zero or the like. Take an earlier checkpoint, or start again with a lower learning "
            "rate"
        )
    return made


def _arrays(drawn, n: int, asked: str, wanted: str) -> Inputs:
    """``drawn``, where it is a dict of numbers with ``n`` rows or none."""
    if not isinstance(drawn, dict):
        raise ConfigError(f"the strategy's {asked} must return a dict of arrays, not {shown(drawn)}, for {wanted}")
    for name, array in drawn.items():
        array = np.asarray(array)
        if array.dtype.kind not in "biuf":
            raise ConfigError(f"{asked} gave {name!r} of type {array.dtype} for {wanted}: give numbers")
        if array.shape and array.shape[0] != n:
            raise ConfigError(
                f"{asked} gave {name!r} with shape {array.shape} for {wanted}: its first dimension must be the number "
                "of samples"
            )
    return drawn
