"""Compares a Cell to a float64 JAX function: its output, and its first and second derivatives, in one compiled graph.

With s(x) = Σ probe · net(scale · x)²: the output is net(scale · x), the first derivatives are ∂s, and the second are
∂ Σ (∂s/∂x)², each for the input, ``scale`` and every trainable parameter. The square makes a linear layer's second
derivative depend on its input.
"""

import math

import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
from mindspore import nn, ops

jax.config.update("jax_enable_x64", True)

FIRST, SECOND = 1e-5, 1e-4


def rng(seed=0):
    return np.random.Generator(np.random.Philox(seed))


def normal(*shape, seed=0):
    return rng(seed).standard_normal(shape).astype(np.float32)


def assert_close(actual, expected, tolerance, what=""):
    """The largest error is at most ``tolerance`` times the largest magnitude expected."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, what
    error = np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30)
    assert error <= tolerance, f"{what}: relative error {error:.1e} is above {tolerance:.0e}"


class Function(nn.Cell):
    """A function as a Cell without parameters."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def construct(self, x):
        return self.function(x)


class Derivatives(nn.Cell):
    def __init__(self, net, scale, probe, orders=2):
        super().__init__()
        self.twice = orders == 2
        self.net = net
        self.scale = ms.Parameter(ms.Tensor(scale), name="scale")
        self.probe = ms.Tensor(probe)
        self.weights = ms.ParameterTuple((self.scale, *net.trainable_params()))

    @ms.jit
    def construct(self, x):
        def score(x):
            y = self.net(x * self.scale)
            return (y * y * self.probe).sum()

        def penalty(x):
            slope = ms.grad(score)(x)
            return (slope * slope).sum()

        first = ms.grad(score, 0, self.weights)(x)
        derivatives = (first, ms.grad(penalty, 0, self.weights)(x)) if self.twice else (first,)
        parts = [self.net(x * self.scale).reshape(-1)]
        for to_x, to_weights in derivatives:
            parts.append(to_x.reshape(-1))
            for gradient in to_weights:
                parts.append(gradient.reshape(-1))
        return ops.concat(parts)


def reference_derivatives(reference, params, scale, probe, x, orders=2):
    """The same numbers as ``Derivatives``, in order, as a list of float64 arrays."""

    def score(x, weights):
        scale, *params = weights
        return (reference(params, x * scale) ** 2 * probe).sum()

    def penalty(x, weights):
        return (jax.grad(score)(x, weights) ** 2).sum()

    weights = [scale, *params]
    derivatives = [jax.grad(f, (0, 1))(x, weights) for f in (score, penalty)[:orders]]
    return [reference(params, x * scale), *(each for to_x, to_weights in derivatives for each in (to_x, *to_weights))]


def assert_exact_to_second_order(net, reference, x, orders=2):
    """``reference(params, x)`` is ``net`` in jax.numpy; ``params`` are the net's trainable parameters, in its order.

    With ``orders`` 1, first derivatives only: for what stands in no gradient penalty and takes long to compile.
    """
    draw = rng(1)
    for p in net.trainable_params():
        p.set_data(ms.Tensor((0.5 * draw.standard_normal(p.shape)).astype(np.float32)))
    params = [jnp.asarray(p.asnumpy(), jnp.float64) for p in net.trainable_params()]
    scale = draw.uniform(0.5, 1.5, x.shape).astype(np.float32)
    probe = draw.standard_normal(reference(params, jnp.asarray(x, jnp.float64)).shape).astype(np.float32)

    flat = Derivatives(net, scale, probe, orders)(ms.Tensor(x)).asnumpy()
    expected = jax.jit(reference_derivatives, static_argnums=(0, 5))(
        reference, params, *(jnp.asarray(a, jnp.float64) for a in (scale, probe, x)), orders
    )
    parts = np.split(flat, np.cumsum([math.prod(e.shape) for e in expected])[:-1])
    names = ["x", "scale", *(p.name for p in net.trainable_params())]
    labels = ["output", *(f"{order} derivative to {n}" for order in ("first", "second")[:orders] for n in names)]
    for label, part, value in zip(labels, parts, expected, strict=True):
        assert_close(part.reshape(value.shape), value, SECOND if label.startswith("second") else FIRST, label)


def assert_gradients(flat, weights, expected, tolerance, nothing=0.0):
    """A phase's ``flat`` result begins with the gradients of ``weights``, each as ``expected`` by its name; the rest.

    Some weights have no gradient but for rounding, such as a bias before a norm: of these, none may be larger than
    ``nothing`` of the largest gradient.
    """
    parts = np.split(flat, np.cumsum([p.size for p in weights]))
    largest = max(np.abs(expected[p.name]).max() for p in weights)
    for p, part in zip(weights, parts, strict=False):
        gradient = np.asarray(expected[p.name])
        if nothing and np.abs(gradient).max() < 1e-12 * largest:
            assert np.abs(part).max() <= nothing * largest, p.name
        else:
            assert_close(part.reshape(p.shape), gradient, tolerance, p.name)
    return parts[-1]


def conv(x, weight, stride=1, padding=0):
    return jax.lax.conv_general_dilated(x, weight, (stride, stride), [(padding, padding)] * 2)


def conv_transpose(x, weight, stride=1, padding=0):
    borders = [(side - 1 - padding,) * 2 for side in weight.shape[2:]]
    flipped = jnp.flip(weight, (2, 3)).transpose(1, 0, 2, 3)
    return jax.lax.conv_general_dilated(x, flipped, (1, 1), borders, lhs_dilation=(stride, stride))


def channels(vector):
    return vector.reshape(1, -1, 1, 1)


def batch_norm(x, gain, bias, eps=1e-5):
    axes = (0, *range(2, x.ndim))
    shape = (1, -1) + (1,) * (x.ndim - 2)
    y = (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + eps)
    return y * gain.reshape(shape) + bias.reshape(shape)
