"""Gradient penalties on a critic, for use inside a loss under ms.jit (outside it their gradients are silently wrong).

``critic`` is a Cell or function from (n, c, h, w), and the tensors in ``conditions`` if it needs more, to one score per
sample, whatever its shape. Conditions a function captured instead would break the compilation of its second derivative.
Weights (γ/2, λ) are the caller's.
"""

import mindspore as ms
from mindspore import ops


def _squared_slopes(critic, x, conditions):
    """‖∇ critic(x)‖² of each sample, (n,)."""

    def total(x, conditions):
        return critic(x, *conditions).sum()

    slopes = ms.grad(total)(x, conditions)
    return (slopes * slopes).reshape(x.shape[0], -1).sum(-1)


def r1(critic, x, conditions=()):
    """E‖∇D(x)‖² (arXiv:1801.04406), a scalar."""
    return _squared_slopes(critic, x, conditions).mean()


def gradient_penalty(critic, real, fake, u, conditions=()):
    """E(‖∇D(x̂)‖ − 1)² at x̂ = real + u·(fake − real) (arXiv:1704.00028), a scalar. ``u`` is (n, 1, 1, 1) in [0, 1]."""
    squared = _squared_slopes(critic, real + u * (fake - real), conditions)
    # Without the 1e-12 a critic that is flat somewhere would have an infinite gradient there.
    norms = ops.sqrt(squared + 1e-12)
    return ((norms - 1) * (norms - 1)).mean()
