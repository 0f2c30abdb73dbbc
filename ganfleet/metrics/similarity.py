"""How alike two images are, pixel by pixel: for images that should show the same, and for the variety of a set.

All take two arrays uint8 (n, channels, h, w), and give float64 (n,). The range of values is 255.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from ganfleet.errors import ConfigError

SIGMA, RADIUS = 1.5, 5  # of SSIM's window, 11×11 pixels
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales of MS-SSIM, the finest first
SMALLEST = (2 * RADIUS + 1) * 2 ** (len(WEIGHTS) - 1)  # pixels a side that MS-SSIM's five scales need


def l1(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The mean absolute difference, where the range of values is 1."""
    return np.abs(a.astype(np.float64) - b).mean((1, 2, 3)) / 255


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The peak signal-to-noise ratio in decibels; infinite for equal images."""
    error = ((a.astype(np.float64) - b) ** 2).mean((1, 2, 3))
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255**2 / error)


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity (Wang et al. 2004) with a Gaussian window, over the pixels that have all of it.

    Raises:
        ConfigError: the images are smaller than the window.
    """
    if min(a.shape[2:]) <= 2 * RADIUS:
        raise ConfigError(f"SSIM needs images of {2 * RADIUS + 1} pixels a side or more: leave ssim out of the metrics")
    return _ssim(a.astype(np.float64), b.astype(np.float64))[1]


def ms_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multi-scale SSIM (Wang et al. 2003), of five scales; each is half the one before, by means over 2×2 pixels.

    Raises:
        ConfigError: the images are too small for five scales.
    """
    if min(a.shape[2:]) < SMALLEST:
        raise ConfigError(
            f"MS-SSIM has five scales, for which images must have {SMALLEST} pixels a side or more: take the metric "
            "diversity instead of ms_ssim"
        )
    a, b, result = a.astype(np.float64), b.astype(np.float64), 1.0
    for scale, weight in enumerate(WEIGHTS):
        last = scale == len(WEIGHTS) - 1
        factor = _ssim(a, b)[1 if last else 0]
        result = result * np.clip(factor, 0, None) ** weight  # a negative number has no such power
        if not last:
            a, b = _halved(a), _halved(b)
    return result


def _ssim(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The means (n,) of contrast times structure, and of all of SSIM."""
    mean_a, mean_b = _blurred(a), _blurred(b)
    variance_a, variance_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    structure = (2 * covariance + C2) / (variance_a + variance_b + C2)
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return structure.mean((1, 2, 3)), (luminance * structure).mean((1, 2, 3))


def _blurred(x: np.ndarray) -> np.ndarray:
    blurred = gaussian_filter(x, (0, 0, SIGMA, SIGMA), truncate=RADIUS / SIGMA)
    return blurred[:, :, RADIUS:-RADIUS, RADIUS:-RADIUS]


def _halved(x: np.ndarray) -> np.ndarray:
    x = x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4
