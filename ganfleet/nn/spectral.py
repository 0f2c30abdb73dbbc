"""Spectral normalisation (arXiv:1802.05957): layers whose weight, as a matrix, has the largest singular value 1."""

import numpy as np
from mindspore import ops

from ganfleet.nn.buffer import Buffer
from ganfleet.nn.conv import Conv2d
from ganfleet.nn.dense import Dense
from ganfleet.nn.embedding import Embedding


class SpectralNorm:
    """What makes a layer multiply by W / σ(W), σ being the largest singular value of W as a matrix, or close to it.

    The matrix is (rows, columns): the weight's first dimension, and all others. σ = uᵀWv, where one step of the power
    method makes v from the buffer ``u`` (rows,) and, in training, the next u from v (algorithm 1 of the paper). ``u``
    moves there once per phase of the player that the layer belongs to, and stays in evaluation. Gradients take u and
    v for constants (equation 12).

    Stands before a layer with ``weight`` and ``factor`` among a class's bases.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.product, self.transposed_product = ops.MatMul(), ops.MatMul(transpose_a=True)
        self.u = LeftVector(self.weight.shape[0], self.power_step)

    def factor(self):
        matrix = self.weight.reshape(self.weight.shape[0], -1)
        u, v = self.power_step(self.u.value)
        if not self.training:
            u = self.u.value
        return self.weight / (u.reshape(-1, 1) * self.product(matrix, v.reshape(-1, 1))).sum()

    def power_step(self, u):
        """The next u (rows,), and the v (columns,) between the two."""
        matrix = ops.stop_gradient(self.weight).reshape(self.weight.shape[0], -1)
        v = unit(self.transposed_product(matrix, u.reshape(-1, 1)))
        return unit(self.product(matrix, v)).reshape(-1), v.reshape(-1)


class LeftVector(Buffer):
    """The buffer u. The weights alone say how it moves: nothing is recorded, and all lanes agree."""

    def __init__(self, rows, power_step):
        super().__init__((rows,), Direction())
        self.power_step = power_step

    def moved(self, total):
        return self.power_step(self.value)[0]


class SpectralConv2d(SpectralNorm, Conv2d):
    """``Conv2d``, and its weight (out, in·kernel²) is normalised."""


class SpectralDense(SpectralNorm, Dense):
    """``Dense``, and its weight (out, in) is normalised."""


class SpectralEmbedding(SpectralNorm, Embedding):
    """``Embedding``, and its table (classes, features) is normalised."""


class Direction:
    """The init of u: a vector of length 1 in a random direction."""

    def __call__(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        vector = rng.standard_normal(shape)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


def unit(x):
    """``x`` divided by its length; what is shorter than 1e-12 stays short."""
    return x / ops.maximum(ops.sqrt((x * x).sum()), 1e-12)
