"""Gradient penalties on a critic, for use inside a loss under ms.jit (outside it their gradients are silently wrong).

``critic`` is a Cell or function from (n, c, h, w) to one score per sample, whatever its shape. Weights (γ/2, λ) are the
caller's.
"""

import mindspore as ms
from mindspore import ops


def _squared_slopes(critic, x):
    """‖∇ critic(x)‖² of each sample, (n,)."""

    def total(x):
        return critic(x).sum()

    slopes = ms.grad(total)(x)
    return (slopes * slopes).reshape(x.shape[0], -1).sum(-1)


def r1(critic, x):
    """E‖∇D(x)‖² (arXiv:1801.04406), a scalar."""
    return _squared_slopes(critic, x).mean()


def gradient_penalty(critic, real, fake, u):
    """E(‖∇D(x̂)‖ − 1)² at x̂ = real + u·(fake − real) (arXiv:1704.00028), a scalar. ``u`` is (n, 1, 1, 1) in [0, 1]."""
    squared = _squared_slopes(critic, real + u * (fake - real))
    # Without the 1e-12 a critic that is flat somewhere would have an infinite gradient there.
    norms = ops.sqrt(squared + 1e-12)
    return ((norms - 1) * (norms - 1)).mean()
