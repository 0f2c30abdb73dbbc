from lsgan import LSGAN

from ganfleet import testing

SMALL = {"resolution": 8, "latent": 4, "width": 4}


def test_any_fleet_trains_it_to_the_same_bits():
    testing.assert_fleet_invisible(LSGAN, options=SMALL)


def test_it_goes_on_where_it_was_stopped():
    testing.assert_resumes(LSGAN, options=SMALL)


def test_an_untrained_d_knows_nothing():
    first = testing.simulate(LSGAN, options=SMALL, steps=1)
    assert abs(first.stats[0]["Loss/D"] - 1) < 0.5  # (0 - 1)² + 0²
    assert first.images.shape == (4, 1, 8, 8)
