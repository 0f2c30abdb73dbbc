"""The forms of operators that Ascend cards run, tried on a CPU against float64 JAX: to second order for penalties."""

import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
from mindspore import nn as ms_nn
from mindspore import ops
from reference import (
    FIRST,
    assert_close,
    assert_exact_to_second_order,
    batch_norm,
    channels,
    conv,
    normal,
)

from ganfleet.nn import ascend


class Convolutions(ms_nn.Cell):
    """A strided convolution and its adjoint, with a bias and means between."""

    def __init__(self):
        super().__init__()
        self.weight = ms.Parameter(ms.Tensor(normal(3, 2, 3, 2)), name="weight")
        self.bias = ms.Parameter(ms.Tensor(normal(3)), name="bias")

    def construct(self, x):
        n, c, h, w = x.shape
        y = ascend.bias_add(ascend.conv2d(x, self.weight, 2, 1), self.bias)
        y = y * ascend.power(ascend.mean(y * y, 1, True) + 1.0, -0.5)
        return ascend.conv2d_transpose(y, self.weight, (n, c, h, w), 2, 1)


def test_convolution_and_its_adjoint_are_exact_to_second_order():
    def reference(params, x):
        weight, bias = params
        y = conv(x, weight, 2, 1) + channels(bias)
        y = y / jnp.sqrt((y * y).mean(1, keepdims=True) + 1)
        [image] = jax.linear_transpose(lambda image: conv(image, weight, 2, 1), x)(y)
        return image

    assert_exact_to_second_order(Convolutions(), reference, normal(2, 2, 5, 6))


class Norm(ms_nn.Cell):
    def __init__(self):
        super().__init__()
        self.gain = ms.Parameter(ms.Tensor(normal(3)), name="gain")
        self.bias = ms.Parameter(ms.Tensor(normal(3)), name="bias")

    def construct(self, x):
        return ascend.norm(x, self.gain, self.bias, 0.1)[0]


def test_batch_norm_is_exact_to_second_order():
    assert_exact_to_second_order(Norm(), lambda params, x: batch_norm(x, *params, eps=0.1), normal(3, 3, 2, 2))


class FirstOrder(ms_nn.Cell):
    """What only losses and paths without a penalty use: the results, and the gradient of Σ probe · result²."""

    def __init__(self, probe):
        super().__init__()
        self.probe = ms.Tensor(probe)

    def value(self, x):
        y = ascend.softplus(ascend.reflection_pad(x, 2))
        average, variance = ascend.mean(x, (0, 2, 3), False), ascend.mean(x * x, (0, 2, 3), False)
        other = ascend.norm_by(x, average, variance, average, variance, 0.1)
        return ascend.span(ops.concat((y.reshape(-1), other.reshape(-1))), 3, self.probe.size + 3)

    def score(self, x):
        y = self.value(x)
        return (y * y * self.probe).sum()

    @ms.jit
    def construct(self, x):
        return self.value(x), ms.grad(self.score)(x)


def test_forms_for_losses_are_exact_to_first_order():
    x = 3 * normal(2, 2, 4, 5)
    size = 2 * 2 * 8 * 9 + x.size - 10
    probe = normal(size, seed=1)

    def value(x):
        y = jnp.logaddexp(jnp.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), "reflect"), 0)
        average, variance = x.mean((0, 2, 3)), (x * x).mean((0, 2, 3))
        other = (x - channels(average)) * channels(average / jnp.sqrt(variance + 0.1)) + channels(variance)
        return jnp.concatenate((y.reshape(-1), other.reshape(-1)))[3 : size + 3]

    wide = jnp.asarray(x, jnp.float64)
    result, gradient = FirstOrder(probe)(ms.Tensor(x))
    assert_close(result.asnumpy(), value(wide), FIRST, "values")
    assert_close(gradient.asnumpy(), jax.grad(lambda x: (value(x) ** 2 * probe).sum())(wide), FIRST, "gradient")


def test_moments_of_batch_norm_are_those_of_the_batch():
    x = normal(4, 3)
    _, mean, variance = Moments()(ms.Tensor(x))
    assert_close(mean.asnumpy(), x.astype(np.float64).mean(0), FIRST)
    assert_close(variance.asnumpy(), x.astype(np.float64).var(0), FIRST)


class Moments(ms_nn.Cell):
    @ms.jit
    def construct(self, x):
        return ascend.norm(x, ops.ones((3,), ms.float32), ops.zeros((3,), ms.float32), 0.1)
