"""The CPU's own operators: values and derivatives against float64 JAX, equal bits, and what happens without them."""

import ctypes
import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn as ms_nn
from mindspore import ops
from reference import FIRST, SECOND, Function, assert_close, assert_exact_to_second_order, conv, normal

from ganfleet.errors import ConfigError
from ganfleet.nn import cpu, forms
from ganfleet.nn.cpu import library
from ganfleet.nn.cpu.check import call
from ganfleet.nn.optim import Adam

needs_kernels = pytest.mark.skipif(library.kernels() is None, reason="this machine runs stock operators")
HERE = Path(__file__)
REPOSITORY = HERE.parent.parent.parent


def adjoint(y, weight, shape, stride, padding):
    """What ``conv`` is the transpose of, by JAX's own differentiation."""
    _, pull_back = jax.vjp(lambda x: conv(x, weight, stride, padding), jnp.zeros(shape))
    return pull_back(y)[0]


# ── Values and derivatives

# x, out, kernel, stride, padding: the geometries of the strategies' layers, each way, and those next to them
CONVOLUTIONS = {
    "1x1 to RGB": ((3, 16, 8, 8), 3, 1, 1, 0),
    "1x1 from RGB": ((3, 3, 8, 8), 16, 1, 1, 0),
    "3x3": ((3, 16, 8, 8), 16, 3, 1, 1),
    "3x3, channels that fill no block": ((2, 13, 5, 7), 9, 3, 1, 1),
    "3x3 without padding": ((1, 16, 9, 9), 24, 3, 1, 0),
    "3x3/2": ((1, 16, 8, 8), 32, 3, 2, 1),
    "4x4/2": ((3, 16, 8, 8), 32, 4, 2, 1),
    "4x4/2 from grey": ((3, 1, 8, 8), 16, 4, 2, 1),
    "4x4/2 from RGB": ((3, 3, 8, 8), 16, 4, 2, 1),
    "4x4 on 4x4": ((3, 32, 4, 4), 1, 4, 1, 0),
    "4x4 on 4x4, latents": ((3, 64, 4, 4), 20, 4, 1, 0),
    "4x4 with padding": ((1, 32, 8, 8), 1, 4, 1, 1),
    "7x7 from RGB": ((1, 3, 14, 14), 16, 7, 1, 0),
    "7x7 to RGB": ((1, 16, 14, 14), 3, 7, 1, 0),
    "7x7 with padding 3": ((1, 8, 9, 9), 8, 7, 1, 3),
    "5x5 with padding 2": ((2, 8, 9, 9), 8, 5, 2, 2),
    "batch of one, 1x1": ((1, 16, 8, 8), 3, 1, 1, 0),
    "batch of one, 3x3": ((1, 16, 8, 8), 16, 3, 1, 1),
    "batch of one, 4x4/2 from grey": ((1, 1, 8, 8), 16, 4, 2, 1),
    "batch of one, 4x4 on 4x4": ((1, 32, 4, 4), 1, 4, 1, 0),
}


def quick_first(cases, quick):
    """``cases`` as parameters, of which those not named in ``quick`` are among the slow tests."""
    return [
        pytest.param(*case, id=name, marks=() if name in quick else pytest.mark.slow) for name, case in cases.items()
    ]


class Thrice(ms_nn.Cell):
    """[f(a, b), and the gradients by a and b of s = Σ probe·f², Σ |∂s/∂a|² and Σ |∂ of that/∂a|²], flat.

    f is linear in each argument; the square and the probe make every derivative depend on everything.
    """

    def __init__(self, function, probe):
        super().__init__()
        self.function, self.probe = function, ms.Tensor(probe)

    @ms.jit
    def construct(self, a, b):
        def score(a, b):
            y = self.function(a, b)
            return (y * y * self.probe).sum()

        def penalty(a, b):
            slope = ms.grad(score)(a, b)
            return (slope * slope).sum()

        def third(a, b):
            slope = ms.grad(penalty)(a, b)
            return (slope * slope).sum()

        first, second, last = ms.grad(score, (0, 1)), ms.grad(penalty, (0, 1)), ms.grad(third, (0, 1))
        parts = (self.function(a, b), *first(a, b), *second(a, b), *last(a, b))
        return ops.concat(ops.Map()(flat, parts))


