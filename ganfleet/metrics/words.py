"""Whether an image shows what its caption says, as a judge sees it that neither trains nor draws anything.

The judge is a linear map from features of images to the words of captions, fitted to real images in closed form. So it
shares nothing with a model but the data, and of these it never sees the image that has the caption it judges.
"""

import re
from collections.abc import Sequence

import numpy as np
import scipy.linalg
import scipy.sparse

from ganfleet import rng

CANDIDATES = 10  # captions that one is ranked among, itself among them
FOLDS = 5  # of real images, each judged by a map that is fitted to the others
RIDGE = 0.1  # of the mean variance of a feature


def vectors(captions: Sequence[str]) -> scipy.sparse.csr_array:
    """Captions as rows of length 1, (n, words): each word that a caption has counts the more, the rarer it is."""
    found = [sorted(set(re.findall(r"\w+", caption.lower()))) for caption in captions]
    numbers = {word: i for i, word in enumerate(sorted({word for words in found for word in words}))}
    columns = np.array([numbers[word] for words in found for word in words], np.int64)
    starts = np.concatenate([[0], np.cumsum([len(words) for words in found])])
    weights = np.log(len(captions) / np.bincount(columns, minlength=len(numbers))) + 1
    rows = scipy.sparse.csr_array((weights[columns], columns, starts), shape=(len(captions), len(numbers)))
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(1))).ravel()
    return scipy.sparse.diags_array(1 / np.maximum(lengths, 1e-12)) @ rows


class Judge:
    """The linear maps that are fitted to ``features`` (n, d) of real images and their ``captions``."""

    def __init__(self, features: np.ndarray, captions: Sequence[str], seed: int):
        self._captions, self._seed = list(captions), seed
        self._mean, self._texts = features.mean(0), vectors(captions)
        x = features - self._mean
        order = rng.stream(seed, "judge").permutation(len(x))
        self._fold, self._another = order % FOLDS, np.empty(len(x), np.int64)
        self._another[order] = np.roll(order, 1)
        self._maps = []
        for fold in range(FOLDS):
            own = x[self._fold != fold]
            scatter = own.T @ own
            scatter[np.diag_indices_from(scatter)] += RIDGE * np.trace(scatter) / len(scatter)
            wanted = (self._texts[self._fold != fold].T @ own).T
            self._maps.append(scipy.linalg.solve(scatter, wanted, assume_a="pos"))

    def first(self, features: np.ndarray, wrong: bool = False) -> np.ndarray:
        """Whether the caption of each image, by turns those of the real ones, ranks first of CANDIDATES, bool (n,).

        Args:
            features: (n, d) of images, real or generated.
            wrong: ask for the caption of another image instead: what chance gives.
        """
        count = len(self._captions)
        found = np.empty(len(features), bool)
        for i, row in enumerate(features - self._mean):
            real = i % count
            asked = self._another[real] if wrong else real
            said = row @ self._maps[self._fold[real]]
            scores = self._texts[[asked, *self._others(i, asked)]] @ said
            found[i] = scores[0] > scores[1:].max()
        return found

    def _others(self, i: int, asked: int) -> np.ndarray:
        """Rows of CANDIDATES - 1 captions that are not that of row ``asked``."""
        stream, own = rng.stream(self._seed, "candidates", i), self._captions[asked]
        drawn = stream.integers(len(self._captions), size=20 * CANDIDATES)
        others = [row for row in dict.fromkeys(drawn.tolist()) if self._captions[row] != own]
        return np.array(others[: CANDIDATES - 1])
