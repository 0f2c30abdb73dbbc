"""Optimizers, written once for a player's flat buffer of weights; they hold settings only, the engine keeps the state.

Each has ``lr``, the base learning rate; ``slots()``, the names of its state vectors, which start at zero; and
``update(grad, weights, state, t, lr) -> (weights, state)``, which runs inside ms.jit. There ``grad``, ``weights`` and
each of the tuple ``state`` are float32 (P,); ``t``, 1 on the first update, and ``lr`` are float32 scalars as tensors.
"""

from dataclasses import dataclass

from mindspore import ops


def _moving_average(old, new, decay):
    return new if decay == 0 else decay * old + (1 - decay) * new


@dataclass(frozen=True)
class Adam:
    """Adam (arXiv:1412.6980), with both bias corrections folded into two scalars (its section 2)."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def slots(self):
        return ("m", "v")

    def update(self, grad, weights, state, t, lr):
        beta1, beta2 = self.betas
        m = _moving_average(state[0], grad, beta1)
        v = _moving_average(state[1], grad * grad, beta2)
        root = ops.sqrt(1 - ops.pow(beta2, t))
        step = lr * root / (1 - ops.pow(beta1, t))
        return weights - step * (m / (ops.sqrt(v) + self.eps * root)), (m, v)


@dataclass(frozen=True)
class RMSProp:
    """RMSProp, not centred and without momentum; ``eps`` is added to the root, as PyTorch does."""

    lr: float
    decay: float = 0.99
    eps: float = 1e-8

    def slots(self):
        return ("v",)

    def update(self, grad, weights, state, t, lr):
        v = _moving_average(state[0], grad * grad, self.decay)
        return weights - lr * (grad / (ops.sqrt(v) + self.eps)), (v,)


@dataclass(frozen=True)
class SGD:
    """Gradient descent; with ``momentum``, velocity = momentum·velocity + grad is what the weights follow."""

    lr: float
    momentum: float = 0.0

    def slots(self):
        return ("velocity",) if self.momentum else ()

    def update(self, grad, weights, state, t, lr):
        if not self.momentum:
            return weights - lr * grad, ()
        velocity = self.momentum * state[0] + grad
        return weights - lr * velocity, (velocity,)
