"""Checkpoints of older releases go on and can be sampled, for ever. See tests/store/a1bd39e/README.md."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import ganfleet
from fleets import newest
from PIL import Image

import ganfleet as library
from ganfleet.observe.grid import grid
from ganfleet.store import checkpoint

RUNS = Path(__file__).parents[1] / "store" / "a1bd39e"


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("dcgan", "stylegan", "cyclegan")]


@pytest.fixture(params=["wgan", *SLOW])
def run(request, tmp_path, monkeypatch):
    """A copy of a run of the first release that was stopped halfway, as the working directory has it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RUNS / request.param, tmp_path / "runs" / request.param)
    shutil.copytree(RUNS / "ab", tmp_path / "ab")
    return tmp_path / "runs" / request.param


def old_digest(path: Path) -> dict[str, str]:
    return dict(line.split() for line in path.read_text().splitlines())


def test_a_run_of_the_first_release_goes_on_to_the_same_bits(run):
    """What the old code had after 8 steps straight through, the new code has after the old's first four."""
    ended = ganfleet("train", "--config", str(run / "config.yaml"), f"run.name={run.name}", "run.dir=runs")
    assert ended.code == 0, ended.output
    assert "resumed from" in ended.output
    old, new = old_digest(run / "step-00000008.digest"), checkpoint.digest(as_the_first_release_said_it(newest(run)))
    for component in old:
        if component not in ("source", "total"):  # the data's names are new among the facts
            assert new[component] == old[component], component


def as_the_first_release_said_it(snapshot):
    """Buffers back among the weights and in ``strategy``, under their old names."""
    tensors = {name: group for name, group in snapshot.tensors.items() if not name.endswith(".buffers")}
    tensors["strategy"] = {}
    for component in set(snapshot.tensors) - set(tensors):
        for name, array in snapshot.tensors[component].items():
            if name == "G.w_avg.value":
                tensors["strategy"]["w_avg"] = array
            else:
                weights = component.replace(".buffers", ".weights")
                tensors[weights] = tensors[weights] | {name.replace(".moments.value", ".running"): array}
    facts = {name: fact for name, fact in snapshot.facts.items() if name not in ("frozen", "scaler", "accepted")}
    return checkpoint.Snapshot(tensors, facts, {})


@pytest.mark.parametrize("name", ["dcgan", "stylegan"])
def test_a_checkpoint_of_the_first_release_draws_the_same_images(name):
    """The committed picture is what the first release's ``ganfleet sample --seeds 0-3`` drew of step 4."""
    with library.load(RUNS / name) as loaded:
        images = loaded.sample(range(4))
    with Image.open(RUNS / f"{name}.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), grid(images))
