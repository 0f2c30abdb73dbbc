"""Twenty updates of each optimizer against optax or the published formula, in float64."""

import re

import jax.numpy as jnp
import mindspore as ms
import numpy as np
import optax
import pytest
from mindspore import nn as ms_nn
from mindspore import ops
from reference import FIRST, assert_close, normal

from ganfleet import nn
from ganfleet.nn import optim

STEPS, SIZE = 20, 50
LAYOUT = [nn.Weight("a.weight", (3, 4)), nn.Weight("a.bias", (3,)), nn.Weight("b.gain", (5,)), nn.Weight("c", (2, 15))]
MATRICES = [len(weight.shape) > 1 for weight in LAYOUT]


class Update(ms_nn.Cell):
    """One update per call, with the weights and the slots kept as the engine keeps them: in parameters."""

    def __init__(self, optimizer, weights, names=("lr",)):
        super().__init__()
        self.optimizer = optim.bind(optimizer, LAYOUT)
        self.names = names
        self.weights = ms.Parameter(ms.Tensor(weights), name="weights")
        zeros = np.zeros(weights.shape, np.float32)
        self.slots = ms.ParameterTuple([ms.Parameter(ms.Tensor(zeros), name=slot) for slot in optimizer.slots()])

    @ms.jit
    def construct(self, gradient, t, *values):
        hyper = {}
        for i in range(len(self.names)):
            hyper[self.names[i]] = values[i]
        weights, slots = self.optimizer.update(gradient, self.weights, self.slots, t, hyper)
        for old, new in zip(self.slots, slots):  # noqa: B905  (ms.jit knows no strict)
            ops.assign(old, new)
        return ops.assign(self.weights, weights)


class PublishedRMSProp:
    """PyTorch's: v = α v + (1 − α) g²; w −= lr g / (√v + ε). optax adds its ε elsewhere."""

    def __init__(self, lr, decay, eps):
        self.lr, self.decay, self.eps = lr, decay, eps

    def init(self, weights):
        return [jnp.zeros_like(w) for w in weights]

    def update(self, gradients, state, weights):
        state = [self.decay * v + (1 - self.decay) * g**2 for v, g in zip(state, gradients, strict=True)]
        return [-self.lr * g / (jnp.sqrt(v) + self.eps) for v, g in zip(state, gradients, strict=True)], state


def by_weight(flat):
    """A flat vector as optax sees it: one array per weight."""
    return [jnp.asarray(a, jnp.float64) for a in np.split(flat, np.cumsum([np.prod(w.shape) for w in LAYOUT])[:-1])]


def gradient_at(step):
    """Magnitudes from 1e-3 to 1e3: a misplaced epsilon or bias correction shows."""
    return normal(SIZE, seed=step + 1) * np.logspace(-3, 3, SIZE, dtype=np.float32)


def twenty_updates(optimizer, start, **schedules):
    """``schedules`` are functions of the step, counted from 0, by the name of what they set."""
    schedules = {"lr": lambda step: optimizer.lr} | schedules
    update = Update(optimizer, start, tuple(schedules))
    for step in range(STEPS):
        hyper = [ms.Tensor(np.float32(schedule(step))) for schedule in schedules.values()]
        moved = update(ms.Tensor(gradient_at(step)), ms.Tensor(np.float32(step + 1)), *hyper)
    return moved.asnumpy()


def assert_twenty_updates_equal(reference, optimizer, **schedules):
    start = normal(SIZE)
    weights = by_weight(start)
    state = reference.init(weights)
    for step in range(STEPS):
        changes, state = reference.update(by_weight(gradient_at(step)), state, weights)
        weights = optax.apply_updates(weights, changes)
    expected = np.concatenate(weights)
    actual = twenty_updates(optimizer, start, **schedules)
    assert_close(actual, expected, 1e-6)
    # Weights keep seven digits, so of a change of 1e-3 only four are left: compare the path, too, as far as they go.
    assert np.abs((actual - start) - (expected - start)).max() <= FIRST * np.abs(expected - start).max() + 2e-6


def clipped(reference, max_norm=50.0):
    return optax.chain(optax.clip_by_global_norm(max_norm), reference)


def weights_only(name, shape):
    return name.endswith("weight")


