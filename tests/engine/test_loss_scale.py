"""The loss scale of float16 on the device: when it moves, and which overflow is a fault of the run."""

import json

import numpy as np
import pytest
from mindspore import Tensor

from ganfleet.engine.loss_scale import LossScale

GOOD, OVERFLOW = np.float32([1, 7, 9]), np.float32([0, np.nan, 9])


def after(scale, events):
    """For each event, g for a good update and o for an overflow, the scale and whether the run has a fault."""
    seen = []
    for event in events:
        summary = GOOD if event == "g" else OVERFLOW
        given = scale.after(Tensor(summary)).asnumpy()
        np.testing.assert_array_equal(given[1:], summary[1:])
        seen.append((scale.state()["scale"], given[0] == 0))
    return seen


def test_it_doubles_after_good_updates_in_a_row_and_halves_at_each_overflow():
    seen = after(LossScale(lanes=1, start=8.0, interval=3), "gggggogggoo")
    assert [scale for scale, _ in seen] == [8, 8, 16, 16, 16, 8, 8, 8, 16, 8, 4], "an overflow starts the count anew"
    assert not any(fault for _, fault in seen)


def test_an_overflow_is_a_fault_only_where_the_scale_cannot_fall():
    seen = after(LossScale(lanes=1, start=4.0, interval=2), "ooooggo")
    assert seen == [(2, False), (1, False), (1, True), (1, True), (1, False), (2, False), (1, False)]


def test_it_starts_at_two_to_the_16_and_doubles_after_2000_updates():
    scale = LossScale(lanes=1)
    scale.load_state(scale.state() | {"good": 1998})
    assert [each for each, _ in after(scale, "gg")] == [2**16, 2**17]


@pytest.mark.parametrize("lanes", [1, 6, 7, 24])
def test_the_mean_of_a_scaled_sum_has_the_bits_of_one_that_was_not(lanes):
    scale = LossScale(lanes, interval=2)
    total = np.float32([1.1, -3e-7, 12345.678])
    for event in "ggogooog":
        mean = scale.mean.asnumpy() * (total * scale.scale.asnumpy())
        np.testing.assert_array_equal(mean, np.float32(1 / lanes) * total)
        after(scale, event)


def test_it_goes_on_from_its_state():
    scale = LossScale(lanes=3, start=8.0, interval=3)
    after(scale, "og")
    other = LossScale(lanes=3, interval=3)
    other.load_state(json.loads(json.dumps(scale.state())))
    assert after(scale, "gg") == after(other, "gg")
    assert scale.state() == other.state() == {"scale": 8.0, "good": 0}