class Compiled(ms_nn.Cell):
    """A function as a graph."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    @ms.jit
    def construct(self, *arguments):
        return self.function(*arguments)


def flat(tensor):
    return tensor.reshape(-1)


def assert_exact_to_third_order(function, reference, a, b):
    a, b = a / np.sqrt(a[0].size), b / np.sqrt(b[0].size)  # so that no order drowns in the powers of another
    a, b = a.astype(np.float32), b.astype(np.float32)
    wide = [jnp.asarray(v, jnp.float64) for v in (a, b)]
    probe = normal(*reference(*wide).shape, seed=5)

    def score(a, b):
        return (reference(a, b) ** 2 * probe).sum()

    def penalty(a, b):
        return (jax.grad(score)(a, b) ** 2).sum()

    def third(a, b):
        return (jax.grad(penalty)(a, b) ** 2).sum()

    def everything(a, b):
        return [reference(a, b), *(g for f in (score, penalty, third) for g in jax.grad(f, (0, 1))(a, b))]

    # Hardly optimised: it is compiled in a fifth of the time, and runs once.
    expected = jax.jit(everything)(*wide)
    actual = Thrice(function, probe)(ms.Tensor(a), ms.Tensor(b)).asnumpy()
    start = 0
    for i, value in enumerate(expected):
        order = (i + 1) // 2
        part = actual[start : start + value.size].reshape(value.shape)
        assert_close(part, value, SECOND if order > 1 else FIRST, f"order {order}, argument {(i + 1) % 2}")
        start += value.size
    assert start == actual.size


@needs_kernels
@pytest.mark.parametrize("x, out, kernel, stride, padding", quick_first(CONVOLUTIONS, ("3x3", "4x4/2 from grey")))
def test_convolution_is_exact_to_third_order(x, out, kernel, stride, padding):
    def function(x, weight):
        return forms.conv2d(x, weight, stride, padding)

    def reference(x, weight):
        return conv(x, weight, stride, padding)

    assert_exact_to_third_order(function, reference, normal(*x), normal(out, x[1], kernel, kernel, seed=1))


# y, in, kernel, stride, padding, output padding
TRANSPOSED = {
    "4x4 from 1x1": ((3, 20, 1, 1), 32, 4, 1, 0, 0),
    "4x4/2": ((3, 32, 4, 4), 16, 4, 2, 1, 0),
    "4x4/2 to grey": ((3, 16, 4, 4), 1, 4, 2, 1, 0),
    "4x4/2 to RGB": ((2, 16, 4, 4), 3, 4, 2, 1, 0),
    "3x3/2 with output padding": ((1, 32, 4, 4), 16, 3, 2, 1, 1),
}


@needs_kernels
@pytest.mark.parametrize("y, channels, kernel, stride, padding, extra", quick_first(TRANSPOSED, ("4x4/2",)))
def test_transposed_convolution_is_exact_to_third_order(y, channels, kernel, stride, padding, extra):
    size = (y[0], channels, *((side - 1) * stride - 2 * padding + kernel + extra for side in y[2:]))

    def function(y, weight):
        return forms.conv2d_transpose(y, weight, size, stride, padding)

    def reference(y, weight):
        return adjoint(y, weight, size, stride, padding)

    assert_exact_to_third_order(function, reference, normal(*y), normal(y[1], channels, kernel, kernel, seed=1))


@needs_kernels
def test_two_sizes_of_one_transposed_convolution_are_told_apart():
    """They differ in nothing but the size, and MindSpore merges operators that differ in nothing."""
    y, weight = normal(1, 4, 3, 3), normal(4, 2, 3, 3, seed=1)

    @ms.jit
    def both(y, weight):
        small = forms.conv2d_transpose(y, weight, (1, 2, 5, 5), 2, 1)
        return small, forms.conv2d_transpose(y, weight, (1, 2, 6, 6), 2, 1)

    for actual in both(ms.Tensor(y), ms.Tensor(weight)):
        assert_close(actual.asnumpy(), adjoint(y.astype(float), weight.astype(float), actual.shape, 2, 1), FIRST)


@needs_kernels
@pytest.mark.parametrize("slope", [0.2, 0.01])
def test_leaky_relu_is_exact_to_second_order_in_any_shape(slope):
    def leaky(x):
        return forms.leaky_relu(x.reshape(3, 4, 10), slope) * forms.leaky_relu(-x, slope).reshape(3, 4, 10)

    def reference(params, x):
        a, b = (jnp.where(v > 0, v, slope * v) for v in (x, -x))
        return (a * b).reshape(3, 4, 10)

    assert_exact_to_second_order(Function(leaky), reference, normal(6, 20))


@needs_kernels
@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (1, 2, 1, 1), (1, 1, 70, 65)], ids=str)
def test_blur_is_exact_to_second_order(shape):
    taps = np.outer([1, 2, 1], [1, 2, 1]) / 16

    def reference(params, x):
        rows = x.reshape(-1, 1, *shape[2:])
        return conv(rows, jnp.asarray(taps[None, None]), padding=1).reshape(shape)

    assert_exact_to_second_order(Function(forms.blur), reference, normal(*shape))


@needs_kernels
@pytest.mark.parametrize("betas", [(0.0, 0.99), (0.5, 0.999)])
def test_adam_has_the_bits_of_the_stock_form(betas):
    """17 values: two blocks of eight and one alone."""
    optimizer = Adam(1e-2, betas)
    state = [ms.Tensor(a) for a in (normal(17), normal(17, seed=1), normal(17, seed=2), normal(17, seed=3) ** 2)]

    def update(gradient, weights, m, v, t, lr):
        weights, slots = optimizer.update(gradient, weights, (m, v), t, {"lr": lr})
        return (weights, *slots)

    results = []
    for form in (forms.STOCK, None):
        with forms.using(form):
            results.append(Compiled(update)(*state, *(ms.Tensor(np.float32(x)) for x in (3, 1e-2))))
    for stock, own in zip(*results, strict=True):
        assert np.array_equal(stock.asnumpy(), own.asnumpy())


@needs_kernels
@pytest.mark.parametrize("place", [0, 7, 18])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38])
def test_one_value_that_is_not_finite_is_found(value, place):
    x = normal(19)
    x[place] = value
    assert bool(forms.all_finite(ms.Tensor(x)).asnumpy()) == bool(np.isfinite(value))


@pytest.mark.parametrize("stride, padding, dtype", [(3, 1, ms.float32), (1, 4, ms.float32), (1, 1, ms.float16)])
def test_what_the_kernels_cannot_do_runs_on_stock_operators(stride, padding, dtype):
    @ms.jit
    def both_ways(x, weight):
        y = forms.conv2d(x, weight, stride, padding)
        return y, forms.conv2d_transpose(y, weight, x.shape, stride, padding)

    x, weight = normal(1, 4, 7, 7), normal(4, 4, 3, 3, seed=1)
    y, back = (t.astype(ms.float32).asnumpy() for t in both_ways(ms.Tensor(x, dtype), ms.Tensor(weight, dtype)))
    tolerance = FIRST if dtype == ms.float32 else 1e-2
    assert_close(y, conv(x.astype(float), weight.astype(float), stride, padding), tolerance)
    assert_close(back, adjoint(y.astype(float), weight.astype(float), x.shape, stride, padding), tolerance)


# ── Bits


class Network(ms_nn.Cell):
    """Weight gradients of a penalised network that has every kernel in it, and the network's output."""

    def score(self, x, down, same, up):
        x = forms.leaky_relu(forms.conv2d(x, down, 2, 1), 0.2)
        x = forms.leaky_relu(forms.conv2d(x, same, 1, 1), 0.2)
        return forms.blur(forms.conv2d_transpose(x, up, (*x.shape[:1], 3, 32, 32), 2, 1))

    def penalty(self, x, down, same, up):
        slope = ms.grad(self.total)(x, down, same, up)
        return (slope * slope).sum()

    def total(self, x, down, same, up):
        y = self.score(x, down, same, up)
        return (y * y).sum()

    @ms.jit
    def construct(self, x, down, same, up):
        return (self.score(x, down, same, up), *ms.grad(self.penalty, (1, 2, 3))(x, down, same, up))


