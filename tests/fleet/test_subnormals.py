"""Numbers below the smallest normal one of float32: whichever thread computes with them, they are zero."""

import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, ops
from mindspore import nn as ms_nn
from one_number import OneNumber

from ganfleet import nn, testing
from ganfleet.cli.train import train_alone
from ganfleet.fleet import subnormals
from ganfleet.nn import forms
from ganfleet.strategies.base import Player

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="tried on x86-64 alone")
TINY = np.full(17, 714, np.uint32).view(np.float32)  # 1e-42, which these tests would take for zero if they read it


def doubled() -> float:
    return float((TINY + TINY)[0])


class Sum(ms_nn.Cell):
    @ms.jit
    def construct(self, x, y):
        return x + y


@pytest.mark.parametrize("make", [lambda: ops.add, Sum], ids=["eagerly", "in a graph"])
def test_mindspore_gives_zero_whichever_of_its_threads_computes(make):
    """Without ``flush``, it gives zero half of the times."""
    add, one, other = make(), Tensor(TINY), Tensor(TINY)
    assert {add(one, other).asnumpy().tobytes() for _ in range(40)} == {bytes(TINY.nbytes)}


class Faint(OneNumber):
    """Its loss is so faint that its gradients are near 1e-38."""

    def players(self, stage):
        return {"D": Player(ms_nn.SequentialCell(nn.Dense(stage.resolution**2, 1)), nn.Adam(0.1))}

    def loss(self, nets, real, noise):
        loss, stats = super().loss(nets, real, noise)
        return 3e-36 * loss, stats


@pytest.mark.parametrize("form", [None, forms.STOCK], ids=["auto", "stock"])
def test_fleets_of_every_size_agree_about_gradients_that_may_be_subnormal(form):
    """Without ``flush``, one rank and two differ in Adam's mean of the gradients, by 2e-40."""
    with forms.using(form):
        testing.assert_fleet_invisible(Faint, steps=6)
        means = testing.simulate(Faint, steps=6).snapshot.tensors["D.optimizer"]["m/D.0.weight"]
    assert set(means.ravel() == 0) == {False, True}


@pytest.fixture
def unflushed():
    before = subnormals.flush(False)
    yield
    subnormals.flush(before)


def test_it_holds_for_this_thread_and_those_it_starts_until_the_end_of_the_block(unflushed):
    assert doubled() == 2 * 714 * 2.0**-149
    with subnormals.flushed(), ThreadPoolExecutor(1) as pool:
        with subnormals.flushed():
            assert doubled() == 0
        assert doubled() == 0 == pool.submit(doubled).result()
    assert doubled() > 0


def test_of_blocks_that_overlap_the_last_one_ends_it(unflushed):
    first, second = subnormals.flushed(), subnormals.flushed()
    first.__enter__(), second.__enter__()
    first.__exit__(None, None, None)
    assert doubled() == 0
    second.__exit__(None, None, None)
    assert doubled() > 0


def test_it_holds_when_a_plugin_is_imported_which_may_compute(unflushed, monkeypatch):
    class Loaded(Exception):
        pass

    def load(path, overrides):
        raise Loaded(doubled())

    monkeypatch.setattr("ganfleet.config.load", load)
    with pytest.raises(Loaded, match=r"^0\.0$"):
        train_alone("any", ())


def test_numpy_does_not_warn_that_the_smallest_number_is_zero():
    code = (
        "import numpy as np; from ganfleet.fleet import subnormals; subnormals.flush(); "
        "print(*[np.finfo(kind).smallest_subnormal.astype(kind).tobytes().hex() for kind in 'efd'], np.finfo('g').eps)"
    )
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    expected = [np.array([1], f"<u{size}").tobytes().hex() for size in (2, 4, 8)]
    assert (ended.returncode, ended.stdout.split()[:3]) == (0, expected), ended.stderr
