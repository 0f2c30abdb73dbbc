"""The variational bound that teaches a network its own variance (arXiv:2102.09672), for losses under ms.jit."""

import math

import numpy as np
from mindspore import ops

from ganfleet import nn
from ganfleet.strategies.diffusion.schedule import Schedule, both

BIN = 1 / 255  # half of the distance between two grey values in [-1, 1]
EDGE = 0.999  # pixels beyond are black or white, and their bin goes on for ever
TINY = 1e-12
LOG_2, SQRT_HALF = math.log(2), math.sqrt(0.5)


def coefficients(schedule: Schedule, target, times: np.ndarray) -> dict[str, np.ndarray]:
    """What ``bound`` needs of samples at ``times`` (n,) of a discrete process, float32 (n, 1, 1, 1) each."""
    step_of_time = 1 / schedule.steps
    rows = []
    for t in times:
        step = schedule.step(t, t - step_of_time)
        first = step.sigma_s == 0
        # The first step's β̃ is 0: that of the second stands for it, as in the paper's code.
        after = schedule.step(2 * step_of_time, step_of_time) if first else step
        of_x_t, of_predicted = _to_x0(target, step.alpha, step.sigma)
        rows.append(
            (*step.posterior, of_x_t, of_predicted, math.log(step.beta), math.log(after.posterior_variance), first)
        )
    names = ("mean_of_x", "mean_of_x_t", "x_of_x_t", "x_of_predicted", "log_beta", "log_smaller", "is_first")
    columns = np.array(rows, np.float32).T
    return {f"vlb_{name}": column.reshape(-1, 1, 1, 1) for name, column in zip(names, columns, strict=True)}


def _to_x0(target, alpha: float, sigma: float) -> tuple[float, float]:
    """x is linear in x_t and in what is predicted: the factors of both."""
    return float(both(target, 0.0, 1.0, alpha, sigma)[0]), float(both(target, 1.0, 0.0, alpha, sigma)[0])


def bound(x, x_t, predicted, raw_variance, given):
    """L_t of each sample (n,), in bits per pixel and channel (arXiv:2102.09672, section 2): how far the network's step
    from x_t is from the posterior, and at the first time how unlikely it makes x.

    Args:
        predicted: what the network says of x_t, (n, c, h, w); no gradient passes through it.
        raw_variance: −1 to 1 where the log of the variance is between log β̃ and log β, (n, c, h, w).
        given: ``coefficients``, as tensors.
    """
    predicted = ops.stop_gradient(predicted)
    x0 = given["vlb_x_of_x_t"] * x_t + given["vlb_x_of_predicted"] * predicted
    mean = given["vlb_mean_of_x"] * x0 + given["vlb_mean_of_x_t"] * x_t
    true_mean = given["vlb_mean_of_x"] * x + given["vlb_mean_of_x_t"] * x_t
    fraction, smaller = 0.5 * (raw_variance + 1), given["vlb_log_smaller"]
    log_variance = smaller + fraction * (given["vlb_log_beta"] - smaller)
    gap = smaller - log_variance
    difference = true_mean - mean
    divergence = 0.5 * (ops.exp(gap) - 1 - gap + difference * difference * ops.exp(-log_variance))
    likelihood = _log_likelihood(x, mean, log_variance)
    nats = given["vlb_is_first"] * (-likelihood) + (1 - given["vlb_is_first"]) * divergence
    return nats.mean((1, 2, 3)) / LOG_2


def _log_likelihood(x, mean, log_variance):
    """The log of the probability of the grey value x, one of 256 in [-1, 1], under a normal distribution
    (arXiv:2006.11239, equation 13)."""
    inverse = ops.exp(-0.5 * log_variance)
    above, below = _normal_cdf((x - mean + BIN) * inverse), _normal_cdf((x - mean - BIN) * inverse)
    black, white = ops.cast(x < -EDGE, x.dtype), ops.cast(x > EDGE, x.dtype)
    probability = black * above + white * (1 - below) + (1 - black - white) * (above - below)
    return nn.log(ops.maximum(probability, TINY))


def _normal_cdf(x):
    return 0.5 * (1 + ops.erf(x * SQRT_HALF))
