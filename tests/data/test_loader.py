"""The loader: the same batches for every fleet, from any position, with bad images replaced alike; and a clean end."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from ganfleet.data import Loader, open_source
from ganfleet.data.order import index_at
from ganfleet.errors import ConfigError, DataError
from ganfleet.fleet import cpu

LANES, BATCH, SEED = 4, 8, 5


class Numbers:
    """A source whose image i is one pixel of value i and has the label i; those in ``bad`` cannot be read."""

    def __init__(self, size=30, bad=(), error=DataError):
        self.size, self.bad, self.error = size, bad, error

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index in self.bad:
            raise self.error(f"{index} is broken")
        return {"image": np.full((1, 1, 1), index, np.uint8), "label": np.int32(index)}


def loader_of(source, owned=range(LANES), batch_size=BATCH, **options):
    return Loader(source, batch_size=batch_size, lanes=LANES, owned=owned, seed=SEED, **options)


def lanes_of(source, steps, owned=range(LANES), **options):
    """For each step the owned lanes' labels, as lists."""
    with loader_of(source, owned, **options) as loader:
        return [[lane["label"].tolist() for lane in loader.next().lanes] for _ in range(steps)]


def test_lanes_hold_the_stream_of_positions_in_order():
    stream = [index_at(position, 30, SEED) for position in range(10 * BATCH)]
    read = [label for batch in lanes_of(Numbers(), 10) for lane in batch for label in lane]
    assert read == stream


def test_a_batch_may_straddle_two_epochs():
    read = [label for batch in lanes_of(Numbers(30), 15) for lane in batch for label in lane]
    assert len(read) == 120
    assert all(sorted(read[epoch * 30 : (epoch + 1) * 30]) == list(range(30)) for epoch in range(4))


def test_a_set_smaller_than_a_batch_is_repeated():
    (batch,) = lanes_of(Numbers(3), 1)
    assert sorted(np.bincount(np.concatenate(batch))) == [2, 3, 3]


def test_images_reach_the_network_in_minus_one_to_one():
    with loader_of(Numbers(256), batch_size=256) as loader:
        lanes = loader.next().lanes
    images, labels = (np.concatenate([lane[name] for lane in lanes]) for name in ("image", "label"))
    assert images.dtype == np.float32 and images.shape == (256, 1, 1, 1) and labels.dtype == np.int32
    np.testing.assert_allclose(images.ravel(), labels / 255 * 2 - 1, atol=1e-7)
    assert images.min() == -1 and images.max() == 1


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_ranks_of_any_fleet_together_read_what_one_process_reads(world_size, photos):
    source = open_source("folder", path=photos, resolution=8, classes="subfolder")
    (photos / "cats" / "3.png").write_bytes(b"damaged")
    with loader_of(source) as alone:
        expected = [alone.next() for _ in range(5)]
    share = LANES // world_size
    ranks = [loader_of(source, range(rank * share, (rank + 1) * share)) for rank in range(world_size)]
    for batch in expected:
        parts = [rank.next() for rank in ranks]
        lanes = [lane for part in parts for lane in part.lanes]
        assert len(lanes) == LANES
        for ours, theirs in zip(lanes, batch.lanes, strict=True):
            assert all(ours[name].tobytes() == theirs[name].tobytes() for name in ("image", "label"))
        assert [bad for part in parts for bad in part.bad] == batch.bad
    for rank in ranks:
        rank.close()
    assert {index for batch in expected for index, _ in batch.bad} == {1}


def test_a_bad_image_is_reported_and_replaced_by_another():
    with loader_of(Numbers(8, bad={5})) as loader:
        batch = loader.next()
    read = [label for lane in batch.lanes for label in lane["label"]]
    assert 5 not in read and sorted({*read} | {5}) == list(range(8)) and len(read) == 8
    assert set(batch.bad) == {(5, "5 is broken")}


def test_an_image_too_small_counts_as_bad():
    with loader_of(Numbers(8, bad={5}, error=ConfigError)) as loader:
        assert set(loader.next().bad) == {(5, "5 is broken")}


def test_a_set_without_one_good_image_is_an_error():
    with loader_of(Numbers(8, bad=range(8))) as loader, pytest.raises(DataError, match="in a row cannot be used"):
        loader.next()


def test_an_error_in_a_thread_surfaces_in_next_and_stays():
    in_the_first_batch = index_at(0, 80, SEED)
    with loader_of(Numbers(80, bad={in_the_first_batch}, error=ZeroDivisionError)) as loader:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError, match=f"{in_the_first_batch} is broken"):
                loader.next()
        assert loader.position == 0


def test_position_counts_what_was_delivered_not_what_was_read_ahead():
    with loader_of(Numbers(), position=40, prefetch=5) as loader:
        assert loader.position == 40
        loader.next()
        assert loader.position == 40 + BATCH


@pytest.mark.parametrize("workers, prefetch", [(1, 0), (1, 1), (4, 7)])
def test_threads_and_prefetch_do_not_change_the_stream(workers, prefetch):
    assert lanes_of(Numbers(), 10, workers=workers, prefetch=prefetch) == lanes_of(Numbers(), 10)


def test_a_restart_goes_on_with_the_same_stream():
    straight = lanes_of(Numbers(), 10)
    with loader_of(Numbers()) as loader:
        loader.next()
        loader.restart(6 * BATCH, BATCH)
        resumed = [[lane["label"].tolist() for lane in loader.next().lanes] for _ in range(4)]
    assert resumed == straight[6:] == lanes_of(Numbers(), 4, position=6 * BATCH)


def test_a_stage_may_change_batch_size_and_resolution():
    source = open_source(resolution=32)
    with loader_of(source.at(8)) as loader:
        loader.next()
        loader.restart(loader.position, 2 * BATCH, source.at(16))
        lanes = loader.next().lanes
        assert loader.position == 3 * BATCH
    assert lanes[0]["image"].shape == (4, 1, 16, 16)
    expected = [source[index_at(position, 2000, SEED)]["label"] for position in range(BATCH, 3 * BATCH)]
    assert np.concatenate([lane["label"] for lane in lanes]).tolist() == expected


def test_a_batch_that_lanes_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="10 cannot be cut into 4"):
        loader_of(Numbers(), batch_size=10)


def test_close_leaves_no_thread():
    before = set(threading.enumerate())
    loader = loader_of(Numbers(), workers=3)
    loader.next()
    assert len(set(threading.enumerate()) - before) > 0
    loader.close()
    loader.close()
    assert set(threading.enumerate()) == before


def test_a_process_that_never_closes_its_loader_still_ends():
    code = (
        "from ganfleet.data import Loader, open_source\n"
        "loader = Loader(open_source(resolution=32), batch_size=64, lanes=1, owned=[0], seed=0, prefetch=50)\n"
        "loader.next()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)


@pytest.mark.skipif(len(cpu.allowed()) < 2, reason="needs two cores")
def test_threads_leave_the_core_that_the_main_thread_is_pinned_to():
    class Where(Numbers):
        def __getitem__(self, index):
            cores.add(frozenset(os.sched_getaffinity(0)))
            return super().__getitem__(index)

    cores = set()
    with cpu.pin(1):
        lanes_of(Where(), 1)
    assert cores == {frozenset(cpu.allowed())}


def test_the_data_package_does_not_import_mindspore():
    code = "import sys, ganfleet.data; sys.exit('mindspore' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
