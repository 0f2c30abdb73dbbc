"""Figures: pictures that a strategy knows how to make beside plain samples, and one that suits many strategies.

A figure decides which images are drawn and how they are laid out. It knows nothing of networks, fleets or files.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from pydantic import Field, field_validator, model_validator

from ganfleet.errors import ConfigError
from ganfleet.strategies.options import Numbers, Options

Inputs = dict[str, np.ndarray]
InputsOf = Callable[[int], Inputs]
Draw = Callable[[Sequence[Inputs]], np.ndarray]


@dataclass(frozen=True)
class Picture:
    """Images (n, channels, h, w) in [-1, 1], row by row, with a label for each row and column or for none."""

    images: np.ndarray
    columns: int
    row_labels: list[str] = field(default_factory=list)
    column_labels: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Animation:
    """Frames (n, channels, h, w) in [-1, 1] that are shown one after the other, for ever."""

    frames: np.ndarray


class Figure:
    """Base of a figure. ``Options`` is its own schema; ``help`` says in one line what it shows.

    ``animated`` figures draw an Animation, others a Picture. ``varies`` names the strategy's sample options that the
    figure chooses itself, so that they cannot be given.
    """

    Options: ClassVar[type[Options]] = Options
    help: ClassVar[str] = ""
    animated: ClassVar[bool] = False
    varies: ClassVar[tuple[str, ...]] = ()

    def draw(self, inputs_of: InputsOf, draw: Draw, options: Options) -> Picture | Animation:
        """Make the figure.

        Args:
            inputs_of: what the image of a seed is made of, such as ``Strategy.sample_inputs`` gives, with the class and
                the sample options that were asked for.
            draw: images (n, channels, h, w) in [-1, 1] of n such inputs; the whole fleet shares the work.
            options: an instance of this figure's ``Options``.

        Raises:
            ConfigError: the options do not fit this model.
        """
        raise NotImplementedError


class Interpolate(Figure):
    """An animation over the latents of some seeds, for any strategy whose ``latents`` are normal.

    ``latents`` are the names of the inputs that move; all others stay those of the first seed.
    """

    help = "an animation over the latents of some seeds and back, along great circles"
    animated = True

    class Options(Options):
        seeds: Numbers = Field(description="where it stops, two seeds or more, such as 3,7,12")
        frames: int = Field(60, ge=1, description="of the whole animation, 20 a second")

        @field_validator("seeds")
        @classmethod
        def _several(cls, seeds):
            if len(seeds) < 2:
                raise ValueError("two seeds or more are needed, such as 3,7,12")
            return seeds

        @model_validator(mode="after")
        def _a_frame_each(self):
            if self.frames < len(self.seeds):
                raise ValueError(f"frames={self.frames} are fewer than the {len(self.seeds)} seeds")
            return self

    def __init__(self, latents: Sequence[str] = ("z",)):
        self.latents = tuple(latents)

    def draw(self, inputs_of, draw, options):
        stops = [inputs_of(seed) for seed in options.seeds]
        return Animation(draw(interpolated(stops, options.frames, self.latents)))


def interpolated(stops: list[Inputs], frames: int, latents: Sequence[str] = ("z",)) -> list[Inputs]:
    """``frames`` steps over the ``latents`` of ``stops`` and back to the first, evenly, along great circles.

    All other inputs are those of the first stop.
    """
    ring, made = [*stops, stops[0]], []
    for t in np.arange(frames) * len(stops) / frames:
        a, b = ring[int(t)], ring[int(t) + 1]
        made.append(stops[0] | {name: slerp(a[name], b[name], t % 1) for name in latents})
    return made


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """From ``a`` at t = 0 to ``b`` at 1, turning and changing its length evenly (Shoemake 1985)."""
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    cosine = np.sum(a * b) / (lengths[0] * lengths[1])
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < 1e-6:
        return ((1 - t) * a + t * b).astype(np.float32)
    direction = np.sin((1 - t) * angle) * a / lengths[0] + np.sin(t * angle) * b / lengths[1]
    return (direction * ((1 - t) * lengths[0] + t * lengths[1]) / np.sin(angle)).astype(np.float32)


def needed(inputs: Inputs, name: str, option: str) -> np.ndarray:
    """Input ``name``, which ``option`` changes.

    Raises:
        ConfigError: this model's images are made without it.
    """
    if name not in inputs:
        raise ConfigError(f"{option} is not for this model, whose images are made of {', '.join(inputs)}")
    return inputs[name]
