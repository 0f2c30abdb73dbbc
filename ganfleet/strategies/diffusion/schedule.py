"""The arithmetic of diffusion on the host, in NumPy: how much noise there is when, and what one step takes away.

Time runs from 0, an image x, to 1, noise: x_t = α_t·x + σ_t·ε with ε ~ N(0, 1) and α² + σ² = 1, so the signal-to-noise
ratio is α²/σ². A discrete process has the times k/T. Between two times s < t (arXiv:2107.00630, appendix A)

    q(x_t | x_s) = N(α_t/α_s · x_s, β),   β = σ_t² − (α_t/α_s)²·σ_s²,

which is DDPM's β_t where s is one step before t. So the formulas below serve neighbours, strides and continuous time.
Functions take and return floats or arrays; images have any shape behind their first axis.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np

LOG_SNR = 20.0  # the log of the signal-to-noise ratio at both ends of the continuous cosine schedule, with either sign
LINEAR = (0.1, 20.0)  # T·β at the start and at the end, for T → ∞ of DDPM's 1e-4 to 0.02 at T = 1000
OFFSET = 0.008  # keeps the first steps of the discrete cosine schedule from being too small (arXiv:2102.09672)
LARGEST_BETA = 0.999

Kind = Literal["linear", "cosine"]
Target = Literal["epsilon", "x0", "v"]


@dataclass(frozen=True)
class Schedule:
    """How α and σ follow time.

    With ``steps`` T, the times are k/T: ``linear`` has DDPM's β from 1e-4 to 0.02, times 1000/T (arXiv:2006.11239),
    and ``cosine`` that of arXiv:2102.09672, equation 17. With None, time is continuous: ``linear`` is the
    variance-preserving SDE of arXiv:2011.13456, equation 33, and ``cosine`` has the log SNR −2·log tan(a·t + b), from
    20 to −20 (arXiv:2202.00512).
    """

    kind: Kind = "cosine"
    steps: int | None = 1000
    table: np.ndarray | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self):
        if self.steps is not None:
            object.__setattr__(self, "table", np.concatenate([[1.0], np.cumprod(1 - self._betas())]))

    def _betas(self) -> np.ndarray:
        """β of times 1/T to 1, float64 (T,)."""
        if self.kind == "linear":
            return np.minimum(np.linspace(*LINEAR, self.steps) / self.steps, LARGEST_BETA)
        angles = (np.arange(self.steps + 1) / self.steps + OFFSET) / (1 + OFFSET) * math.pi / 2
        kept = np.cos(angles) ** 2
        return np.minimum(1 - kept[1:] / kept[:-1], LARGEST_BETA)

    def alpha_squared(self, t) -> np.ndarray:
        """α² at times ``t`` in [0, 1], float64; of a discrete process, at the nearest k/T."""
        t = np.asarray(t, np.float64)
        if self.table is not None:
            return self.table[np.rint(t * self.steps).astype(np.int64)]
        if self.kind == "linear":
            first, last = LINEAR
            return np.exp(-first * t - (last - first) * t**2 / 2)
        start, end = (math.atan(math.exp(sign * LOG_SNR / 2)) for sign in (-1, 1))
        return np.cos(start + (end - start) * t) ** 2

    def alpha_sigma(self, t) -> tuple[np.ndarray, np.ndarray]:
        """α and σ at times ``t``, float64."""
        kept = self.alpha_squared(t)
        return np.sqrt(kept), np.sqrt(1 - kept)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Times of ``n`` samples to train on, float64 (n,): k/T with k uniform from 1 to T, or uniform in (0, 1)."""
        if self.steps is None:
            return rng.random(n)
        return rng.integers(1, self.steps, size=n, endpoint=True) / self.steps

    def times(self, count: int) -> np.ndarray:
        """The ``count`` + 1 times of drawing in ``count`` steps, from 1 down to 0, float64: as even as may be.

        Raises:
            ValueError: a discrete process has fewer.
        """
        times = np.linspace(1, 0, count + 1)
        if self.steps is None:
            return times
        if not 1 <= count <= self.steps:
            raise ValueError(f"there are 1 to {self.steps} steps")
        return np.rint(times * self.steps) / self.steps

    def step(self, t: float, s: float) -> "Step":
        """The way from time ``t`` back to ``s`` < t. At time 0 there is the image itself, without the trace of noise
        that the continuous cosine schedule has there."""
        end = (1.0, 0.0) if s == 0 else self.alpha_sigma(s)
        return Step(*(float(each) for each in (*self.alpha_sigma(t), *end)))

    def way(self, count: int) -> Iterator[tuple[float, "Step"]]:
        """Each of ``count`` steps from noise to an image, with the time that it begins at."""
        times = self.times(count)
        for t, s in pairwise(times):
            yield float(t), self.step(t, s)


