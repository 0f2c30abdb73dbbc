"""Diffusion's U-Net, its losses and what it draws are those of float64 JAX; it learns a density that is known."""

import math

import jax
import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
import two_dimensions as plane
import unet_float64 as float64
from commands import ganfleet as command
from commands import one_error
from in_memory import ArraySource, one_lane, trainer
from mindspore import nn as ms_nn
from nn.reference import assert_close, assert_gradients, normal
from scipy.stats import norm

from ganfleet import nn, rng, testing
from ganfleet.clock import Clock
from ganfleet.engine.program import Program
from ganfleet.engine.sampler import Sampler, graphs
from ganfleet.engine.tensors import named
from ganfleet.errors import ConfigError
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.diffusion import bound
from ganfleet.strategies.diffusion.sampling import SampleOptions, invert
from ganfleet.strategies.diffusion.schedule import Schedule
from ganfleet.strategies.diffusion.strategy import Diffusion
from ganfleet.strategies.diffusion.unet import UNet

CLASSES, SIZE, CLOCK = 3, 4, Clock(1)
SMALL = {"resolution": SIZE, "width": 4, "multipliers": (1, 2), "blocks": 1, "attention": (2,), "head_width": 4}
SMALL |= {"timesteps": 20, "steps": 3}


def diffusion(**options):
    return Diffusion(Diffusion.Options(**(SMALL | options)), ImageSpec(channels=1, classes=CLASSES), batch_size=4)


# ── The reference