@pytest.mark.parametrize(
    "optimizer, reference",
    [
        (nn.Adam(1e-2), optax.adam(1e-2)),
        (nn.Adam(2e-4, betas=(0.5, 0.999)), optax.adam(2e-4, b1=0.5)),
        (nn.Adam(1e-3, betas=(0.0, 0.99)), optax.adam(1e-3, b1=0.0, b2=0.99)),
        (nn.Adam(1e-2, eps=0.1), optax.adam(1e-2, eps=0.1)),
        (nn.AdamW(1e-2, weight_decay=0.5), optax.adamw(1e-2, weight_decay=0.5, mask=MATRICES)),
        (nn.AdamW(1e-2, betas=(0.0, 0.9)), optax.adamw(1e-2, b1=0.0, b2=0.9, weight_decay=0.01, mask=MATRICES)),
        (
            nn.AdamW(1e-2, weight_decay=0.5, decay=weights_only),
            optax.adamw(1e-2, weight_decay=0.5, mask=[True, False, False, False]),
        ),
        (nn.RMSProp(5e-5), PublishedRMSProp(5e-5, 0.99, 1e-8)),
        (nn.RMSProp(1e-2, decay=0.9, eps=0.1), PublishedRMSProp(1e-2, 0.9, 0.1)),
        (nn.SGD(0.1), optax.sgd(0.1)),
        (nn.SGD(0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9)),
        (nn.SGD(0.1, momentum=0.9, nesterov=True), optax.sgd(0.1, momentum=0.9, nesterov=True)),
        # Norms of the gradients are from 612 to 2859: all are clipped to 50, most of them to 1200, none to 1e9.
        (nn.ClipByGlobalNorm(nn.Adam(1e-2, eps=1.0), 50.0), clipped(optax.adam(1e-2, eps=1.0))),
        (nn.ClipByGlobalNorm(nn.SGD(0.1, momentum=0.9), 1200.0), clipped(optax.sgd(0.1, momentum=0.9), 1200.0)),
        (nn.ClipByGlobalNorm(nn.SGD(0.1), 1e9), optax.sgd(0.1)),
        (
            nn.ClipByGlobalNorm(nn.AdamW(1e-2, eps=1.0, weight_decay=0.5), 50.0),
            clipped(optax.adamw(1e-2, eps=1.0, weight_decay=0.5, mask=MATRICES)),
        ),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", str(value)) if hasattr(value, "slots") else "",
)
def test_twenty_updates_equal_the_reference(optimizer, reference):
    assert_twenty_updates_equal(reference, optimizer)


def falling(first, last):
    return lambda step: first + (last - first) * step / STEPS


@pytest.mark.parametrize(
    "optimizer, make, schedules",
    [
        (nn.Adam(1.0), optax.adam, {"lr": ("learning_rate", falling(1e-2, 1e-4))}),
        (
            nn.Adam(1e-2, betas=(0.5, 0.0)),
            lambda b1, b2: optax.adam(1e-2, b1, b2),
            {"beta1": ("b1", falling(0.9, 0.0)), "beta2": ("b2", falling(0.9, 0.999))},
        ),
        (
            nn.AdamW(1e-2, weight_decay=9.0),
            lambda b2, weight_decay: optax.adamw(1e-2, b2=b2, weight_decay=weight_decay, mask=MATRICES),
            {"weight_decay": ("weight_decay", falling(0.5, 0.1)), "beta2": ("b2", falling(0.9, 0.999))},
        ),
        (
            nn.SGD(0.1, momentum=0.5),
            lambda learning_rate, momentum: optax.sgd(learning_rate, momentum),
            {"lr": ("learning_rate", falling(0.1, 0.01)), "momentum": ("momentum", falling(0.5, 0.99))},
        ),
        (
            nn.ClipByGlobalNorm(nn.SGD(1.0), 1.0),
            lambda learning_rate, max_norm: clipped(optax.sgd(learning_rate), max_norm),
            {"lr": ("learning_rate", falling(0.1, 0.01)), "max_norm": ("max_norm", falling(2000, 100))},
        ),
    ],
    ids=["lr", "adam's betas", "weight decay", "sgd", "norm"],
)
def test_twenty_updates_with_a_schedule_equal_the_reference(optimizer, make, schedules):
    reference = optax.inject_hyperparams(make)(**dict(schedules.values()))
    assert_twenty_updates_equal(reference, optimizer, **{name: schedule for name, (_, schedule) in schedules.items()})


class AdamOfRelease01(nn.Adam):
    """The update as it was before there were schedules; checkpoints of that time go on with these bits."""

    def update(self, gradient, weights, slots, t, hyper):
        beta1, beta2 = self.betas
        m = gradient if beta1 == 0 else beta1 * slots[0] + (1 - beta1) * gradient
        v = beta2 * slots[1] + (1 - beta2) * (gradient * gradient)
        root = ops.sqrt(1 - ops.pow(beta2, t))
        step = hyper["lr"] * root / (1 - ops.pow(beta1, t))
        return weights - step * (m / (ops.sqrt(v) + self.eps * root)), (m, v)


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.99)])
def test_adam_without_a_schedule_keeps_the_bits_of_release_0_1(betas):
    now, then = (twenty_updates(adam(1e-2, betas), normal(SIZE)) for adam in (nn.Adam, AdamOfRelease01))
    assert np.array_equal(now, then)


@pytest.mark.parametrize("eps", [1e-8, 0.1])
def test_the_first_adam_step_is_sign_times_learning_rate(eps):
    """With both corrections m = g and √v = |g|, so the step is lr·g/(|g| + ε)."""
    optimizer = nn.Adam(1.0, betas=(0.9, 0.999), eps=eps)
    grad = normal(SIZE)
    one = ms.Tensor(np.float32(1))
    step = Update(optimizer, np.zeros(SIZE, np.float32))(ms.Tensor(grad), one, one).asnumpy()
    assert_close(step, -grad.astype(np.float64) / (np.abs(grad) + eps), 1e-6)


def test_clipping_leaves_a_gradient_of_zeros_as_it_is():
    zeros, one = np.zeros(SIZE, np.float32), ms.Tensor(np.float32(1))
    weights = normal(SIZE)
    moved = Update(nn.ClipByGlobalNorm(nn.SGD(0.1), 1.0), weights)(ms.Tensor(zeros), one, one)
    assert np.array_equal(moved.asnumpy(), weights)


def test_clipping_has_the_learning_rate_and_the_slots_of_what_it_wraps():
    optimizer = nn.ClipByGlobalNorm(nn.Adam(0.25), 1.0)
    assert optimizer.lr == 0.25 and optimizer.slots() == ("m", "v")


def test_adamw_that_does_not_know_its_weights_is_refused():
    with pytest.raises(ValueError, match="bind"):
        nn.AdamW(0.1).update(None, None, None, None, {})


def test_an_optimizer_without_bind_serves_any_weights():
    class Still:
        lr = 0.0

    still = Still()
    assert optim.bind(still, LAYOUT) is still


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValueError, match="momentum"):
        nn.SGD(0.1, nesterov=True)
