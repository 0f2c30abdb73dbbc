"""A function of ours gives the same bits however often it has run: MindSpore's CPU kernels try sizes of blocks in their
first calls, and some compute what is left over of a block in another way than the rest.
"""

import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn as ms_nn
from mindspore import ops
from reference import Function, assert_exact_to_second_order, normal

from ganfleet import nn

CALLS = 45  # more than MindSpore tries sizes for: at most six on two cores, five times each


def log(x):
    return nn.log(ops.abs(x))


def cube(x):
    return nn.power(x, 3)


def root(x):
    return nn.power(ops.abs(x), 0.5)


def softmax(x):
    return ops.softmax(x, -1)


def logsumexp(x):
    return nn.logsumexp(x, -1)


FUNCTIONS = [
    *(nn.softplus, nn.elu, nn.mish, nn.gelu, nn.tanh, nn.leaky_relu, nn.mean, log, cube, root, logsumexp),
    *(ops.silu, ops.sigmoid, ops.relu, ops.exp, ops.erf, ops.log1p, ops.rsqrt, ops.square, softmax),
]


class ValueAndGradient(ms_nn.Cell):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def score(self, x):
        y = self.function(x)
        return (y * ops.stop_gradient(x.sum() + 1)).sum(), y

    @ms.jit
    def construct(self, x):
        (_, y), gradient = ms.value_and_grad(self.score, has_aux=True)(x)
        return y, gradient


def elu(x):
    return nn.elu(x).sum()


@ms.jit
def elu_and_slope(x):
    return nn.elu(x), ms.grad(elu)(x)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_values_and_gradients_have_the_same_bits_at_every_call(function):
    for shape in ((1, 4), (3, 7), (13, 77)):
        graph, x = ValueAndGradient(function), ms.Tensor(normal(*shape))
        results = {tuple(each.asnumpy().tobytes() for each in graph(x)) for _ in range(CALLS)}
        assert len(results) == 1, shape


@pytest.mark.parametrize(
    "layer, reference",
    [
        (Function(log), lambda x: jnp.log(jnp.abs(x))),
        (Function(cube), lambda x: x**3),
        (Function(logsumexp), lambda x: jax.scipy.special.logsumexp(x, -1)),
        (nn.Softplus(), jax.nn.softplus),
        (nn.ELU(0.7), lambda x: jax.nn.elu(x, 0.7)),
        (nn.Mish(), lambda x: x * jnp.tanh(jax.nn.softplus(x))),
    ],
    ids=["log", "cube", "logsumexp", "softplus", "elu", "mish"],
)
def test_they_are_exact_to_second_order(layer, reference):
    assert_exact_to_second_order(layer, lambda params, x: reference(x), 3 * normal(5, 7))


def test_elu_keeps_its_values_and_slopes_where_pieces_meet_and_at_the_ends():
    x = ms.Tensor(np.float32([-np.inf, 0, np.inf]))
    values, slopes = elu_and_slope(x)
    assert values.asnumpy().tolist() == [-1, 0, np.inf] and slopes.asnumpy().tolist() == [0, 1, 1]
