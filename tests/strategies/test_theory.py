"""With G fixed and only D trained, D approaches D* and V its supremum −log 4 + 2·JSD (arXiv:1406.2661, section 4)."""

import numpy as np
import pytest
from one_dimension import GRID, P_DATA, Values, jsd, logits, optimal_d, sigmoid, train
from scipy.stats import norm


def mean_error(d, p_g):
    """E |D(x) − D*(x)| for x from p_data or p_g with equal chances."""
    return np.trapz(np.abs(d - optimal_d(p_g, GRID)) * (P_DATA.pdf(GRID) + p_g.pdf(GRID)) / 2, GRID)


@pytest.mark.slow
def test_a_trained_discriminator_is_the_ratio_of_densities_and_its_value_the_divergence(tmp_path):
    p_g = norm(1, 0.7)
    seen = Values(p_g, every=20)
    trained = train(p_g, 400, tmp_path, seen)

    bound = -np.log(4) + 2 * jsd(p_g)
    values = np.array([value for _, value in seen.values])
    assert values.max() <= bound, "no D is better than D*"
    assert values[0] < bound - 0.005, "there was something to learn"
    assert values[-1] == pytest.approx(bound, abs=0.003)
    assert mean_error(sigmoid(logits(trained)), p_g) < 0.02


@pytest.mark.slow
def test_against_a_perfect_generator_the_discriminator_is_one_half_and_its_value_minus_log_4(tmp_path):
    seen = Values(P_DATA, every=10)
    trained = train(P_DATA, 100, tmp_path, seen)

    assert jsd(P_DATA) == pytest.approx(0, abs=1e-12)
    values = [value for _, value in seen.values]
    assert max(values) <= -np.log(4) + 1e-9  # the error of float32 logits
    assert values[-1] == pytest.approx(-np.log(4), abs=1e-3)
    assert mean_error(sigmoid(logits(trained)), P_DATA) < 0.01
