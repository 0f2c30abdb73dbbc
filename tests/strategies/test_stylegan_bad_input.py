"""What a user of progressive growing gets wrong: one message and the exit code, before anything is trained."""

import numpy as np
import pytest
from commands import ganfleet, one_error
from PIL import Image

CONFIG = """\
strategy: {name: stylegan, resolution: 16, stable_kimg: 0.1, fade_kimg: 0.1, latent: 8, fmap_base: 32}
data: {source: folder, path: images, channels: 1}
train: {steps: 1, batch_size: 16, lanes: 4}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A directory with a config, and 20 images of 16x16 pixels."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "grown.yaml").write_text(CONFIG)
    draw = np.random.Generator(np.random.Philox(0))
    for i in range(20):
        Image.fromarray(draw.integers(0, 256, (16, 16), np.uint8)).save(tmp_path / "images" / f"{i}.png")


@pytest.mark.parametrize(
    "overrides, code, told",
    [
        (["strategy.resolution=24"], 2, "grown.yaml:1: strategy: resolution is 24, but it must be a power of two"),
        (["strategy.start_resolution=32"], 2, "start_resolution 32 is above resolution 16"),
        (
            ["train.batch_size=8"],
            2,
            "stage '8' leaves 2 samples to a lane, which strategy.mbstd_group 4 does not divide",
        ),
        (["strategy.batch_sizes={16: 24}"], 2, "stage '16-fade' leaves 6 samples to a lane"),
        (
            ["strategy.batch_sizes={16: 18}"],
            2,
            "stage '16-fade' has batches of 18, which do not divide among train.lanes=4",
        ),
        (["strategy.batch_sizes={16: 32}"], 65, "has 20 images, fewer than a batch of 32"),
        (["strategy.resolution=32"], 2, "16x16 pixels, too few for resolution 32"),
        (["strategy.conditional=true"], 2, "the data have no classes: set data.classes or data.labels"),
    ],
)
def test_what_cannot_be_trained_is_refused_at_once(overrides, code, told, tmp_path):
    assert told in one_error(ganfleet("train", "--config", "grown.yaml", *overrides), code)
    assert not (tmp_path / "runs").exists()


def test_small_images_are_enlarged_where_that_is_asked_for():
    planned = ganfleet("plan", "--config", "grown.yaml", "strategy.resolution=32", "data.upscale=true")
    assert planned.code == 0, planned.output


@pytest.mark.slow
def test_a_checkpoint_of_another_resolution_is_refused():
    assert ganfleet("train", "--config", "grown.yaml", "run.name=run").code == 0
    ended = ganfleet("train", "--config", "grown.yaml", "run.name=run", "strategy.resolution=8")
    assert "strategy.resolution was 16, is 8" in one_error(ended, 85)
