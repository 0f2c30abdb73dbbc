"""Twenty updates of each optimizer against optax or the published formula, in float64."""

import jax.numpy as jnp
import mindspore as ms
import numpy as np
import optax
import pytest
from mindspore import nn as ms_nn
from reference import FIRST, assert_close, normal

from ganfleet import nn

STEPS, SIZE = 20, 50


class Update(ms_nn.Cell):
    """One update per call, with the weights and the state kept as the engine keeps them: in parameters."""

    def __init__(self, optimizer, weights):
        super().__init__()
        self.optimizer = optimizer
        self.weights = ms.Parameter(ms.Tensor(weights), name="weights")
        zeros = np.zeros(weights.shape, np.float32)
        self.state = ms.ParameterTuple([ms.Parameter(ms.Tensor(zeros), name=slot) for slot in optimizer.slots()])

    @ms.jit
    def construct(self, grad, t, lr):
        weights, state = self.optimizer.update(grad, self.weights, self.state, t, lr)
        for old, new in zip(self.state, state):  # noqa: B905  (ms.jit knows no strict)
            ms.ops.assign(old, new)
        return ms.ops.assign(self.weights, weights)


class PublishedRMSProp:
    """PyTorch's: v = α v + (1 − α) g²; w −= lr g / (√v + ε). optax adds its ε elsewhere."""

    def __init__(self, lr, decay, eps):
        self.lr, self.decay, self.eps = lr, decay, eps

    def init(self, weights):
        return jnp.zeros_like(weights)

    def update(self, grad, v):
        v = self.decay * v + (1 - self.decay) * grad**2
        return -self.lr * grad / (jnp.sqrt(v) + self.eps), v


@pytest.mark.parametrize(
    "optimizer, reference",
    [
        (nn.Adam(1e-2), optax.adam(1e-2)),
        (nn.Adam(2e-4, betas=(0.5, 0.999)), optax.adam(2e-4, b1=0.5)),
        (nn.Adam(1e-3, betas=(0.0, 0.99)), optax.adam(1e-3, b1=0.0, b2=0.99)),
        (nn.Adam(1e-2, eps=0.1), optax.adam(1e-2, eps=0.1)),
        (nn.RMSProp(5e-5), PublishedRMSProp(5e-5, 0.99, 1e-8)),
        (nn.RMSProp(1e-2, decay=0.9, eps=0.1), PublishedRMSProp(1e-2, 0.9, 0.1)),
        (nn.SGD(0.1), optax.sgd(0.1)),
        (nn.SGD(0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9)),
    ],
    ids=lambda value: str(value) if hasattr(value, "slots") else "",
)
def test_twenty_updates_equal_the_reference(optimizer, reference):
    start = normal(SIZE)
    update = Update(optimizer, start)
    expected = jnp.asarray(start, jnp.float64)
    state = reference.init(expected)
    for step in range(STEPS):
        # Magnitudes from 1e-3 to 1e3: a misplaced epsilon or bias correction shows.
        grad = normal(SIZE, seed=step + 1) * np.logspace(-3, 3, SIZE, dtype=np.float32)
        moved = update(ms.Tensor(grad), ms.Tensor(np.float32(step + 1)), ms.Tensor(np.float32(optimizer.lr)))
        change, state = reference.update(jnp.asarray(grad, jnp.float64), state)
        expected = expected + change
    actual = moved.asnumpy()
    assert_close(actual, expected, 1e-6)
    # Weights keep seven digits, so of a change of 1e-3 only four are left: compare the path, too, as far as they go.
    assert np.abs((actual - start) - (expected - start)).max() <= FIRST * np.abs(expected - start).max() + 2e-6


@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_the_first_adam_step_is_sign_times_learning_rate(eps):
    """With both corrections m = g and √v = |g|, so the step is lr·g/(|g| + ε)."""
    optimizer = nn.Adam(1.0, betas=(0.9, 0.999), eps=eps)
    grad = normal(SIZE)
    one = ms.Tensor(np.float32(1))
    step = Update(optimizer, np.zeros(SIZE, np.float32))(ms.Tensor(grad), one, one).asnumpy()
    assert_close(step, -grad.astype(np.float64) / (np.abs(grad) + eps), 1e-6)
