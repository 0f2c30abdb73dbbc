"""Which sizes networks reach by doubling: powers of two, and else a power of two times a size from 4x4 to 32x32."""

from itertools import product

import pytest
from pydantic import ValidationError

from ganfleet.size import Size
from ganfleet.strategies.dcgan import DCGAN
from ganfleet.strategies.doubling import doublings, needed
from ganfleet.strategies.wgan import WGAN

SIDES = range(1, 140)
REACHED = {
    times: {
        (a << k, b << k)
        for k in range(times, 9)
        for a, b in product(range(4, 33), repeat=2)
    }
    for times in (0, 1)
}  # fmt: skip


@pytest.mark.parametrize("times", [0, 1])
def test_every_size_is_taken_or_refused_with_one_that_is_taken(times):
    for height, width in product(SIDES, repeat=2):
        if height == width:
            continue
        told = needed(Size(height, width), times)
        assert (told is None) == ((height, width) in REACHED[times]), (height, width)
        if told:
            such_as = [int(side) for side in told.rpartition("such as ")[2].split("x")]
            assert len(such_as) == 1 or tuple(such_as) in REACHED[times], told


def test_squares_are_powers_of_two_as_ever():
    assert [side for side in SIDES if needed(side, 0) is None] == [4, 8, 16, 32, 64, 128]
    assert [side for side in SIDES if needed(side, 1, most=32) is None] == [8, 16, 32]


def test_doubling_begins_with_what_is_left_of_both_sides():
    assert doublings(32) == [4, 8, 16, 32]
    assert doublings(Size(32, 48)) == [Size(4, 6), Size(8, 12), Size(16, 24), Size(32, 48)]
    assert doublings(Size(6, 4)) == [Size(6, 4)]


@pytest.mark.parametrize("options, told", [(DCGAN.Options, "must be 2, 4, 8 …"), (WGAN.Options, "that is 2, 4, 8 …")])
def test_convolutions_refuse_other_sizes(options, told):
    with pytest.raises(ValidationError, match=f"{told} times a size from 4x4 to 32x32, such as 96x144"):
        options(resolution=[100, 150])
