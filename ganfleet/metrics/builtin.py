"""ganfleet's own metrics: which numbers there are, and what they are called."""

from functools import partial

import numpy as np

from ganfleet.errors import ConfigError, DataError
from ganfleet.metrics import Metric, distances, pixels, similarity, words

ENOUGH = 10_000  # images below which FID is mostly bias
SMALLEST = 2 * distances.SPLITS  # images below which no metric says anything
EPSILON = 1e-4  # of path length, as in its paper
OUTLIERS = 1, 99  # the percentiles beyond which path lengths are left out, as in its authors' code


class _OfSets(Metric):
    """One that compares the features of two sets of images."""

    reads_generated = reads_real = reads_features = True


class _OfGenerated(Metric):
    """One of generated images alone, by their features."""

    reads_generated = reads_features = True


class FID(_OfSets):
    """Fréchet distance of features (arXiv:1706.08500); FID itself with Inception's weights."""

    def measure(self, run):
        real, generated = (distances.moments(run.features(each)) for each in (run.real, run.generated))
        fewest = min(real.count, generated.count)
        if fewest < ENOUGH:
            run.warn(
                f"a Fréchet distance of {fewest:,} images is too high, the more the fewer there are: compare it with "
                f"those of as many images only, take {ENOUGH:,} or more, or take kid, which has no such bias"
            )
        return {run.network.called("fd", plain="fid"): distances.frechet(real, generated)}


class KID(_OfSets):
    """Kernel distance of features (arXiv:1801.01401), without bias, and its standard error."""

    def measure(self, run):
        mean, error = distances.kid(run.features(run.real), run.features(run.generated), run.seed)
        name = run.network.called("kid", plain="kid")
        return {name: mean, f"{name}_stderr": error}


class PR(_OfSets):
    """Improved precision and recall (arXiv:1904.06991)."""

    def measure(self, run):
        values = distances.precision_recall(run.features(run.real), run.features(run.generated))
        return dict(zip(map(run.network.called, ("precision", "recall")), values, strict=True))


class DC(_OfSets):
    """Density and coverage (arXiv:2002.09797)."""

    def measure(self, run):
        values = distances.density_coverage(run.features(run.real), run.features(run.generated))
        return dict(zip(map(run.network.called, ("density", "coverage")), values, strict=True))


class IS(_OfGenerated):
    """Inception Score (arXiv:1606.03498), over the classes of the network of features."""

    def measure(self, run):
        mean, deviation = distances.inception_score(run.features(run.generated), run.network.probabilities)
        name = run.network.called("is", plain="is")
        return {name: mean, f"{name}_std": deviation}


class PPL(_OfGenerated):
    """Perceptual path length (arXiv:1812.04948), over whole paths and at their ends, in each space of the strategy."""

    def check(self, strategy):
        if not strategy.paths():
            raise ConfigError(
                f"{type(strategy).__name__} has no latents to go along: leave ppl out, or give it the method paths()"
            )

    def measure(self, run):
        values = {}
        for space in run.strategy.paths():
            for ends in (False, True):
                found = run.pair_distances(run.paths(space, ends, EPSILON)).all().ravel() / EPSILON**2
                values[run.network.called(f"ppl_{space}_{'end' if ends else 'full'}")] = trimmed_mean(found)
        return values


def trimmed_mean(lengths: np.ndarray) -> float:
    """The mean of those between the percentiles of OUTLIERS."""
    low, high = np.percentile(lengths, OUTLIERS, method="linear")
    return float(lengths[(lengths >= low) & (lengths <= high)].mean())


class Diversity(_OfGenerated):
    """How far apart two generated images look (as LPIPS, arXiv:1801.03924, with equal weights), on average."""

    def measure(self, run):
        return {run.network.called("diversity"): float(run.pair_distances(run.generated).all().mean())}


class RPrecision(_OfSets):
    """R-precision (arXiv:1711.10485): how often an image's caption ranks first of ten, by a judge of its own; and the
    same of real images, and of captions that belong to others."""

    def check(self, strategy):
        if "prompt" not in strategy.SampleOptions.model_fields:
            raise ConfigError(f"{type(strategy).__name__} takes no prompt: leave r_precision out of the metrics")

    def measure(self, run):
        if len(set(run.real.captions)) < words.CANDIDATES:
            raise ConfigError(
                f"r_precision needs real images with {words.CANDIDATES} different captions or more: take those of a run"
                " with captions, or leave it out"
            )
        real, generated = (run.features(each).all() for each in (run.real, run.generated))
        if len(real) < len(run.real):
            raise DataError(f"{len(run.real) - len(real):,} of the real images cannot be read: remove them")
        judge, name = words.Judge(real, run.real.captions, run.seed), run.network.called("r_precision")
        return {
            name: float(judge.first(generated).mean()),
            f"{name}_real": float(judge.first(real).mean()),
            f"{name}_shuffled": float(judge.first(generated, wrong=True).mean()),
        }


class MSSSIM(_OfGenerated):
    """MS-SSIM of two generated images, on average: the lower, the more they differ."""

    reads_features = False

    def measure(self, run):
        return {"ms_ssim": float(run.rows("ms_ssim", _of_neighbours, run.generated).all().mean())}


def _of_neighbours(images: np.ndarray) -> np.ndarray:
    images = pixels.eight_bits(images)
    pairs = len(images) // 2 * 2
    return similarity.ms_ssim(images[:pairs:2], images[1:pairs:2])[:, None]


class _OfPairs(Metric):
    """A mean over pairs of a translation and the image that it should be."""

    reads_generated = reads_real = paired = True

    def measure(self, run):
        name = type(self).__name__.lower()
        compute = partial(_compared, getattr(similarity, name))
        return {name: float(run.rows(name, compute, run.generated, run.real).all().mean())}


def _compared(measure, generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    return measure(pixels.eight_bits(generated), pixels.eight_bits(real))[:, None]


class L1(_OfPairs):
    """Mean absolute difference of pairs, in a range of values of 1."""


class PSNR(_OfPairs):
    """Peak signal-to-noise ratio of pairs, in decibels."""


class SSIM(_OfPairs):
    """Structural similarity of pairs."""