def run_network(x):
    weights = [0.1 * normal(*shape, seed=i) for i, shape in enumerate([(32, 3, 4, 4), (64, 32, 3, 3), (64, 3, 4, 4)])]
    return [t.asnumpy() for t in Network()(ms.Tensor(x), *map(ms.Tensor, weights))]


def digest(arrays):
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()


PRINT_BITS = """
import sys, ganfleet
from ganfleet.nn import forms
form = forms.form()
sys.path.insert(0, {tests!r})
import test_cpu_kernels as tests
print(form, {{tests.digest(tests.run_network(tests.normal(8, 3, 32, 32))) for _ in range(3)}})
"""


def start(code, cores=None, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),
    )


@pytest.mark.slow
@needs_kernels
def test_processes_have_equal_bits_on_one_core_or_two():
    code = PRINT_BITS.format(tests=str(HERE.parent))
    allowed = sorted(os.sched_getaffinity(0))
    said = [p.communicate()[0] for p in [start(code, set(allowed[:1])), start(code, set(allowed[:2]))]]
    bits = digest(run_network(normal(8, 3, 32, 32)))
    assert said == [f"{cpu.form()} {{'{bits}'}}\n"] * 2


@needs_kernels
def test_a_sample_has_equal_bits_wherever_it_stands_in_the_batch():
    x = normal(8, 3, 32, 32)
    order = np.array([5, 2, 7, 0, 1, 6, 3, 4])
    assert np.array_equal(run_network(x)[0][order], run_network(x[order])[0])