@jax.jit
def network(w, x_t, time, label):
    """``label`` is CLASSES where it is left out."""
    condition = w["labels.weight"][label]
    return float64.unet(w.of("unet"), x_t, time, 4, (1, 2), 1, lambda c: max(1, c // 4), condition)


def hybrid_loss(w, image, label, noise, schedule):
    """DDPM's loss on ε, and 0.001·T times the bound in bits."""
    t = np.rint(noise["time"] / 1000 * 20).astype(int)
    kept = schedule.alpha_squared(np.arange(21) / 20)
    alpha, sigma = (np.sqrt(each)[:, None, None, None] for each in (kept[t], 1 - kept[t]))
    x_t = alpha * image + sigma * noise["epsilon"]
    label = np.where(noise["keep"] == 1, label, CLASSES)
    output = network(w, x_t, noise["time"], label)
    simple = ((output[:, :1] - noise["epsilon"]) ** 2).mean()
    mean_epsilon = jax.lax.stop_gradient(output[:, :1])
    bits = jnp.stack([bits_of(image[i], x_t[i], mean_epsilon[i], output[i, 1:], t[i], kept) for i in range(len(t))])
    return simple + 0.001 * 20 * bits.mean(), (simple, 20 * bits.mean())


def bits_of(x, x_t, epsilon, raw, t, kept):
    """L_{t-1} of one sample, by DDPM's equations with the β of its step."""
    beta = 1 - kept[t] / kept[t - 1]
    smaller = (1 - kept[max(t, 2) - 1]) / (1 - kept[max(t, 2)]) * (1 - kept[max(t, 2)] / kept[max(t, 2) - 1])
    mean = (x_t - beta / math.sqrt(1 - kept[t]) * epsilon) / math.sqrt(1 - beta)  # equation 11
    fraction = (raw + 1) / 2
    log_variance = fraction * math.log(beta) + (1 - fraction) * math.log(smaller)
    std = jnp.exp(log_variance / 2)
    if t == 1:
        above = jnp.where(x > 0.999, 1.0, jax.scipy.stats.norm.cdf((x + 1 / 255 - mean) / std))
        below = jnp.where(x < -0.999, 0.0, jax.scipy.stats.norm.cdf((x - 1 / 255 - mean) / std))
        return -jnp.log(jnp.maximum(above - below, 1e-12)).mean() / math.log(2)
    true_mean = math.sqrt(kept[t - 1]) * beta / (1 - kept[t]) * x
    true_mean += math.sqrt(1 - beta) * (1 - kept[t - 1]) / (1 - kept[t]) * x_t
    divergence = jnp.log(std) - math.log(smaller) / 2 + (smaller + (true_mean - mean) ** 2) / (2 * std**2) - 0.5
    return divergence.mean() / math.log(2)


# ── Networks and losses


@pytest.fixture(scope="module")
def program():
    """Of a model with classes and a learned variance, its weights drawn anew: some start at zero."""
    strategy = diffusion(learned_variance=True)
    made = Program(strategy, strategy.schedule()[0], 3)
    draw = np.random.default_rng(1)
    weights = {}
    for name, array in made.tensors()["unet.weights"].items():
        weights[name] = (array + 0.2 * draw.standard_normal(array.shape)).astype(np.float32)
    made.inherit({"unet.weights": weights, "unet.ema": weights})
    return made


def weights_of(program):
    return float64.Weights({n: jnp.asarray(a, jnp.float64) for n, a in program.tensors()["unet.weights"].items()})


@pytest.mark.slow
def test_loss_and_gradients_equal_float64_for_every_weight(program):
    strategy, [compiled] = program.strategy, program.phases
    real = {"image": np.tanh(normal(4, 1, SIZE, SIZE, seed=1)), "label": np.int32([0, 1, 2, 0])}
    real["image"][0, 0, 0] = 1  # white, which has a bin of its own
    noise = strategy.draw(np.random.default_rng(2), 4, CLOCK)
    noise["keep"] = np.int32([1, 0, 1, 1])
    times = np.array([1, 2, 13, 20]) / 20  # the first step among them
    alpha, sigma = strategy.noise_schedule.alpha_sigma(times)
    noise["time"] = np.float32(1000 * times)
    noise["alpha"], noise["sigma"] = (np.float32(each).reshape(-1, 1, 1, 1) for each in (alpha, sigma))
    noise |= bound.coefficients(strategy.noise_schedule, "epsilon", times)
    flat, stats = one_lane(compiled, real, noise)

    def loss(w):
        double = {n: np.asarray(a, np.float64) for n, a in noise.items()}
        image = np.asarray(real["image"], np.float64)
        return hybrid_loss(float64.Weights(w), image, real["label"], double, strategy.noise_schedule)

    w = weights_of(program).arrays
    (value, (simple, bits)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(w)
    assert_close(stats["Loss/unet"], value, 1e-5)
    assert_close(stats["simple"], simple, 1e-5)
    assert_close(stats["bits"], bits, 1e-4)
    weights = program.players["unet"].weights
    assert {p.name for p in weights} == set(w)
    assert_gradients(flat, weights, gradients, 2e-4, nothing=1e-4)  # a bias before a norm has none


def test_the_bound_is_a_divergence_and_a_likelihood():
    """One pixel: the divergence by the trapezoidal rule, and the likelihood by the distribution's own function."""
    schedule = Schedule("linear", 20)
    times, x, x_t, epsilon, raw = np.array([0.5, 1 / 20]), -0.18, -0.2, 0.1, -0.4

    class Bound(ms_nn.Cell):
        def __init__(self, names):
            super().__init__()
            self.names = names

        @ms.jit
        def construct(self, x, x_t, predicted, raw, *given):
            return bound.bound(x, x_t, predicted, raw, named(self.names, given))

    coefficients = bound.coefficients(schedule, "epsilon", times)
    arrays = [np.full((2, 1, 1, 1), each, np.float32) for each in (x, x_t, epsilon, raw)]
    arrays += list(coefficients.values())
    found = Bound(tuple(coefficients))(*map(ms.Tensor, arrays)).asnumpy()

    for i, t in enumerate(times):
        step, floor = schedule.step(t, t - 1 / 20), schedule.step(2 / 20, 1 / 20).posterior_variance
        smaller = step.posterior_variance or floor
        x0 = (x_t - step.sigma * epsilon) / step.alpha
        q = norm(step.posterior[0] * x + step.posterior[1] * x_t, math.sqrt(smaller))
        p = norm(step.posterior[0] * x0 + step.posterior[1] * x_t, step.beta**0.15 * smaller**0.35)  # 0.3 of log β
        if i == 0:
            grid = q.mean() + q.std() * np.linspace(-9, 9, 4001)
            nats = np.trapz(q.pdf(grid) * (q.logpdf(grid) - p.logpdf(grid)), grid)
        else:
            nats = -math.log(p.cdf(x + 1 / 255) - p.cdf(x - 1 / 255))
        assert found[i] == pytest.approx(nats / math.log(2), rel=1e-4)


@pytest.mark.slow
def test_a_u_net_of_patches_is_one_of_fewer_pixels_with_more_channels():
    sizes = {"width": 4, "multipliers": (1, 2), "blocks": 1, "attention": (2,), "head_width": 4}
    net, plain = UNet(1, 2, height=8, patch=2, **sizes), UNet(4, 8, height=4, **sizes)
    weights = dict(zip((p.name for p in plain.get_parameters()), net.get_parameters(), strict=True))
    for parameter in plain.get_parameters():
        drawn = ms.Tensor(0.3 * normal(*parameter.shape, seed=len(parameter.name)))
        parameter.set_data(drawn)
        weights[parameter.name].set_data(drawn)
    x, t = ms.Tensor(normal(2, 1, 8, 8)), ms.Tensor(np.float32([3, 700]))
    expected = nn.depth_to_space(plain(nn.space_to_depth(x, 2), t), 2)
    np.testing.assert_allclose(net(x, t).asnumpy(), expected.asnumpy(), atol=1e-6)


# ── Drawing


@pytest.mark.slow
def test_what_is_drawn_is_what_the_network_says_step_by_step(program):
    strategy, w = program.strategy, weights_of(program)
    inputs = [strategy.sample_inputs(rng.stream(seed, "sample"), CLOCK, label) for seed, label in ((5, 2), (6, 0))]
    asked = SampleOptions(steps=2, method="ddpm", guidance=3.0, percentile=90)
    images = Sampler(program).draw([strategy.with_options(each, asked) for each in inputs])

    x = np.concatenate([each["noise"] for each in inputs]).astype(np.float64)
    schedule = strategy.noise_schedule
    for i, (t, s) in enumerate(((1.0, 0.5), (0.5, 0.0))):
        time, alpha, sigma = np.full(2, 1000 * t), *schedule.alpha_sigma(t)
        told, untold = (np.asarray(network(w, x, time, np.array(label))) for label in ([2, 0], [CLASSES] * 2))
        epsilon = untold[:, :1] + 3 * (told[:, :1] - untold[:, :1])
        x0 = (x - sigma * epsilon) / alpha
        reach = np.maximum(np.percentile(np.abs(x0.reshape(2, -1)), 90, axis=1), 1)[:, None, None, None]
        x0 = np.clip(x0, -reach, reach) / reach
        if s == 0:
            break
        step, fraction = schedule.step(t, s), (told[:, 1:] + 1) / 2
        std = np.exp((fraction * math.log(step.beta) + (1 - fraction) * math.log(step.posterior_variance)) / 2)
        own = [rng.stream(int(each["seed"][0]), "denoise", i) for each in inputs]
        own = [each.standard_normal((1, SIZE, SIZE), np.float32) for each in own]
        x = step.posterior[0] * x0 + step.posterior[1] * x + std * np.stack(own)
    assert_close(images, x0, 1e-4)


def test_a_seed_starts_at_the_same_noise_whichever_class_is_asked_for():
    strategy = diffusion()
    any_class, *each = (strategy.sample_inputs(rng.stream(7, "sample"), CLOCK, label) for label in (None, 0, 1, 2))
    assert [int(inputs["label"][0]) for inputs in each] == [0, 1, 2]
    for inputs in each:
        assert np.array_equal(inputs["noise"], any_class["noise"]) and inputs["seed"] == any_class["seed"]
    with pytest.raises(ConfigError, match="no class 3: the data have classes 0 to 2"):
        strategy.sample_inputs(rng.stream(7, "sample"), CLOCK, 3)


def test_as_many_conditions_are_left_out_as_the_config_says():
    kept = diffusion(drop=0.25).draw(rng.stream(0, "test"), 8000, CLOCK)["keep"]
    assert set(kept) == {0, 1} and kept.mean() == pytest.approx(0.75, abs=0.02)


# ── Schedules and options


def test_the_learning_rate_rises_then_falls_and_the_average_begins_short():
    strategy = diffusion(lr=1e-2, warmup_kimg=1, decay_kimg=3, ema_decay=0.99)
    found = [
        strategy.hyper("unet", Clock(9000, step=nimg // 4, nimg=nimg)) for nimg in (0, 500, 1000, 2000, 3000, 5000)
    ]
    assert [each["lr"] for each in found] == pytest.approx([4e-5, 5.04e-3, 1e-2, 5e-3, 0, 0])
    assert [each["ema_decay"] for each in found[:2]] == [0.1, 126 / 135] and found[-1]["ema_decay"] == 0.99


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("resolution: 30, multipliers: [1, 2, 2]", "3 multipliers with patch 1 need one that 4 divides"),
        ("steps: 30, timesteps: 20", "steps is 30, and can be no more than timesteps, 20"),
        ("learned_variance: true, timesteps: null", "learned_variance needs timesteps"),
    ],
)
def test_options_that_cannot_go_together_are_one_error(words, message, tmp_path):
    (tmp_path / "config.yaml").write_text(f"strategy: {{name: diffusion, {words}}}\n")
    assert message in one_error(command("plan", "--config", str(tmp_path / "config.yaml")), 2)


# ── What a fleet promises

SIMPLE = SMALL | {"multipliers": (1,), "attention": (), "learned_variance": True}  # fewer layers to compile
TRAINED = {"options": SIMPLE, "source": testing.FakeImages(classes=CLASSES)}


def test_two_ranks_and_then_four_train_it_to_the_bits_of_one():
    testing.assert_resumes(Diffusion, steps=2, **TRAINED)


# ── A density that is known


@pytest.mark.slow
def test_the_density_is_learned_drawn_and_ddim_goes_back_to_its_start(tmp_path):
    config = """
strategy: {name: "two_dimensions:Plane", schedule: linear, timesteps: null, predict: v, lr: 1e-2, decay_kimg: 2048,
           ema_decay: 0.995}
train: {batch_size: 1024, lanes: 1, steps: 2000, seed: 1}
"""
    trained = trainer(config, ArraySource("image", plane.points(2**16), channels=2), tmp_path)
    trained.run()
    strategy, draw = trained.program.strategy, trained.program.strategy.sampler(graphs(trained.program))
    n = 4000
    inputs = {"noise": normal(n, 2, 1, 1, seed=5), "seed": np.arange(n), **strategy.how.as_inputs()}
    predict = graphs(trained.program)(strategy.predict)

    def told(x, t):
        return predict({"x_t": x, "time": np.full(n, 1000 * t, np.float32)}), None

    with trained.program.averaged():
        for method in ("ddpm", "ddim"):
            points = draw(strategy.with_options(inputs, SampleOptions(steps=100, method=method))).reshape(-1, 2)
            nearest = np.argmin(((points[:, None] - plane.CENTRES) ** 2).sum(-1), 1)
            shares = np.bincount(nearest, minlength=3) / n
            assert np.abs(shares - plane.WEIGHTS).max() < 0.04, method
            for i in range(3):
                assert np.abs(points[nearest == i].mean(0) - plane.CENTRES[i]).max() < 0.05, method
                assert np.abs(points[nearest == i].std(0) / plane.STD - 1).max() < 0.15, method
        back = invert(told, points.reshape(n, 2, 1, 1), 100, strategy.noise_schedule, "v")  # DDIM's points
    assert np.sqrt(((back - inputs["noise"]) ** 2).mean()) < 0.15
