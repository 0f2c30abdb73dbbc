"""Layers in half precision: what rounding does to them, and what a backend refuses."""

import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn as ms_nn
from reference import Derivatives, assert_close, channels, conv, conv_transpose, normal, reference_derivatives, rng

from ganfleet import nn
from ganfleet.errors import ConfigError
from ganfleet.nn.precision import lowered, raised

LABELS = np.int32([2, 0, 2, 3, 2])


class Net(ms_nn.Cell):
    """A layer of each kind that multiplies, in an order that gives all of them work."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.up = nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1)
        self.smaller = nn.EqualizedConv2d(2, 2, 3, resample="down", bias=False)
        self.dense = nn.Dense(32, 4)
        self.embedding = nn.Embedding(4, 4)
        self.labels = ms.Tensor(LABELS)

    def construct(self, x):
        y = self.smaller(nn.tanh(self.up(self.conv(x))))
        return self.dense(nn.tanh(y.reshape(5, -1))) * self.embedding(self.labels)


class Jitted(ms_nn.Cell):
    def __init__(self, net):
        super().__init__()
        self.net = net

    @ms.jit
    def construct(self, x):
        return self.net(x)


def in_type(dtype):
    """``Net`` in jax.numpy: float64, but every factor and product rounded to ``dtype``, and gradients likewise."""

    def rounded(x):
        return x.astype(dtype).astype(jnp.float64)

    def product(operator, x, weight):
        return rounded(operator(rounded(x), rounded(weight)))

    def net(params, x):
        w1, b1, w2, b2, w3, w4, b4, table = params
        y = product(lambda x, w: conv(x, w, padding=1), x, w1) + channels(b1)
        y = jnp.tanh(product(lambda x, w: conv_transpose(x, w, 2, 1), y, w2) + channels(b2))
        # One strided convolution: the mean of the shifted weights is the factor that is rounded.
        spread = [jnp.pad(w3, ((0, 0), (0, 0), (i, 1 - i), (j, 1 - j))) for i in (0, 1) for j in (0, 1)]
        y = product(lambda x, w: conv(x, w, 2, 1), y, sum(spread) / 4 * (2 / 18) ** 0.5)
        y = product(lambda x, w: x @ w.T, jnp.tanh(y.reshape(5, -1)), w4) + b4
        return y * product(jnp.matmul, jnp.eye(4)[LABELS], table)

    return net


def derivatives(compute_type):
    """Output, first and second derivatives of ``Net`` in that type, flat; and what the reference needs for the same."""
    net, draw = Net(), rng(1)
    for p in net.trainable_params():
        p.set_data(ms.Tensor((0.3 * draw.standard_normal(p.shape)).astype(np.float32)))
    nn.set_compute_type(net, compute_type)
    x, scale = normal(5, 2, 4, 4), draw.uniform(0.5, 1.5, (5, 2, 4, 4)).astype(np.float32)
    probe = draw.standard_normal((5, 4)).astype(np.float32)
    params = [jnp.asarray(p.asnumpy(), jnp.float64) for p in net.trainable_params()]
    names = [p.name for p in net.trainable_params()]
    flat = Derivatives(net, scale, probe)(ms.Tensor(x)).asnumpy()
    return flat, names, (params, *(jnp.asarray(a, jnp.float64) for a in (scale, probe, x)))


def assert_rounded(compute_type, dtype, first, second):
    flat, names, arguments = derivatives(compute_type)
    reference = jax.jit(reference_derivatives, static_argnums=0)
    expected, exact = reference(in_type(dtype), *arguments), reference(in_type(jnp.float64), *arguments)
    labels = [
        "output",
        *(f"{order} derivative to {n}" for order in ("first", "second") for n in ("x", "scale", *names)),
    ]
    parts = np.split(flat, np.cumsum([value.size for value in expected])[:-1])
    for label, part, value, unrounded in zip(labels, parts, expected, exact, strict=True):
        assert_close(part.reshape(value.shape), value, second if label.startswith("second") else first, label)
        assert np.abs(unrounded - value).max() > 2e-4 * np.abs(value).max(), f"{label}: rounding shows"


@pytest.mark.slow
def test_rounded_layers_multiply_as_bfloat16_would_to_second_order():
    """Rounding changes each of these by 2e-3 to 2e-2; what may be left is a sum's in float32 instead of float64."""
    assert_rounded("rounded", jnp.bfloat16, first=1e-3, second=1e-3)


def test_layers_in_float16_are_right_to_its_rounding():
    """A 1e-3 in one step, and more in second derivatives, some of which are below float16's smallest normal number."""
    assert_rounded("float16", jnp.float16, first=1e-3, second=5e-2)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.EqualizedConv2d(3, 4, 3), (2, 3, 4, 4)),
        (nn.EqualizedConv2d(3, 2, 1, resample="up"), (2, 3, 4, 4)),
        (nn.EqualizedDense(6, 5, lr_multiplier=0.5), (4, 6)),
        (nn.SpectralDense(6, 5), (4, 6)),
    ],
    ids=["equalized", "enlarging", "slowed down", "spectral"],
)
def test_layers_that_scale_their_weight_are_rounded_too(layer, shape):
    """By some 2^-9 of a value."""
    for p in layer.get_parameters():
        p.set_data(ms.Tensor(normal(*p.shape)))
    x = ms.Tensor(normal(*shape, seed=1))
    exact = Jitted(layer)(x).asnumpy()
    nn.set_compute_type(layer, "rounded")
    difference = np.abs(Jitted(layer)(x).asnumpy() - exact).max() / np.abs(exact).max()
    assert 2**-13 < difference < 2**-6


def test_in_float32_no_operator_joins_the_graph():
    x = ms.Tensor(normal(2, 2))
    assert lowered(x, "float32") is x and raised(x, "float32") is x
    assert all(cell.compute_type == "float32" for cell in Net().cells())


def test_every_layer_that_multiplies_takes_the_type_and_others_do_not():
    net = ms_nn.SequentialCell(Net(), nn.BatchNorm(3), ms_nn.Dense(2, 2))
    nn.set_compute_type(net, "bfloat16")
    assert {cell.compute_type for cell in net[0].cells()} == {"bfloat16"}
    assert not hasattr(net[1], "compute_type") and not hasattr(net[2], "compute_type")


def test_an_unknown_type_is_refused():
    with pytest.raises(ConfigError, match=r"float8.*float32, bfloat16, float16"):
        nn.set_compute_type(Net(), "float8")


def test_a_cpu_runs_float32_and_float16_and_says_what_to_use_instead_of_bfloat16():
    assert nn.supported("float32") is None and nn.supported("float16") is None and nn.supported("rounded") is None
    assert "use float32" in nn.supported("bfloat16")


def test_the_compiler_still_refuses_bfloat16_on_a_cpu():
    """Where this fails, ``supported`` can allow it."""
    dense = nn.Dense(2, 2)
    nn.set_compute_type(dense, "bfloat16")
    with pytest.raises(TypeError, match="Unsupported data type"):
        Jitted(dense)(ms.Tensor(normal(2, 2)))