@needs_kernels
def test_threads_at_once_compute_what_one_computes():
    """Threads of one process share the cache of plans, and the cache is emptied under them."""
    kernel = ctypes.CDLL(library.kernels().path).convolution_1_1
    weight = normal(8, 8, 3, 3, seed=1)
    inputs = [normal(2, 8, 6, 6 + i % 600, seed=i) for i in range(1200)]

    def run(x):
        return call(kernel, (x, weight), x.shape)[0]

    alone = [run(x) for x in inputs]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(run, inputs))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert_close(alone[7], conv(inputs[7].astype(float), weight.astype(float), padding=1), FIRST)


@needs_kernels
def test_an_error_is_told_and_leaves_the_threads_of_other_operators_alone(capfd):
    kernel = ctypes.CDLL(library.kernels().path).convolution_1_1
    onednn = ctypes.CDLL(str(library.onednn_path()))
    before, after = ctypes.c_int(), ctypes.c_int()
    onednn.dnnl_threadpool_interop_get_max_concurrency(ctypes.byref(before))
    onednn.dnnl_threadpool_interop_set_max_concurrency(5)
    try:
        assert call(kernel, (normal(1, 8, 6, 6), normal(8, 7, 3, 3)), (1, 8, 6, 6)) is None
        onednn.dnnl_threadpool_interop_get_max_concurrency(ctypes.byref(after))
    finally:
        onednn.dnnl_threadpool_interop_set_max_concurrency(before.value)
    assert after.value == 5
    assert "1 8 6 6 8 7 3 3 1 8 6 6" in capfd.readouterr().err


# ── Where there are no kernels


