"""The arithmetic of diffusion against formulas of the papers and Bayes' rule, in float64, and the samplers on data
whose noise is known exactly: a mixture of normal distributions in the plane."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp

from ganfleet.errors import ConfigError
from ganfleet.strategies.diffusion.sampling import How, SampleOptions, denoise, invert
from ganfleet.strategies.diffusion.schedule import Schedule, both, guided, target_weights, thresholded

T = 1000


def betas(kind):
    """As DDPM and improved DDPM define them."""
    if kind == "linear":
        return np.linspace(1e-4, 0.02, T)
    f = [math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(T + 1)]
    return np.array([min(1 - f[t] / f[t - 1], 0.999) for t in range(1, T + 1)])


def kept(kind):
    """ᾱ of steps 0 to T."""
    result = [1.0]
    for beta in betas(kind):
        result.append(result[-1] * (1 - beta))
    return np.array(result)


# ── How much noise there is when


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_discrete_schedules_are_the_papers(kind):
    alpha, sigma = Schedule(kind, T).alpha_sigma(np.arange(T + 1) / T)
    np.testing.assert_allclose(alpha**2, kept(kind), rtol=1e-12)
    np.testing.assert_allclose(sigma**2, 1 - kept(kind), rtol=1e-12)


def test_fewer_linear_steps_make_as_much_noise():
    found = math.log(Schedule("linear", 100).alpha_squared(1))
    assert found == pytest.approx(math.log(kept("linear")[-1]), rel=0.1)


def test_the_continuous_linear_schedule_is_the_sdes():
    schedule = Schedule("linear", None)
    for t in (0, 0.3, 0.77, 1):
        spent, _ = quad(lambda u: 0.1 + (20 - 0.1) * u, 0, t)  # ∫β of the SDE dx = −½βx dt + √β dw
        assert schedule.alpha_squared(t) == pytest.approx(math.exp(-spent), rel=1e-10)


def test_the_continuous_cosine_schedule_has_its_log_snr():
    alpha, sigma = Schedule("cosine", None).alpha_sigma(np.array([0, 0.25, 0.5, 0.9, 1]))
    a = math.atan(math.exp(10)) - math.atan(math.exp(-10))
    expected = [-2 * math.log(math.tan(a * t + math.atan(math.exp(-10)))) for t in (0, 0.25, 0.5, 0.9, 1)]
    np.testing.assert_allclose(np.log(alpha**2 / sigma**2), expected, rtol=1e-6, atol=1e-9)
    assert expected[0] == pytest.approx(20) and expected[-1] == pytest.approx(-20)


def test_times_to_train_on_are_uniform():
    rng = np.random.default_rng(0)
    discrete = Schedule("cosine", 4).draw(rng, 40_000)
    assert sorted(set(discrete)) == [0.25, 0.5, 0.75, 1]
    assert np.abs(np.bincount((4 * discrete).astype(int))[1:] - 10_000).max() < 500
    continuous = Schedule("cosine", None).draw(rng, 40_000)
    assert continuous.min() > 0 and continuous.max() < 1 and continuous.mean() == pytest.approx(0.5, abs=0.01)


def test_times_to_draw_at_go_evenly_from_1_to_0():
    np.testing.assert_allclose(Schedule("cosine", T).times(4) * T, [1000, 750, 500, 250, 0])
    np.testing.assert_allclose(Schedule("cosine", T).times(T) * T, np.arange(T, -1, -1))
    np.testing.assert_allclose(Schedule("cosine", None).times(3), [1, 2 / 3, 1 / 3, 0])
    with pytest.raises(ValueError, match="1 to 10 steps"):
        Schedule("cosine", 10).times(11)


# ── One step


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_the_posterior_of_each_step_is_ddpms(kind):
    beta, bar, schedule = betas(kind), kept(kind), Schedule(kind, T)
    for t in (1, 2, 3, 10, 500, 998, T):
        step = schedule.step(t / T, (t - 1) / T)
        variance = (1 - bar[t - 1]) / (1 - bar[t]) * beta[t - 1]
        of_x = math.sqrt(bar[t - 1]) * beta[t - 1] / (1 - bar[t])
        of_x_t = math.sqrt(1 - beta[t - 1]) * (1 - bar[t - 1]) / (1 - bar[t])
        assert step.beta == pytest.approx(beta[t - 1], rel=1e-9)
        assert step.posterior_variance == pytest.approx(variance, rel=1e-9, abs=1e-15)
        assert step.posterior == pytest.approx((of_x, of_x_t), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("schedule", [Schedule("linear", T), Schedule("cosine", None)], ids=["strided", "continuous"])
def test_the_posterior_of_a_longer_step_is_bayes_rule(schedule):
    x, x_t = 0.4, -1.3
    for t, s in ((1, 0.9), (0.5, 0.25), (0.1, 0.001)):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
        # x_t = ratio·x_s + N(0, beta), and x_s = α_s·x + N(0, σ_s²): precisions add up.
        ratio = alpha_t / alpha_s
        beta = sigma_t**2 - ratio**2 * sigma_s**2
        precision = ratio**2 / beta + 1 / sigma_s**2
        mean = (ratio * x_t / beta + alpha_s * x / sigma_s**2) / precision
        step = schedule.step(t, s)
        assert step.posterior_variance == pytest.approx(1 / precision, rel=1e-9)
        assert step.posterior[0] * x + step.posterior[1] * x_t == pytest.approx(mean, rel=1e-9)


def test_the_variance_is_interpolated_in_its_log():
    step = Schedule("linear", T).step(0.5, 0.4)
    assert step.log_variance(0) == pytest.approx(math.log(step.posterior_variance))
    assert step.log_variance(1) == pytest.approx(math.log(step.beta))
    half = np.exp(step.log_variance(np.array([0.5])))
    assert half == pytest.approx(math.sqrt(step.beta * step.posterior_variance))


def test_an_ancestral_step_is_ddpms():
    step, draw = Schedule("cosine", T).step(0.7, 0.69), np.random.default_rng(1)
    x_t, x0, noise = draw.standard_normal((3, 2, 4))
    bar_t, bar_s = kept("cosine")[700], kept("cosine")[690]
    beta = 1 - bar_t / bar_s
    mean = math.sqrt(bar_s) * beta / (1 - bar_t) * x0 + math.sqrt(1 - beta) * (1 - bar_s) / (1 - bar_t) * x_t
    smaller = (1 - bar_s) / (1 - bar_t) * beta
    np.testing.assert_allclose(step.ancestral(x_t, x0, noise), mean + math.sqrt(smaller) * noise, rtol=1e-9)
    np.testing.assert_allclose(step.ancestral(x_t, x0, noise, 1.0), mean + math.sqrt(beta) * noise, rtol=1e-9)
    for last in (Schedule("cosine", T).step(1 / T, 0), Schedule("cosine", None).step(0.1, 0)):
        np.testing.assert_allclose(last.ancestral(x_t, x0, None), x0, rtol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_a_ddim_step_is_the_papers(eta):
    step, draw = Schedule("linear", T).step(0.6, 0.5), np.random.default_rng(2)
    x_t, x0, noise = draw.standard_normal((3, 2, 4))
    now, before = kept("linear")[600], kept("linear")[500]
    epsilon = (x_t - math.sqrt(now) * x0) / math.sqrt(1 - now)
    sigma = eta * math.sqrt((1 - before) / (1 - now)) * math.sqrt(1 - now / before)  # equation 16
    expected = math.sqrt(before) * x0 + math.sqrt(1 - before - sigma**2) * epsilon + sigma * noise  # equation 12
    np.testing.assert_allclose(step.ddim(x_t, x0, noise, eta), expected, rtol=1e-9)
    if eta == 1:
        np.testing.assert_allclose(expected, step.ancestral(x_t, x0, noise), rtol=1e-9)


@pytest.mark.parametrize("target", ["x0", "epsilon", "v"])
def test_image_and_noise_come_back_out_of_every_target(target):
    draw = np.random.default_rng(3)
    x, epsilon = draw.standard_normal((2, 5, 3))
    alpha, sigma = Schedule("cosine", T).alpha_sigma(0.37)
    of_x, of_epsilon = target_weights(target, alpha, sigma)
    expected = {"x0": x, "epsilon": epsilon, "v": alpha * epsilon - sigma * x}[target]
    np.testing.assert_allclose(of_x * x + of_epsilon * epsilon, expected, rtol=1e-12)
    found = both(target, expected, alpha * x + sigma * epsilon, alpha, sigma)
    np.testing.assert_allclose(found, [x, epsilon], rtol=1e-9)


def test_guidance_goes_beyond_the_condition():
    conditional, unconditional = np.random.default_rng(4).standard_normal((2, 3, 4))
    for weight in (0, 1, 3.5):
        expected = unconditional + weight * (conditional - unconditional)
        np.testing.assert_allclose(guided(conditional, unconditional, weight), expected, rtol=1e-12, atol=1e-12)


def test_thresholding_is_static_or_by_each_images_own_percentile():
    x = np.linspace(-3, 3, 7).reshape(1, 7, 1) * np.float64([[[1]], [[0.2]]])  # up to 3, and up to 0.6
    np.testing.assert_array_equal(thresholded(x, None), np.clip(x, -1, 1))
    found = thresholded(x, 50)
    reach = sorted(np.abs(x[0]).ravel())[3]  # the median of seven
    np.testing.assert_allclose(found[0], [[min(max(each, -reach), reach) / reach] for each in x[0, :, 0]])
    np.testing.assert_allclose(found[1], x[1])  # no pixel is beyond 1, so nothing is made paler


# ── Many steps, on a mixture whose noise is known

CENTRES = np.array([[-1.0, -0.5], [1.0, -0.5], [0.0, 1.0]])
WEIGHTS, STD = np.array([0.2, 0.3, 0.5]), 0.2


def exact(target, schedule):
    """What a perfect network says of points (n, 2, 1, 1) of the mixture, times α, plus noise."""

    def predict(x_t, t):
        alpha, sigma = schedule.alpha_sigma(t)
        points = x_t.reshape(-1, 1, 2).astype(np.float64)
        variance = alpha**2 * STD**2 + sigma**2
        away = points - alpha * CENTRES
        log_share = np.log(WEIGHTS) - (away**2).sum(-1) / (2 * variance)
        share = np.exp(log_share - logsumexp(log_share, axis=1, keepdims=True))
        mean = CENTRES + alpha * STD**2 / variance * away
        x0 = (share[..., None] * mean).sum(1)
        epsilon = (points[:, 0] - alpha * x0) / max(sigma, 1e-12)
        of_x, of_epsilon = target_weights(target, alpha, sigma)
        return (of_x * x0 + of_epsilon * epsilon).reshape(x_t.shape), None

    return predict


def drawn(how, schedule, target, n):
    x = np.random.default_rng(5).standard_normal((n, 2, 1, 1)).astype(np.float32)
    return denoise(exact(target, schedule), x, np.arange(n), how, schedule, target, lambda x0, percentile: x0)


def assert_mixture(points, shares, centres, stds):
    points = points.reshape(-1, 2)
    nearest = np.argmin(((points[:, None] - CENTRES) ** 2).sum(-1), 1)
    assert np.abs(np.bincount(nearest, minlength=3) / len(points) - WEIGHTS).max() < shares
    for i in range(3):
        np.testing.assert_allclose(points[nearest == i].mean(0), CENTRES[i], atol=centres)
        np.testing.assert_allclose(points[nearest == i].std(0), STD, rtol=stds)


@pytest.mark.parametrize(
    ("how", "schedule", "target", "n"),  # fewer where each image has noise of its own at each step
    [
        (How(100, "ddpm", variance=0.5), Schedule("linear", T), "epsilon", 500),
        (How(100, "ddpm", variance=0.5), Schedule("cosine", None), "v", 500),
        (How(60, "ddim"), Schedule("cosine", None), "v", 4000),
        (How(60, "ddim", eta=0.5), Schedule("linear", None), "epsilon", 500),
        (How(60, "ddim"), Schedule("cosine", T), "x0", 4000),
    ],
    ids=["ddpm", "ddpm, continuous", "ddim", "ddim, eta", "ddim, x0"],
)
def test_with_the_exact_noise_the_density_is_drawn(how, schedule, target, n):
    error = 1 / math.sqrt(n)
    # Three standard deviations of what so many points tell, of the smallest component a fifth of them.
    points = drawn(how, schedule, target, n)
    assert_mixture(points, shares=1.6 * error, centres=7 * STD * error, stds=0.03 + 5 * error)


@pytest.mark.parametrize("target", ["epsilon", "v", "x0"])
def test_ddim_goes_back_to_where_it_came_from(target):
    schedule, draw = Schedule("linear", None), np.random.default_rng(6)
    start = draw.standard_normal((200, 2, 1, 1)).astype(np.float32)
    errors = []
    for steps in (100, 400):
        predict = exact(target, schedule)
        points = denoise(predict, start, np.arange(200), How(steps), schedule, target, lambda x0, percentile: x0)
        errors.append(np.sqrt(((invert(predict, points, steps, schedule, target) - start) ** 2).mean()))
    assert errors[1] < 0.05 and errors[1] < errors[0] / 2  # of order 1/steps


def test_noise_is_an_images_own():
    schedule = Schedule("linear", T)
    x = np.random.default_rng(7).standard_normal((4, 2, 1, 1)).astype(np.float32)
    seeds, how = np.array([3, 1, 4, 15]), How(10, "ddpm")
    together = denoise(exact("epsilon", schedule), x, seeds, how, schedule, "epsilon")
    alone = denoise(exact("epsilon", schedule), x[2:3], seeds[2:3], how, schedule, "epsilon")
    assert np.array_equal(together[2:3], alone)
    other = denoise(exact("epsilon", schedule), x[2:3], seeds[:1], how, schedule, "epsilon")
    assert not np.array_equal(other, alone)


# ── What may be asked for


def test_what_is_asked_for_replaces_the_runs_way_of_drawing_and_nothing_else():
    how = How(50, "ddim", 2.0).changed(SampleOptions(steps=7, percentile=99.5), Schedule("cosine", T))
    assert how == How(7, "ddim", 2.0, percentile=99.5)
    assert How.of(how.as_inputs()) == how
    assert How.of(How(3, "ddpm").as_inputs()) == How(3, "ddpm")


def test_more_steps_than_a_model_was_trained_with_are_refused():
    with pytest.raises(ConfigError, match="steps=11: there are 1 to 10 steps"):
        How(5).changed(SampleOptions(steps=11), Schedule("cosine", 10))
