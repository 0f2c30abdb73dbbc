"""CycleGAN in training: its pools, its schedule, and the same bits on any fleet, pools included."""

from pathlib import Path

import numpy as np
import pytest
from commands import ganfleet
from in_memory import trainer
from mindspore import Tensor
from PIL import Image

from ganfleet import config as configs
from ganfleet.clock import Clock
from ganfleet.engine import run
from ganfleet.engine.tensors import copy
from ganfleet.errors import ConfigError
from ganfleet.fleet import SimulatedFleet
from ganfleet.store import checkpoint
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.cyclegan import CycleGAN
from ganfleet.strategies.cyclegan.pool import exchange
from ganfleet.testing import FakeImages

YAML = """
strategy:
  {{name: cyclegan, resolution: 24, ngf: 2, ndf: 2, blocks: 1, pool: 2, lr_constant_kimg: 0.01, lr_decay_kimg: 0.02}}
data: {{source: unpaired, path: "{path}", load_size: 26, flip: true}}
train: {{steps: 6, batch_size: 4, lanes: 4, seed: 5}}
"""
STEPS = 6


def draw_images(folder: Path, count: int, seed: int, size: int = 26) -> None:
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(seed).integers(256, size=(count, size, size, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trainer for seven images of A and five of B, and the snapshot it starts from."""
    directory = tmp_path_factory.mktemp("cyclegan")
    draw_images(directory / "photos" / "trainA", 7, seed=1)
    draw_images(directory / "photos" / "trainB", 5, seed=2)
    path = directory / "data.yaml"
    path.write_text(yaml := YAML.format(path=directory / "photos"))
    made = trainer(yaml, run.data_of(configs.load(path)), directory)
    yield made, made.snapshot()
    made.loader.close()


def go_on(trained, snapshot, world_size, steps):
    """The snapshot after ``steps`` more on a fleet of ``world_size``."""
    trained.stepper.fleet = trained.fleet = SimulatedFleet(4, "exact", world_size)
    for memory in trained.memory.values():
        memory.clear()
    trained.restore(snapshot)
    for _ in range(steps):
        trained.stepper.step(trained.loader.next().lanes, trained.clock, np.zeros(2, np.float32))
        trained.clock.tick(4)
    return trained.snapshot()


@pytest.mark.slow
def test_every_fleet_and_every_resume_gives_the_same_bits(trained):
    made, start = trained
    straight = {size: go_on(made, start, size, STEPS) for size in (1, 2, 4)}
    digests = {size: checkpoint.digest(snapshot) for size, snapshot in straight.items()}
    assert digests[1] == digests[2] == digests[4] != checkpoint.digest(start)

    pools = straight[1].tensors["lanes"]
    assert set(pools) == {f"{lane}/fake_{d}/{place}" for lane in range(4) for d in "ab" for place in range(2)}
    assert all(image.shape == (3, 24, 24) for image in pools.values())

    half = go_on(made, start, 4, STEPS // 2)
    assert checkpoint.digest(go_on(made, half, 2, STEPS - STEPS // 2)) == digests[1]

    pools = half.tensors["lanes"]
    half.tensors["lanes"] = pools | {"2/fake_a/0": pools["2/fake_a/1"], "2/fake_a/1": pools["2/fake_a/0"]}
    other_pool = checkpoint.digest(go_on(made, half, 2, STEPS - STEPS // 2))
    assert other_pool["lanes"] != digests[1]["lanes"]


def shown(fakes, memory, name, size, rng):
    """What a pool shows instead of these numbers."""
    return exchange(Tensor(np.float32(fakes)[:, None]), memory, name, size, rng).asnumpy()[:, 0].tolist()


def held(memory):
    return {name: copy(image).item() for name, image in memory.items()}


def test_a_pool_shows_what_is_new_until_it_is_full_and_then_something_old_half_of_the_time():
    memory, rng = {}, np.random.default_rng(0)
    assert shown([0, 1, 2], memory, "fake", 3, rng) == [0, 1, 2]
    assert held(memory) == {"fake/0": 0, "fake/1": 1, "fake/2": 2}

    seen, swapped = list(range(3)), 0
    for new in range(3, 1003):
        before = set(held(memory).values())
        [old] = shown([new], memory, "fake", 3, rng)
        swapped += old != new
        assert set(held(memory).values()) == (before if old == new else before - {old} | {new})
        seen.append(old)
        if new == 500:  # as after a resume
            memory = {name: copy(image) for name, image in memory.items()}
    assert len(memory) == 3
    assert 450 <= swapped <= 550
    assert len(set(seen[3:])) == 1000  # whatever leaves the pool is shown once


def test_two_pools_of_one_lane_do_not_mix():
    memory, rng = {}, np.random.default_rng(0)
    for value in range(1, 51):
        assert min(shown([value, value], memory, "fake_a", 2, rng)) > 0
        assert max(shown([-value, -value], memory, "fake_b", 2, rng)) < 0


@pytest.mark.parametrize(("kimg", "share"), [(0, 1), (100, 1), (125, 0.75), (175, 0.25), (200, 0), (300, 0)])
def test_the_learning_rate_is_constant_and_then_falls_linearly_to_zero(kimg, share):
    options = CycleGAN.Options(lr=1e-3, lr_constant_kimg=100, lr_decay_kimg=100)
    strategy = CycleGAN(options, ImageSpec(channels=3), batch_size=1)
    for name in ("G", "D"):
        clock = Clock(total_nimg=10**6, nimg=kimg * 1000)
        assert strategy.hyper(name, clock) == {"lr": pytest.approx(1e-3 * share)}


@pytest.mark.parametrize("resolution", [20, 30])
def test_a_resolution_that_the_networks_cannot_have_is_refused(resolution, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"strategy: {{name: cyclegan, resolution: {resolution}}}")
    message = ganfleet("plan", "--config", str(path)).output
    assert "strategy.resolution" in message and "must be a multiple of 4, 24 or more" in message


@pytest.mark.parametrize("strategy, names", [("cyclegan", ("image",)), ("dcgan", ("image_a", "image_b"))])
def test_a_source_with_other_images_than_the_strategy_reads_is_refused(strategy, names, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"strategy: {{name: {strategy}, resolution: 32}}\ntrain: {{batch_size: 1, lanes: 1}}\n")
    with pytest.raises(
        ConfigError, match=f"this source's have {' and '.join(names)}: choose a data.source that has these"
    ):
        run.strategy_of(configs.load(path), FakeImages(names=names))


def test_seeds_are_refused_with_a_word_on_what_to_use():
    strategy = CycleGAN(CycleGAN.Options(), ImageSpec(channels=3), batch_size=1)
    with pytest.raises(ConfigError, match="ganfleet translate"):
        strategy.sample_inputs(np.random.default_rng(0), Clock(total_nimg=1))
