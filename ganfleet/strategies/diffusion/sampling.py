"""How an image is drawn from noise in many steps: a loop on the host around a network's graph."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import Field

from ganfleet import rng
from ganfleet.errors import ConfigError
from ganfleet.strategies.diffusion.schedule import Schedule, Target, both, thresholded
from ganfleet.strategies.options import Options

METHODS = ("ddpm", "ddim")
Method = Literal["ddpm", "ddim"]


class SampleOptions(Options):
    """What may be asked of every image; what is left out is as the run's config has it."""

    steps: int | None = Field(None, ge=1, description="of denoising")
    method: Method | None = Field(None, description="ddpm draws noise at each step, ddim only with eta")
    guidance: float | None = Field(None, ge=0, le=1000, description="1 for none, more for more of the condition")
    eta: float | None = Field(None, ge=0, le=1, description="ddim's noise: 0 for none, 1 for as much as ddpm")
    variance: float | None = Field(None, ge=0, le=1, description="ddpm's: from the smaller, 0, to the larger, 1")
    percentile: float | None = Field(None, ge=0, le=100, description="dynamic thresholding, such as 99.5; 0 to clip")


@dataclass(frozen=True)
class How:
    """How images are drawn; the words are those of ``SampleOptions``. ``percentile`` None clips to [−1, 1]."""

    steps: int = 50
    method: Method = "ddim"
    guidance: float = 1.0
    eta: float = 0.0
    variance: float = 0.0
    percentile: float | None = None

    def changed(self, options: SampleOptions, schedule: Schedule) -> "How":
        """With what ``options`` ask for.

        Raises:
            ConfigError: there are fewer steps than that.
        """
        asked = {name: value for name in vars(self) if (value := getattr(options, name)) is not None}
        changed = How(**(vars(self) | asked))
        changed = replace(changed, percentile=changed.percentile or None)
        try:
            schedule.times(changed.steps)
        except ValueError as error:
            raise ConfigError(f"steps={changed.steps}: {error}, as in training: choose one of these") from error
        return changed

    def as_inputs(self) -> dict[str, np.ndarray]:
        """As numpy scalars, which inputs of an image can be."""
        numbers = vars(self) | {"method": METHODS.index(self.method), "percentile": self.percentile or 0.0}
        return {f"how_{name}": np.float64(value) for name, value in numbers.items()}

    @classmethod
    def of(cls, inputs: dict[str, np.ndarray]) -> "How":
        """What ``as_inputs`` made of it."""
        found = {name: float(inputs[f"how_{name}"]) for name in cls.__dataclass_fields__}
        found |= {"steps": int(found["steps"]), "method": METHODS[int(found["method"])]}
        return cls(**(found | {"percentile": found["percentile"] or None}))


Predict = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray | float | None]]
"""What a network says of x_t (n, …) at a time: its prediction, and the fraction of log β in a variance that it has
learned, (n, …) in [0, 1], or None."""


def denoise(
    predict: Predict,
    x: np.ndarray,
    seeds: np.ndarray,
    how: How,
    schedule: Schedule,
    target: Target,
    bounded=thresholded,
) -> np.ndarray:
    """The images (n, …) at the end of the way from noise ``x`` (n, …).

    Args:
        seeds: int64 (n,), of each image's own random numbers.
        bounded: ``bounded(x0, percentile)`` keeps estimates of images among the values that they can have.
    """
    for i, (t, step) in enumerate(schedule.way(how.steps)):
        predicted, fraction = predict(x, t)
        x0 = bounded(both(target, predicted, x, step.alpha, step.sigma)[0], how.percentile)
        if how.method == "ddpm":
            fraction = how.variance if fraction is None else fraction
            x = step.ancestral(x, x0, noise(seeds, i, x) if step.sigma_s else None, fraction)
        else:
            x = step.ddim(x, x0, noise(seeds, i, x) if how.eta else None, how.eta)
        x = x.astype(np.float32)
    return x


def invert(predict: Predict, x: np.ndarray, steps: int, schedule: Schedule, target: Target) -> np.ndarray:
    """The noise (n, …) from which DDIM with ``eta`` 0 draws the images ``x``, to an error of order 1/``steps``."""
    times = schedule.times(steps)[::-1]
    for s, t in pairwise(times):
        step = schedule.step(t, s)
        # At time 0 there is no noise to predict; that of the next time is close.
        asked = s if step.sigma_s else t
        alpha, sigma = (float(each) for each in schedule.alpha_sigma(asked))
        x0, epsilon = both(target, predict(x, float(asked))[0], x, alpha, sigma)
        x = step.inverted(x, x if step.sigma_s == 0 else x0, epsilon).astype(np.float32)
    return x


def noise(seeds: np.ndarray, step: int, like: np.ndarray) -> np.ndarray:
    """Step ``step``'s noise, float32 in the shape of ``like`` (n, …): an image's own, whatever its neighbours."""
    return np.stack(
        [rng.stream(int(seed), "denoise", step).standard_normal(like.shape[1:], dtype=np.float32) for seed in seeds]
    )
