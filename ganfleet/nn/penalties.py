"""Gradient penalties on a critic, for use inside a loss under ms.jit (outside it their gradients are silently wrong).

``critic`` is a Cell or function from (n, c, h, w), and the tensors in ``conditions`` if it needs more, to one score per
sample, whatever its shape. Not every function that captures such tensors instead compiles to second order. Weights
(γ/2, λ) are the caller's.

``augment``, a Cell of ``ganfleet.nn.augment``, changes what the critic sees as ``settings`` say. Slopes are those to
the images before it.
"""

import mindspore as ms
from mindspore import ops

from ganfleet.nn import forms


def _scores_and_squared_slopes(critic, x, conditions, augment=None, settings=()):
    """critic(x), and ‖∇ critic(x)‖² of each sample, (n,)."""

    def scores(x, conditions, settings):
        if augment is not None:
            x = augment(x, settings)
        return critic(x, *conditions)

    # The gradient of several outputs is that of their sum.
    y, slopes = ms.value_and_grad(scores)(x, conditions, settings)
    return y, (slopes * slopes).reshape(x.shape[0], -1).sum(-1)


def scored_r1(critic, x, conditions=(), augment=None, settings=()):
    """critic(x), and E‖∇D(x)‖² (arXiv:1801.04406), a scalar.

    A loss that needs both takes them from here: they then share a backward pass, a fifth of the work of D's phase.
    """
    scores, squared = _scores_and_squared_slopes(critic, x, conditions, augment, settings)
    return scores, forms.mean(squared)


def r1(critic, x, conditions=(), augment=None, settings=()):
    """E‖∇D(x)‖² (arXiv:1801.04406), a scalar."""
    return scored_r1(critic, x, conditions, augment, settings)[1]


def gradient_penalty(critic, real, fake, u, conditions=()):
    """E(‖∇D(x̂)‖ − 1)² at x̂ = real + u·(fake − real) (arXiv:1704.00028), a scalar. ``u`` is (n, 1, 1, 1) in [0, 1]."""
    _, squared = _scores_and_squared_slopes(critic, real + u * (fake - real), conditions)
    # Without the 1e-12 a critic that is flat somewhere would have an infinite gradient there.
    norms = ops.sqrt(squared + 1e-12)
    return forms.mean((norms - 1) * (norms - 1))
