"""Why a critic: of two lines apart JSD is log 2 at any distance and moves nothing, W is the distance and does."""

import numpy as np
import pytest
from parallel_lines import best_slope, distance, divergence, line, slope, train
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance_nd

THETAS = [0.25, 2]
TRAINED = [THETAS[0], *(pytest.param(theta, marks=pytest.mark.slow) for theta in THETAS[1:])]


@pytest.mark.parametrize("theta", THETAS)
def test_the_closed_forms_are_what_scipy_computes(theta):
    real, fake = line(0, 40), line(theta, 40)
    assert wasserstein_distance_nd(real, fake) == pytest.approx(theta)
    edges = [np.linspace(-0.1, 3.1, 33), np.linspace(0, 1, 5)]
    p, q = (np.histogramdd(points, edges)[0].ravel() for points in (real, fake))
    assert jensenshannon(p, q) ** 2 == pytest.approx(np.log(2))


@pytest.mark.slow
@pytest.mark.parametrize("theta", TRAINED)
def test_a_trained_discriminator_finds_log_2_at_any_distance_and_gives_no_gradient(theta, tmp_path):
    trained = train("JSGame", theta, 300, tmp_path)
    assert divergence(trained) == pytest.approx(np.log(2), abs=0.01)
    assert divergence(trained) < np.log(2)
    assert abs(slope(trained, trained.strategy.minimax_g_loss)) < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("theta", TRAINED)
def test_a_trained_critic_finds_the_distance_and_its_gradient_is_as_large_at_any(theta, tmp_path):
    trained = train("WGame", theta, 300, tmp_path)
    expected = best_slope(theta, penalty=10)
    assert distance(trained) == pytest.approx(theta * expected, rel=0.03)
    assert slope(trained, trained.strategy.g_loss) == pytest.approx(expected, rel=0.05)
