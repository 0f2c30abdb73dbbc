"""DALL·E 2 with CLIP out of a folder: both towers equal float64 NumPy, and prior and decoder train with them."""

import json
import shutil

import encoders_float64 as float64
import mindspore as ms
import numpy as np
import pytest
from commands import ganfleet, one_error
from fake_captions import cars_in
from fleets import newest
from nn.reference import assert_close
from PIL import Image

from ganfleet.engine.frozen import FrozenNetwork
from ganfleet.errors import ConfigError
from ganfleet.store import weights
from ganfleet.strategies.base import ImageSpec
from ganfleet.strategies.unclip import clip
from ganfleet.text import Text, encoder

SIZES = "resolution: 8, embedding: 6, prior_width: 8, prior_depth: 1, prior_heads: 2"
PRIOR = f"name: unclip_prior, {SIZES}, timesteps: 20, steps: 2"
DECODER = (
    f"name: unclip, {SIZES}, prior_steps: 2, prior_timesteps: 20, timesteps: 20, steps: 2, width: 4, multipliers: [1], "
    "blocks: 1, head_width: 4"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    data = cars_in(folder, 8, float64.CLIP, float64.whole_clip_shapes)
    for name, options in {"prior": PRIOR, "decoder": f"{DECODER}, prior: {folder}/prior"}.items():
        (folder / f"{name}.yaml").write_text(
            f"strategy: {{{options}, encoder: {folder}/encoder, lr: 1e-2}}\n"
            f"data: {data}\ntrain: {{batch_size: 4, lanes: 2, steps: 2}}\n"
            f"log: {{every_steps: 1, samples: 2}}\nrun: {{dir: {folder}, name: {name}}}\n"
        )
    return folder


@pytest.fixture
def tensors(folder):
    return {
        name: array for path in (folder / "encoder").glob("*.safetensors") for name, array in weights.read(path).items()
    }


@pytest.fixture
def towers(folder):
    found = clip.towers(str(folder / "encoder"), 6, ImageSpec(channels=3))
    return {name: frozen.net for name, frozen in found.items()}


@pytest.mark.parametrize("before, after", [(8, 12), (64, 224), (30, 12), (12, 12)])
def test_lines_are_resized_as_pillow_does(before, after):
    line = np.random.default_rng(0).standard_normal(before).astype(np.float32)
    expected = np.asarray(Image.fromarray(line[None]).resize((after, 1), Image.Resampling.BICUBIC))[0]
    assert_close(clip.cubic(before, after) @ line, expected, 1e-6, "line")


@pytest.mark.parametrize("height, width", [(8, 8), (12, 12), (10, 16), (30, 21)])
def test_embeddings_of_images_are_those_of_numpy(height, width, towers, tensors):
    images = np.random.default_rng(1).uniform(-1, 1, (3, 3, height, width)).astype(np.float32)
    expected = np.stack([float64.clip_image(tensors, image) for image in images])
    assert_close(towers["image_tower"](ms.Tensor(images)).asnumpy(), expected, 1e-5, "embeddings")


def test_embeddings_of_captions_are_those_of_numpy(folder, towers, tensors):
    captions = ["a red car", "blue heart on white", "cat"]
    features, mask = encoder.find(str(folder / "encoder")).encode(captions, 8)
    made = towers["text_tower"](ms.Tensor(features), ms.Tensor(mask)).asnumpy()
    for caption, row in zip(captions, made, strict=True):
        tokens = float64.clip(tensors, [2, *(float64.WORDS.index(word) for word in caption.split()), 3])
        assert_close(row, float64.unit(float64.linear(tensors, "text_projection", tokens[-1])), 1e-5, caption)


def test_another_activation_of_its_image_tower_is_another_network(folder, tmp_path):
    """Its weights are the same, and what it computes is not."""
    copy = shutil.copytree(folder / "encoder", tmp_path / "encoder")
    config = json.loads((copy / "config.json").read_text())
    before = config["vision_config"].get("hidden_act", "quick_gelu")
    config["vision_config"]["hidden_act"] = {"gelu": "quick_gelu", "quick_gelu": "gelu"}[before]
    (copy / "config.json").write_text(json.dumps(config))
    own, other = (clip.towers(str(place), 6, ImageSpec(channels=3)) for place in (folder / "encoder", copy))
    hashes = {name: [FrozenNetwork(name, each[name], strategy=None).sha256 for each in (own, other)] for name in own}
    assert hashes["image_tower"][0] != hashes["image_tower"][1]
    assert hashes["text_tower"][0] == hashes["text_tower"][1]


@pytest.mark.slow
def test_prior_and_decoder_train_with_it_and_draw_a_prompt(folder):
    for name in ("prior", "decoder"):
        ended = ganfleet("train", "--config", str(folder / f"{name}.yaml"))
        assert ended.code == 0, ended.output
        frozen = newest(folder / name).facts["frozen"]
        assert {"image_tower", "text_tower"} <= set(frozen)
    ended = ganfleet(
        "sample", "--checkpoint", str(folder / "decoder"), "--out", str(folder / "car.png"), "--prompt", "a red car"
    )
    assert ended.code == 0, ended.output
    assert (folder / "car.png").exists()


def test_what_does_not_fit_names_the_key_to_set(folder):
    name, sha256 = str(folder / "encoder"), encoder.find(str(folder / "encoder")).sha256
    with pytest.raises(ConfigError, match=rf"data.encoder is minilm: .* so set data.encoder to {name} too"):
        clip.towers(name, 6, ImageSpec(channels=3, text=Text("minilm", 6, 384, "0" * 64)))
    with pytest.raises(ConfigError, match=r"strategy.embedding is 128, .* set it to 6"):
        clip.towers(name, 128, ImageSpec(channels=3, text=Text(name, 6, 8, sha256)))
    with pytest.raises(ConfigError, match="sees images of 3 channels, not 1"):
        clip.towers(name, 6, ImageSpec(channels=1))
    told = one_error(
        ganfleet("train", "--config", str(folder / "prior.yaml"), "run.name=odd", "strategy.embedding=5"), 2
    )
    assert "set it to 6" in told
