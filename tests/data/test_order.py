"""The order of the data: a permutation per epoch, of (seed, epoch) alone."""

from ganfleet.data.order import index_at


def epoch_of(number, size=50, seed=3):
    return [index_at(position, size, seed) for position in range(number * size, (number + 1) * size)]


def test_every_epoch_visits_every_image_once():
    for number in (0, 1, 2, 1000):
        assert sorted(epoch_of(number)) == list(range(50))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [epoch_of(0), epoch_of(1), epoch_of(0, seed=4), list(range(50))]
    assert len({tuple(order) for order in orders}) == 4


def test_a_position_can_be_asked_for_in_any_sequence():
    forwards = [index_at(p, 7, seed=1) for p in range(70)]
    backwards = [index_at(p, 7, seed=1) for p in reversed(range(70))]
    assert forwards == backwards[::-1]


def test_the_order_of_a_seed_never_changes():
    """A run resumed under another numpy goes on with the images it would have had."""
    assert epoch_of(0, size=10, seed=0) == [2, 1, 7, 9, 0, 3, 5, 4, 8, 6]
