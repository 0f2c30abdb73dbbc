"""``engine.upload``: what goes to a card in one copy arrives as it was."""

import mindspore as ms
import numpy as np

from ganfleet.engine import upload


def test_what_goes_in_one_copy_arrives_with_the_bits_shapes_and_types_of_tensors_made_singly():
    rng = np.random.default_rng(0)
    lanes = [
        {
            "z": rng.standard_normal((3, 5)),
            "label": rng.integers(-(2**31), 2**31, 3),
            "image": np.asfortranarray(rng.standard_normal((3, 1, 4, 4), dtype=np.float32)),
            "flip": rng.random(3) < 0.5,
            "rate": np.float32(lane),
        }
        for lane in range(2)
    ]
    lanes[1]["none"] = np.zeros((0, 4), np.float32)
    for sent, arrived in zip(lanes, upload.in_one_copy(lanes), strict=True):
        assert set(arrived) == set(sent)
        for name, array in sent.items():
            is_float = np.issubdtype(np.asarray(array).dtype, np.floating)
            assert arrived[name].dtype == (ms.float32 if is_float else ms.int32)
            assert arrived[name].shape == array.shape
            np.testing.assert_array_equal(arrived[name].asnumpy(), array.astype(np.float32 if is_float else np.int32))


def test_a_phase_that_draws_nothing_is_sent_nothing():
    assert upload.in_one_copy([{}, {}]) == [{}, {}]