@dataclass(frozen=True)
class Step:
    """The way from a time t, with ``alpha`` and ``sigma``, back to s with less noise."""

    alpha: float
    sigma: float
    alpha_s: float
    sigma_s: float

    @property
    def beta(self) -> float:
        """The variance of x_t given x_s."""
        return max(self.sigma**2 - (self.alpha / self.alpha_s) ** 2 * self.sigma_s**2, 0.0)

    @property
    def posterior_variance(self) -> float:
        """β̃, the variance of x_s given x_t and x (arXiv:2006.11239, equation 7); 0 where s is 0."""
        return self.sigma_s**2 / self.sigma**2 * self.beta

    @property
    def posterior(self) -> tuple[float, float]:
        """The mean of x_s given x_t and x is the first number times x plus the second times x_t (equation 7)."""
        of_x = self.alpha_s * self.beta / self.sigma**2
        return of_x, self.alpha / self.alpha_s * self.sigma_s**2 / self.sigma**2

    def log_variance(self, fraction):
        """fraction · log β + (1 − fraction) · log β̃ (arXiv:2102.09672, equation 15), where s is not 0.

        ``fraction`` is a number or an array in [0, 1]: 1 for DDPM's larger variance, 0 for the smaller one.
        """
        return fraction * math.log(self.beta) + (1 - fraction) * math.log(self.posterior_variance)

    def ancestral(self, x_t, x0, noise, fraction=0.0):
        """DDPM's step: x_s drawn around the posterior mean, with the variance of ``log_variance``; no noise where s is
        0 (arXiv:2006.11239, algorithm 2)."""
        of_x, of_x_t = self.posterior
        mean = of_x * x0 + of_x_t * x_t
        return mean if self.sigma_s == 0 else mean + np.exp(0.5 * self.log_variance(fraction)) * noise

    def ddim(self, x_t, x0, noise=None, eta: float = 0.0):
        """DDIM's step (arXiv:2010.02502, equation 12): deterministic with ``eta`` 0, and as noisy as DDPM with 1."""
        epsilon = (x_t - self.alpha * x0) / self.sigma
        spread = eta * math.sqrt(self.posterior_variance)
        x_s = self.alpha_s * x0 + math.sqrt(max(self.sigma_s**2 - spread**2, 0.0)) * epsilon
        return x_s + spread * noise if spread else x_s

    def inverted(self, x_s, x0, epsilon):
        """DDIM's step the other way, from s to t, with what the network says of x_s (arXiv:2010.02502, section 4.3)."""
        return self.alpha * x0 + self.sigma * epsilon


# ── What a network predicts


def target_weights(target: Target, alpha, sigma):
    """What the network is to predict is the first of these times x plus the second times ε.

    v = α·ε − σ·x (arXiv:2202.00512, appendix D).
    """
    zero = np.zeros_like(alpha)
    return {"x0": (zero + 1, zero), "epsilon": (zero, zero + 1), "v": (-sigma, alpha)}[target]


def both(target: Target, predicted, x_t, alpha, sigma):
    """x and ε out of what a network predicted of x_t."""
    if target == "v":
        return alpha * x_t - sigma * predicted, sigma * x_t + alpha * predicted
    if target == "x0":
        return predicted, (x_t - alpha * predicted) / sigma
    return (x_t - sigma * predicted) / alpha, predicted


def guided(conditional, unconditional, weight: float):
    """w · conditional + (1 − w) · unconditional (arXiv:2207.12598, in the form of arXiv:2205.11487, equation 2): 1 is
    no guidance, 0 ignores the condition."""
    return weight * conditional + (1 - weight) * unconditional


def thresholded(x0: np.ndarray, percentile: float | None) -> np.ndarray:
    """Images (n, …) brought into [−1, 1]: clipped there, or with ``percentile`` p by dynamic thresholding, where each
    is clipped to ±s and divided by s, the larger of 1 and the p-th percentile of its own |pixels|
    (arXiv:2205.11487, section 2.3)."""
    if percentile is None:
        return np.clip(x0, -1, 1)
    reach = np.percentile(np.abs(x0.reshape(len(x0), -1)), percentile, axis=1)
    reach = np.maximum(reach, 1).reshape(-1, *[1] * (x0.ndim - 1)).astype(x0.dtype)
    return np.clip(x0, -reach, reach) / reach


def per_sample(values, ndim: int, dtype=np.float32) -> np.ndarray:
    """``values`` (n,) in a shape that multiplies arrays of ``ndim`` axes."""
    values = np.asarray(values)
    return values.reshape(-1, *[1] * (ndim - 1)).astype(dtype)
