"""Labels and times as vectors."""

import math

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from ganfleet.nn.dense import Dense
from ganfleet.nn.init import Normal, parameter
from ganfleet.nn.precision import lowered, raised

TWO_PI = 2 * math.pi


class Embedding(nn.Cell):
    """Labels (n,), integers below ``classes`` → (n, features): rows of a learned table, drawn from N(0, 1).

    One-hot rows times the table, because the gradient of a lookup is summed in whatever order the device likes.
    """

    compute_type = "float32"

    def __init__(self, classes, features, init=None):
        super().__init__()
        self.classes = classes
        self.weight = parameter("weight", (classes, features), init or Normal(1.0))

    def factor(self):
        """The weight by which ``construct`` multiplies."""
        return self.weight

    def construct(self, label):
        rows = lowered(one_hot(label, self.classes), self.compute_type)
        return raised(ops.matmul(rows, lowered(self.factor(), self.compute_type)), self.compute_type)


def one_hot(label, classes):
    """(n,) integers → (n, classes) float32. A comparison of integers would have no second derivative to compile."""
    return ops.one_hot(label, classes, ms.Tensor(1.0), ms.Tensor(0.0))


def sinusoids(t, features, longest=10_000.0):
    """Times (n,) → (n, features): cosines, then sines, of t · f for features / 2 frequencies f from 1 down to nearly
    1 / longest, in equal steps of their logarithm (arXiv:1706.03762, section 3.5). ``features`` is even."""
    angles = t.reshape(-1, 1) * _frequencies(features // 2, longest)
    return ops.concat((ops.cos(angles), ops.sin(angles)), 1)


@ops.constexpr
def _frequencies(count, longest):
    return ms.Tensor(np.exp(-math.log(longest) * np.arange(count) / count).astype(np.float32).reshape(1, -1))


class LearnedSinusoids(nn.Cell):
    """Times (n,) → (n, 1 + features): t itself, then cosines and sines of 2π · t · f for features / 2 frequencies f,
    which start as N(0, 1) and are learned. ``features`` is even."""

    def __init__(self, features):
        super().__init__()
        self.frequencies = parameter("frequencies", (1, features // 2), Normal(1.0))

    def construct(self, t):
        t = t.reshape(-1, 1)
        angles = t * self.frequencies * TWO_PI
        return ops.concat((t, ops.cos(angles), ops.sin(angles)), 1)


class TimeEmbedding(nn.Cell):
    """Times (n,) → (n, out_features): sinusoids, a layer, SiLU, a layer (arXiv:2006.11239).

    The sinusoids are ``features`` fixed ones, or with ``learned`` those of ``LearnedSinusoids``.
    """

    def __init__(self, features, out_features, learned=False):
        super().__init__()
        self.features = features
        self.learned = LearnedSinusoids(features) if learned else None
        self.first = Dense(features + 1 if learned else features, out_features)
        self.last = Dense(out_features, out_features)

    def construct(self, t):
        x = sinusoids(t, self.features) if self.learned is None else self.learned(t)
        return self.last(ops.silu(self.first(x)))