@pytest.fixture
def anew(tmp_path, monkeypatch):
    """The next ``choose()`` starts from nothing, with an empty cache, which this is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    yield tmp_path / "ganfleet"
    monkeypatch.undo()
    choose()


def choose():
    """What a new process would choose."""
    library.kernels.cache_clear()
    return cpu.use()


def assert_stock(capfd, *reasons):
    """The form is stock, and one line says why."""
    assert choose() == cpu.use() == cpu.form() == "stock"
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("ganfleet: ")
    for reason in reasons:
        assert reason in lines[0]


def test_a_compiler_that_is_not_there_is_named(anew, capfd, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-g++ -m64")
    assert_stock(capfd, "CXX names no-such-g++", "unset it")


def test_without_a_compiler_stock_runs(anew, capfd, monkeypatch):
    monkeypatch.setenv("PATH", str(anew))
    monkeypatch.delenv("CXX", raising=False)
    assert_stock(capfd, "no C++ compiler", "install g++")

    @ms.jit
    def run(x, weight):
        return forms.blur(forms.leaky_relu(forms.conv2d(x, weight, 1, 1), 0.2))

    x, weight = normal(1, 4, 7, 7), normal(4, 4, 3, 3, seed=1)
    y = conv(x.astype(float), weight.astype(float), padding=1)
    y = jnp.where(y > 0, y, 0.2 * y).reshape(4, 1, 7, 7)
    y = conv(y, np.outer([1, 2, 1], [1, 2, 1])[None, None] / 16, padding=1).reshape(1, 4, 7, 7)
    assert_close(run(ms.Tensor(x), ms.Tensor(weight)).asnumpy(), y, FIRST)


@needs_kernels
def test_a_compiler_that_fails_is_told(anew, capfd, monkeypatch, tmp_path):
    source = tmp_path / "kernels.cc"
    source.write_text("int main( {")
    monkeypatch.setattr(library, "SOURCE", source)
    assert_stock(capfd, str(source), "error: ")
    assert list(anew.iterdir()) == []


@needs_kernels
def test_a_cache_that_cannot_be_written_is_told(anew, capfd):
    anew.write_text("a file, not a directory")
    assert_stock(capfd, str(anew), "XDG_CACHE_HOME")


@needs_kernels
def test_a_user_without_a_home_is_told_what_to_set(anew, capfd, monkeypatch):
    """As in a container that runs with a user id of its own, and no passwd entry."""

    def no_entry(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pwd.getpwuid", no_entry)
    assert_stock(capfd, "no home folder", "set XDG_CACHE_HOME")


@needs_kernels
def test_a_sound_file_in_the_cache_is_used_without_a_compiler_and_a_broken_one_compiled_again(anew, capfd, monkeypatch):
    form = choose()
    path = Path(library.kernels().path)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(anew))
        assert choose() == form != "stock"
    whole = path.read_bytes()
    for spoiled in (b"", whole[:5000], b"x" + whole):
        path.unlink()  # not overwritten: this process has it loaded
        path.write_bytes(spoiled)
        assert not library.sound(path)
    assert choose() == form
    assert library.sound(path)
    assert capfd.readouterr().err == ""


@pytest.mark.slow
@needs_kernels
def test_kernels_that_compute_something_else_are_not_used(anew, capfd, monkeypatch, tmp_path):
    source = tmp_path / "kernels.cc"
    right = library.SOURCE.read_text()
    monkeypatch.setattr(library, "SOURCE", source)
    for name, old, new in [
        ("blur", "* 0.0625f", "* 0.0626f"),
        ("to_weight", "TO_WEIGHT, stride, padding, data", "TO_INPUT, stride, padding, data"),
        ("gate", "OPERATOR(gate)", "OPERATOR(gates)"),
    ]:
        assert old in right
        source.write_text(right.replace(old, new))
        assert choose() == "stock"
        (line,) = (line for line in capfd.readouterr().err.splitlines() if "half the speed" in line)
        assert name in line and "CXX" in line
        assert list(anew.iterdir()) == []


@needs_kernels
def test_another_library_than_onednn_3_is_refused(anew, capfd, monkeypatch, tmp_path):
    source = tmp_path / "other.cc"
    for code, reason in [
        ("int x;", "no oneDNN"),
        (
            'extern "C" { int v[] = {2, 7, 0}; int *dnnl_version() { return v; } '
            "int dnnl_get_effective_cpu_isa() { return 7; } }",
            "oneDNN 2",
        ),
    ]:
        source.write_text(code)
        # Not called libdnnl.so.3: from now on it is among this process's libraries, where the real one is looked for.
        other = tmp_path / f"{reason}.so"
        monkeypatch.setattr(library, "onednn_path", lambda other=other: other)
        subprocess.run(["c++", "-shared", "-fPIC", "-o", other, source], check=True)
        assert_stock(capfd, str(other), reason)


@needs_kernels
def test_other_processors_and_instruction_sets_run_stock_without_a_word(anew, capfd, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(library.platform, "machine", lambda: "aarch64")
        assert choose() == "stock"
    known = library.load_onednn(library.onednn_path())
    monkeypatch.setattr(library, "load_onednn", lambda path: replace(known, instructions=0x27))
    assert choose() == "stock"
    assert capfd.readouterr().err == ""


@pytest.mark.slow
@needs_kernels
def test_processes_that_compile_at_once_all_get_the_kernels(tmp_path):
    code = "import ganfleet; from ganfleet.nn import forms; print(forms.form())"
    racers = [start(code, XDG_CACHE_HOME=str(tmp_path)) for _ in range(2)]
    said = [p.communicate() for p in racers]
    assert said == [(cpu.form() + "\n", "")] * 2
    (compiled,) = (tmp_path / "ganfleet").iterdir()
    assert library.sound(compiled)


def test_a_form_can_be_asked_for():
    best = cpu.form()
    try:
        assert cpu.use("stock") == cpu.form() == "stock"
        with pytest.raises(ConfigError, match=r"'onednn-any/2.0/sse'.*stock"):
            cpu.use("onednn-any/2.0/sse")
        assert cpu.use(best) == cpu.form() == best
    finally:
        cpu.use()


def test_on_ascend_nothing_of_it_is_imported():
    code = """
import sys, ganfleet, mindspore as ms
ask = ms.get_context
ms.get_context = lambda name: "Ascend" if name == "device_target" else ask(name)
import ganfleet.nn
from ganfleet.nn import forms
assert forms.form() == "stock"
print(forms.leaky_relu(ms.ops.ones((2, 4)), 0.2).sum())
print([name for name in sys.modules if name.startswith("ganfleet.nn.cpu")])
"""
    said, error = start(code).communicate()
    assert said == "8.0\n[]\n", error
