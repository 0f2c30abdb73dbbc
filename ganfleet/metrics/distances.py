"""Distances between two sets of features, in float64 on the host. Every sum has a fixed order.

Features are ``Sets``: they give chunks, so that memory does not grow with the number of images.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.linalg

from ganfleet import rng

CHUNK = 512  # rows
SUBSETS, SUBSET = 100, 1000  # of KID, as in its paper
SPLITS = 10  # of the Inception Score, as in its paper
NEIGHBOURS = 3  # of precision and recall, as in their paper
NEIGHBOURS_OF_DENSITY = 5  # of density and coverage, as in theirs


class Set(Protocol):
    """Rows (n, d)."""

    def __len__(self) -> int: ...

    def chunks(self, size: int) -> Iterator[np.ndarray]: ...

    def take(self, indices: np.ndarray) -> np.ndarray: ...


# ── Fréchet


@dataclass(frozen=True)
class Moments:
    """The mean (d,) and the unbiased covariance (d, d) of ``count`` rows."""

    count: int
    mean: np.ndarray
    covariance: np.ndarray


def moments(rows: Set) -> Moments:
    """The moments of ``rows``, chunk by chunk, by the pairwise formula of Chan et al. (1979)."""
    count, mean, scatter = 0, 0.0, 0.0
    for chunk in rows.chunks(CHUNK):
        n, own = len(chunk), chunk.mean(0)
        centred, shift = chunk - own, own - mean
        total = count + n
        scatter = scatter + centred.T @ centred + np.outer(shift, shift) * (count * n / total)
        count, mean = total, mean + shift * (n / total)
    return Moments(count, mean, scatter / max(1, count - 1))


def frechet(a: Moments, b: Moments) -> float:
    """|μa − μb|² + tr(Σa + Σb − 2 (Σa Σb)^½), as in arXiv:1706.08500, eq. 6.

    The trace of the root is the sum of the roots of the eigenvalues of Σa^½ Σb Σa^½, which is symmetric: a covariance
    of fewer images than features, which has no full rank, is no special case.
    """
    values, vectors = scipy.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    product = root @ b.covariance @ root
    roots = np.sqrt(np.clip(scipy.linalg.eigvalsh((product + product.T) / 2), 0, None))
    shift = a.mean - b.mean
    return float(shift @ shift + np.trace(a.covariance) + np.trace(b.covariance) - 2 * roots.sum())


# ── Kernel


def kid(a: Set, b: Set, seed: int, subsets: int = SUBSETS, size: int = SUBSET) -> tuple[float, float]:
    """The kernel inception distance (arXiv:1801.01401) and its standard error.

    That is the unbiased squared MMD with the kernel (x·y / d + 1)³, as a mean over ``subsets`` random subsets of
    ``size`` rows each, or of half the rows where that is less; ``seed`` chooses them.
    """
    size = min(size, len(a) // 2, len(b) // 2)
    streams = [rng.stream(seed, "kid", i) for i in range(subsets)]
    chosen = [[stream.choice(len(rows), size, replace=False) for rows in (a, b)] for stream in streams]
    # Subsets overlap: where all pairs of rows are fewer than those of the subsets together, each is looked at once.
    if len(a) ** 2 + len(b) ** 2 + len(a) * len(b) < 3 * subsets * size**2:
        values = _of_all_pairs(a, b, chosen)
    else:
        values = [mmd2(a.take(mine), b.take(theirs)) for mine, theirs in chosen]
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(subsets))


def _of_all_pairs(a: Set, b: Set, chosen: list[list[np.ndarray]]) -> np.ndarray:
    """``mmd2`` of each of the subsets ``chosen``."""
    size, members = len(chosen[0][0]), []
    for k, rows in enumerate((a, b)):
        members.append(np.zeros((len(rows), len(chosen))))
        for i, subset in enumerate(chosen):
            members[k][subset[k], i] = 1
    of_a, of_b = members
    xx, yy, xy = _kernel_sums(a, a, of_a, of_a), _kernel_sums(b, b, of_b, of_b), _kernel_sums(a, b, of_a, of_b)
    return (xx + yy) / (size * (size - 1)) - 2 * xy / size**2


def _kernel_sums(rows: Set, others: Set, members: np.ndarray, of_others: np.ndarray) -> np.ndarray:
    """KID's kernel summed over the pairs of each subset (subsets,), of which ``members`` (n, subsets) has 1 where a row
    is in it, else 0; without pairs of a row with itself."""
    total, start = np.zeros(members.shape[1]), 0
    for chunk in rows.chunks(CHUNK):
        own, column = members[start : start + len(chunk)], 0
        for other in others.chunks(CHUNK):
            kernel = (chunk @ other.T / chunk.shape[1] + 1) ** 3
            if others is rows and column == start:
                np.fill_diagonal(kernel, 0)
            total += (own * (kernel @ of_others[column : column + len(other)])).sum(0)
            column += len(other)
        start += len(chunk)
    return total


def mmd2(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased squared MMD of ``x`` and ``y``, float64 (m, d) both, with KID's kernel (arXiv:1801.01401, eq. 4)."""
    m, d = x.shape
    xx, yy, xy = ((p @ q.T / d + 1) ** 3 for p, q in ((x, x), (y, y), (x, y)))
    within = (xx.sum() - np.trace(xx) + yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


# ── Neighbours


def precision_recall(real: Set, generated: Set, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Improved precision and recall (arXiv:1904.06991, eq. 2): how many of one set are in the other's manifold.

    A row is in a set's manifold if it is no farther from one of its rows than that one's ``k``-th neighbour.
    """
    return _inside(generated, real, k), _inside(real, generated, k)


def _inside(rows: Set, others: Set, k: int) -> float:
    bounds = radii(others, k)
    found = [(each <= bounds).any(1) for each in squared_distances(rows, others)]
    return float(np.concatenate(found).mean())


def density_coverage(real: Set, generated: Set, k: int = NEIGHBOURS_OF_DENSITY) -> tuple[float, float]:
    """Density and coverage (arXiv:2002.09797, eqs. 4 and 5)."""
    bounds = radii(real, k)
    inside, covered = 0, np.zeros(len(real), bool)
    for each in squared_distances(generated, real):
        hits = each < bounds
        inside += int(hits.sum())
        covered |= hits.any(0)
    return inside / (k * len(generated)), float(covered.mean())


def radii(rows: Set, k: int) -> np.ndarray:
    """The squared distance (n,) of each row to its ``k``-th neighbour; of all others where there are no more than k."""
    found = [np.sort(each, 1)[:, min(k, len(rows) - 1)] for each in squared_distances(rows, rows)]  # itself is first
    return np.concatenate(found)


def squared_distances(rows: Set, others: Set) -> Iterator[np.ndarray]:
    """The squared distances of some ``rows`` at a time to all ``others``: (some, m)."""
    for chunk in rows.chunks(CHUNK):
        parts = []
        own = (chunk * chunk).sum(1)[:, None]
        for other in others.chunks(CHUNK):
            parts.append(np.clip(own + (other * other).sum(1) - 2 * chunk @ other.T, 0, None))
        yield np.concatenate(parts, 1)


# ── Classes


def inception_score(rows: Set, probabilities: Callable[[np.ndarray], np.ndarray], splits: int = SPLITS):
    """exp E KL(p(y|x) ‖ p(y)) (arXiv:1606.03498): its mean over ``splits`` parts of the rows, and their deviation.

    Args:
        probabilities: of the classes, for features.
    """
    size = -(-len(rows) // splits)
    scores = []
    for part in rows.chunks(size):
        given = probabilities(part)
        overall = given.mean(0)
        tiny = np.finfo(np.float64).tiny
        divergence = (given * (np.log(given + tiny) - np.log(overall + tiny))).sum(1).mean()
        scores.append(np.exp(divergence))
    return float(np.mean(scores)), float(np.std(scores))
