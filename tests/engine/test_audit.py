"""Replicas that drift apart are found by checksums, named, and repaired where the ranks can tell who is right."""

import threading

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from ganfleet.engine.audit import audit
from ganfleet.errors import ReplicasDiverged
from ganfleet.nn import forms

LAYOUT = [("D.first.weight", 12), ("D.last.bias", 3)]
FLAT = ("D.weights", "D.optimizer")  # one vector of both; the others are vectors of their own
NAMES = ["D.weights/D.first.weight", "D.optimizer/m/D.last.bias", "D.networks/D.last.bias", "frozen/vgg.weight"]


class Ranks:
    """A fleet whose ranks are threads that gather in this process."""

    backend = "threads"

    def __init__(self, count):
        self.world_size = count
        self._all_here = threading.Barrier(count, timeout=60)
        self._values = [None] * count

    def audit(self, replicas, repair=False):
        """What each rank's audit returned or raised."""
        outcomes = [None] * len(replicas)

        def one(rank):
            try:
                outcomes[rank] = audit(Rank(self, rank), replicas[rank], repair)
            except ReplicasDiverged as error:
                outcomes[rank] = error

        threads = [threading.Thread(target=one, args=[rank]) for rank in range(1, len(replicas))]
        for thread in threads:
            thread.start()
        one(0)  # here, as MindSpore computes in one thread only
        for thread in threads:
            thread.join()
        return outcomes

    def gather(self, rank, value):
        self._values[rank] = value
        self._all_here.wait()
        values = list(self._values)
        self._all_here.wait()
        return values


class Rank:
    def __init__(self, ranks, rank):
        self.ranks, self.rank, self.world_size, self.backend = ranks, rank, ranks.world_size, ranks.backend

    def gather(self, value):
        return self.ranks.gather(self.rank, value)


class Replica:
    """One rank's program; the lowest bit of one number is flipped in the tensor of that name."""

    def __init__(self, flipped=None):
        rng = np.random.default_rng(7)
        self.vectors = {}
        for name in NAMES:
            vector, _, piece = name.rpartition("/") if name.startswith(FLAT) else (name, "", "")
            values = rng.standard_normal(15).astype(np.float32)
            if name == flipped:
                values.view(np.uint32)[13 if "last" in name else 5] ^= 1
            pieces = LAYOUT if piece else [("", 15)]
            self.vectors[vector] = (Parameter(Tensor(values), name=vector), pieces)

    def replicated(self):
        return self.vectors

    def bits(self):
        return [tensor.asnumpy().tobytes() for tensor, _ in self.vectors.values()]


def test_equal_replicas_pass_the_audit():
    assert Ranks(3).audit([Replica() for _ in range(3)]) == [None] * 3


@pytest.mark.parametrize("tensor", NAMES)
def test_one_flipped_bit_is_found_by_every_rank_with_the_tensor_and_the_rank(tensor):
    outcomes = Ranks(3).audit([Replica(), Replica(tensor), Replica()])
    assert {type(outcome) for outcome in outcomes} == {ReplicasDiverged}
    assert {outcome.exit_code for outcome in outcomes} == {82}
    assert len({str(outcome) for outcome in outcomes}) == 1
    assert f"differ: {tensor} on rank 1. " in str(outcomes[0])


def test_the_odd_rank_takes_over_what_the_others_hold_where_it_shall_be_repaired():
    replicas = [Replica(NAMES[0]), Replica(), Replica()]
    outcomes = Ranks(3).audit(replicas, repair=True)
    assert len(set(outcomes)) == 1
    assert f"differed: {NAMES[0]} on rank 0. These now hold what rank 1 holds" in outcomes[0]
    assert [each.bits() for each in replicas] == [Replica().bits()] * 3


@pytest.mark.parametrize("repair", [False, True])
def test_of_two_ranks_neither_is_called_the_right_one(repair):
    outcomes = Ranks(2).audit([Replica(), Replica(NAMES[3])], repair)
    assert f"differ: {NAMES[3]} on ranks 0, 1. " in str(outcomes[0])


@pytest.mark.parametrize("checksums", [forms.checksums, forms.checksums_on_device])
def test_a_flip_of_any_bit_of_any_element_changes_the_checksum_of_its_piece_alone(checksums):
    values = np.float32([1.5, -0.0, 3e-42, np.nan, 7e30, 0.0])

    def of(array):
        return checksums([(Tensor(array), [2, 4]), (Tensor(np.ones((2, 2), np.float32)), [4])])

    usual = of(values)
    for element in range(6):
        for bit in [*range(32)] if element in (0, 3) else (0, 22, 31):
            flipped = values.copy()
            flipped.view(np.uint32)[element] ^= np.uint32(1 << bit)
            changed = [a != b for a, b in zip(usual, of(flipped), strict=True)]
            assert changed == [element < 2, element >= 2, False], (element, bit)


def test_the_cards_checksum_is_the_documented_sum():
    values = np.random.default_rng(3).standard_normal(50_000).astype(np.float32)
    words = values.view(np.uint32).astype(object)
    expected = [int(sum(x * (2 * x + 1) for x in piece)) % 2**32 for piece in np.split(words, [1000])]
    found = forms.checksums_on_device([(Tensor(values, ms.float32), [1000, 49_000])])
    assert [each % 2**32 for each in found] == expected
