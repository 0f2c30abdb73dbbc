"""The forms of operators that Ascend cards run, on a CPU against float64 JAX.

MindSpore has no CPU kernels of the newer convolution and batch norm. JAX stands in for these operators here: what is
tested is what ganfleet asks of them, and the derivatives that it adds. That they compile to second order for Ascend is
tested in tests/ascend.
"""

import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
from reference import FIRST, SECOND, assert_close, batch_norm, channels, normal

from ganfleet.nn import ascend, forms

STRIDE, PADDING = 2, 1


def wide(*tensors):
    return [jnp.asarray(each.asnumpy(), jnp.float64) for each in tensors]


def narrow(array):
    return ms.Tensor(np.asarray(array, np.float32))


def convolved(x, weight, stride, padding, transposed, output_padding):
    """The convolution of x by weight, or for ``transposed`` the adjoint of that by weight."""

    def conv(x):
        return jax.lax.conv_general_dilated(x, weight, stride, [(side, side) for side in padding])

    if not transposed:
        return conv(x)
    sides = [
        (x.shape[i + 2] - 1) * stride[i] - 2 * padding[i] + weight.shape[i + 2] + output_padding[i] for i in (0, 1)
    ]
    [image] = jax.linear_transpose(conv, jax.ShapeDtypeStruct((x.shape[0], weight.shape[1], *sides), x.dtype))(x)
    return image


@pytest.fixture
def operators(monkeypatch):
    """JAX in the place of MindSpore's Convolution and ConvolutionGrad."""

    def convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
        assert (bias, dilation, groups) == (None, (1, 1), 1)
        return narrow(convolved(*wide(x, weight), stride, padding, transposed, output_padding))

    def gradient(dy, x, weight, bias, stride, padding, dilation, transposed, output_padding, groups, mask):
        assert (bias, dilation, groups) == (None, (1, 1), 1)
        how = (stride, padding, transposed, output_padding)
        _, adjoint = jax.vjp(lambda x, weight: convolved(x, weight, *how), *wide(x, weight))
        return [narrow(each) if wanted else None for each, wanted in zip(adjoint(*wide(dy)), mask, strict=False)]

    monkeypatch.setattr(ascend, "_convolution", convolution)
    monkeypatch.setattr(ascend, "_gradient", gradient)


def test_convolution_and_its_adjoint_are_those_of_the_other_forms(operators):
    x, weight = ms.Tensor(normal(2, 2, 5, 6)), ms.Tensor(normal(3, 2, 3, 2, seed=1))
    y = forms.conv2d(x, weight, STRIDE, PADDING)
    assert_close(ascend.conv2d(x, weight, STRIDE, PADDING).asnumpy(), y.asnumpy(), FIRST)
    back = forms.conv2d_transpose(y, weight, x.shape, STRIDE, PADDING)
    assert_close(ascend.conv2d_transpose(y, weight, x.shape, STRIDE, PADDING).asnumpy(), back.asnumpy(), FIRST)


@pytest.mark.parametrize("mask", [(1, 1, 0), (1, 0, 0), (0, 1, 0)])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_second_derivative_of_convolution_is_exact(operators, transposed, mask):
    how = ((2, 2), (1, 1), transposed, (1, 0) if transposed else (0, 0))
    x, weight = normal(2, 3, 4, 5), normal(3, 2, 3, 4, seed=1) if transposed else normal(2, 3, 3, 4, seed=1)
    dy = normal(*convolved(x, weight, *how).shape, seed=2)

    def gradient(dy, x, weight):
        _, adjoint = jax.vjp(lambda x, weight: convolved(x, weight, *how), x, weight)
        return [each for each, wanted in zip(adjoint(dy), mask, strict=False) if wanted]

    shapes = [each.shape for each, wanted in zip((x, weight), mask, strict=False) if wanted]
    given = [normal(*shape, seed=3 + i) for i, shape in enumerate(shapes)]
    points = [jnp.asarray(each, jnp.float64) for each in (dy, x, weight)]
    _, adjoint = jax.vjp(gradient, *points)
    expected = adjoint([jnp.asarray(each, jnp.float64) for each in given])

    left = iter(given)
    gradients = [ms.Tensor(next(left)) if wanted else None for wanted in mask]
    stride, padding, _, output_padding = how
    settings = (None, stride, padding, (1, 1), transposed, output_padding, 1)
    actual = ascend.second_of_convolution(*(ms.Tensor(each) for each in (dy, x, weight)), settings, mask, gradients)
    for name, one, other in zip(("dy", "x", "weight"), actual, expected, strict=True):
        assert_close(one.asnumpy(), other, SECOND, name)


@pytest.mark.parametrize("shape", [(3, 4, 2, 5), (6, 4)])
def test_the_second_derivative_of_batch_norm_is_exact(shape):
    x, dy, gain, bias = 3 * normal(*shape), normal(*shape, seed=1), normal(4, seed=2), normal(4, seed=3)
    given = [normal(*shape, seed=4), normal(4, seed=5), normal(4, seed=6)]

    def gradient(dy, x, gain):
        _, adjoint = jax.vjp(lambda x, gain, bias: batch_norm(x, gain, bias, 0.1), x, gain, jnp.asarray(bias, float))
        return adjoint(dy)

    points = [jnp.asarray(each, jnp.float64) for each in (dy, x, gain)]
    _, adjoint = jax.vjp(gradient, *points)
    expected = adjoint(tuple(jnp.asarray(each, jnp.float64) for each in given))

    axes = (0, *range(2, x.ndim))
    moments = x.astype(np.float64).mean(axes), 1 / np.sqrt(x.astype(np.float64).var(axes) + 0.1)
    tensors = [ms.Tensor(each) for each in (dy, x, gain)]
    actual = ascend.second_of_norm(*tensors, *map(narrow, moments), [ms.Tensor(each) for each in given])
    for name, one, other in zip(("dy", "x", "gain"), actual, expected, strict=True):
        assert_close(one.asnumpy(), other, SECOND, name)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 3)])
def test_biases_means_norms_by_moments_and_spans_are_those_of_the_other_forms(shape):
    x = ms.Tensor(normal(*shape))
    gain, bias, average, variance = (ms.Tensor(np.abs(normal(3, seed=seed))) for seed in range(4))
    for actual, expected in (
        (ascend.bias_add(x, bias), forms.bias_add(x, bias)),
        (ascend.mean(x, None, False), forms.mean(x)),
        (ascend.mean(x, 1, True), forms.mean(x, 1, True)),
        (ascend.mean(x, (0, 1), False), forms.mean(x, (0, 1))),
        (ascend.norm_by(x, gain, bias, average, variance, 0.1), forms.norm_by(x, gain, bias, average, variance, 0.1)),
    ):
        assert_close(actual.asnumpy(), expected.asnumpy(), FIRST)
    flat = x.reshape(-1)
    assert np.array_equal(ascend.span(flat, 2, 7).asnumpy(), forms.span(flat, 2, 7).asnumpy())
    by_hand = channels(average.asnumpy()) if len(shape) == 4 else average.asnumpy()
    assert_close(ascend.bias_add(x, average).asnumpy(), x.asnumpy() + by_hand, FIRST)
