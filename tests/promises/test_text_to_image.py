"""The promise for Imagen and DALL·E 2: their models train to the same bits on real ranks, and after a stop."""

import pytest
from commands import ganfleet
from fake_captions import cars_in
from fleets import digest, msrun, one_at_a_time, run
from PIL import Image

pytestmark = [one_at_a_time, pytest.mark.slow]
UNET = "width: 4, multipliers: [1], blocks: 1, head_width: 4, timesteps: 20, steps: 2"
TOWERS = "resolution: 4, tower: [4], text_width: 4, text_heads: 2, embedding: 6"
PRIOR = "encoder: alone/towers, prior_width: 8, prior_depth: 1, prior_heads: 2"
MODELS = {
    "base": f"name: imagen, resolution: 4, attention: [4], {UNET}",
    "sr": "name: imagen_sr, resolution: 8, widths: [4], depths: [1], heads: 2, steps: 2",
    "towers": f"name: unclip_towers, {TOWERS}",
    "prior": f"name: unclip_prior, {TOWERS}, {PRIOR}, timesteps: 20, steps: 2",
    "decoder": f"name: unclip, {TOWERS}, {PRIOR}, prior: alone/prior, prior_steps: 2, prior_timesteps: 20, {UNET}",
    "upsampler": f"name: unclip_sr, resolution: 8, {UNET}",
}
CASCADES = {"imagen": ("base", "sr"), "unclip": ("towers", "prior", "decoder", "upsampler")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images with captions, an encoder of them, and the config of each model."""
    folder = tmp_path_factory.mktemp("text")
    data = cars_in(folder, 16)
    for name, options in MODELS.items():
        (folder / f"{name}.yaml").write_text(
            f"strategy: {{{options}, lr: 1e-2}}\n"
            f"data: {data}\n"
            "train: {batch_size: 8, lanes: 4, seed: 3}\n"
            "fleet: {reduction: exact}\n"
            "log: {every_steps: 10, samples_every_kimg: 100, samples: 2}\n"
            f"run: {{name: {name}}}\n"
        )
    return folder


@pytest.mark.parametrize("cascade", CASCADES)
def test_two_real_ranks_and_then_four_end_with_the_bits_of_one(cascade, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = CASCADES[cascade]
    for name in names:
        config = ("--config", f"{name}.yaml")
        alone = ganfleet("train", *config, "run.dir=alone", "train.steps=4")
        assert alone.code == 0, alone.output
        if name != names[-1]:  # tests of these strategies have simulated ranks, and graphs take minutes
            continue
        two = run(msrun(2, folder / "logs", *config, "run.dir=turns", "train.steps=2"), folder, timeout=900)
        assert two.code == 0, two.output
        four = ganfleet("train", *config, "run.dir=turns", "train.steps=4", "fleet.world_size=4")
        assert four.code == 0, four.output
        assert digest(folder / "turns" / name) == digest(folder / "alone" / name), name
    first, second = names[-2:]
    chain = ("--checkpoint", f"alone/{first}", "--then", f"alone/{second}")
    drawn = ganfleet("sample", *chain, "--out", f"{cascade}.png", "--prompt", "a red car", "--seeds", "0-1")
    assert drawn.code == 0, drawn.output
    with Image.open(f"{cascade}.png") as picture:
        assert picture.width > 16
