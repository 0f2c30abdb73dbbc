"""The promise for Imagen and DALL·E 2: their models train to the same bits on any ranks, and after a stop.

That Imagen's base does is in tests/strategies/test_imagen.py, and that its two models draw together.
"""

from pathlib import Path

import pytest
import yaml
from commands import ganfleet
from fake_captions import cars_in
from fleets import digest, msrun, one_at_a_time, run
from PIL import Image

from ganfleet import config as configs
from ganfleet import testing
from ganfleet.data import open_section
from ganfleet.store import checkpoint

pytestmark = pytest.mark.slow
UNET = "width: 4, multipliers: [1], blocks: 1, head_width: 4, timesteps: 20, steps: 2"
TOWERS = "resolution: 4, tower: [4], text_width: 4, text_heads: 2, embedding: 6"
PRIOR = "encoder: alone/towers, prior_width: 8, prior_depth: 1, prior_heads: 2"
MODELS = {
    "sr": "name: imagen_sr, resolution: 8, widths: [4], depths: [1], heads: 2, steps: 2",
    "towers": f"name: unclip_towers, {TOWERS}",
    "prior": f"name: unclip_prior, {TOWERS}, {PRIOR}, timesteps: 20, steps: 2",
    "decoder": f"name: unclip, {TOWERS}, {PRIOR}, prior: alone/prior, prior_steps: 2, prior_timesteps: 20, {UNET}",
    "upsampler": f"name: unclip_sr, resolution: 8, {UNET}",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images with captions, an encoder of them, and the config of each model."""
    folder = tmp_path_factory.mktemp("text")
    data = cars_in(folder, 16)
    for name, options in MODELS.items():
        (folder / f"{name}.yaml").write_text(
            f"strategy: {{{options}, lr: 0.01}}\n"
            f"data: {data}\n"
            "train: {batch_size: 8, lanes: 4, seed: 3}\n"
            "fleet: {reduction: exact}\n"
            "log: {every_steps: 10, samples_every_kimg: 100, samples: 2}\n"
            f"run: {{name: {name}}}\n"
        )
    return folder


def train(name, *overrides):
    ended = ganfleet("train", "--config", f"{name}.yaml", *overrides)
    assert ended.code == 0, ended.output


def simulated(name):
    """What two ranks, and then four, end with after four steps: each has a strategy object of its own."""
    options, config = yaml.safe_load(Path(f"{name}.yaml").read_text())["strategy"], configs.load(f"{name}.yaml")
    strategy, source = options.pop("name"), open_section(config.data, config.strategy.resolution)
    how = {"options": options, "source": source, "batch_size": 8, "lanes": 4, "seed": 3}
    half = testing.simulate(strategy, 2, 2, **how)
    whole = testing.simulate(strategy, 4, 2, resumed_from=half.snapshot, **how)
    return checkpoint.digest(whole.snapshot)


def test_every_model_of_dalle_2_has_the_bits_of_one_process_and_they_draw_together(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for name in ("towers", "prior", "decoder", "upsampler"):
        train(name, "run.dir=alone", "train.steps=4")
        found, expected = simulated(name), digest(folder / "alone" / name)
        trained = [component for component in expected if "." in component]
        assert len(trained) >= 2 and {*trained} == {component for component in found if "." in component}
        for component in (*trained, "clock"):
            assert found[component] == expected[component], (name, component)
    chain = ("--checkpoint", "alone/decoder", "--then", "alone/upsampler")
    drawn = ganfleet("sample", *chain, "--out", "unclip.png", "--prompt", "a red car", "--seeds", "0-1")
    assert drawn.code == 0, drawn.output
    with Image.open("unclip.png") as picture:
        assert picture.width > 16
    like = ("--figure", "variations", "--out", "like.png", "image=unclip.png", "seeds=0")
    drawn = ganfleet("sample", "--checkpoint", "alone/decoder", *like)
    assert drawn.code == 0, drawn.output


@one_at_a_time
@pytest.mark.parametrize("name", ["sr", "decoder"])
def test_two_real_ranks_and_then_four_end_with_the_bits_of_one(name, folder, monkeypatch):
    """The decoder has towers and a prior that nobody trains, and captions."""
    monkeypatch.chdir(folder)
    for each in ("towers", "prior", "decoder") if name == "decoder" else ("sr",):
        train(each, "run.dir=alone", "train.steps=4")  # or has done so
    words = ("--config", f"{name}.yaml", "run.dir=turns")
    two = run(msrun(2, folder / "logs", *words, "train.steps=2"), folder, timeout=900)
    assert two.code == 0, two.output
    train(name, "run.dir=turns", "train.steps=4", "fleet.world_size=4")
    assert digest(folder / "turns" / name) == digest(folder / "alone" / name)
