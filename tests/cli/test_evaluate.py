"""``ganfleet evaluate`` as a user types it: translations against what they should be, and what it says and keeps."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import ganfleet, one_error
from PIL import Image
from stored import save_start_of
from tiny_network import tiny_network

from ganfleet import load
from ganfleet.engine import measuring
from ganfleet.metrics import similarity

YAML = """\
strategy: {name: cyclegan, resolution: 24, ngf: 4, ndf: 4, blocks: 1}
data: {source: unpaired, path: nowhere}
train: {steps: 1, batch_size: 1, lanes: 1}
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Holds a CycleGAN's checkpoint in ``run``, and pairs of images in ``a`` and ``b``."""
    directory = tmp_path_factory.mktemp("evaluate")
    save_start_of(YAML, directory / "run", channels=3, scale=20)
    draw = np.random.default_rng(0)
    for folder in "ab":
        (directory / folder).mkdir()
        for i in range(24):
            pixels = draw.integers(256, size=(6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((24, 24), Image.Resampling.BICUBIC).save(directory / folder / f"{i:02d}.png")
    return directory


@pytest.fixture(autouse=True)
def there(directory, monkeypatch, tmp_path):
    monkeypatch.chdir(directory)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(measuring, "feature_network", tiny_network)


def evaluate(words):
    return ganfleet("evaluate", "--checkpoint", "run", *words.split())


def pixels(folder):
    images = [np.asarray(Image.open(path)).transpose(2, 0, 1) for path in sorted(Path(folder).iterdir())]
    return np.stack(images)


def test_translations_are_compared_with_what_they_should_be_pair_by_pair():
    ended = evaluate("--direction A2B --input a --data b --metrics l1,psnr,ssim,kid")
    assert ended.code == 0, ended.output
    lines = [line for line in ended.output.splitlines() if " of " not in line]  # of progress, where it takes long
    printed = dict(line.split() for line in lines)
    a, b = pixels("a"), pixels("b")
    with load("run") as loaded:
        made = np.stack([loaded.translate(image / np.float32(127.5) - 1, "A2B") for image in a])
    made = np.clip(np.rint((made + 1) * 127.5), 0, 255).astype(np.uint8)
    for name in ("l1", "psnr", "ssim"):
        assert float(printed[name]) == pytest.approx(getattr(similarity, name)(made, b).mean(), rel=1e-5)
    record = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert {name: f"{value:.6g}" for name, value in record["metrics"].items()} == printed
    assert set(printed) == {"l1", "psnr", "ssim", "kid_tiny", "kid_tiny_stderr"}
    assert (record["count"], record["real"], record["direction"]) == (24, 24, "A2B")


def test_what_does_not_go_together_is_refused_in_one_line_before_anything_is_drawn(directory):
    told = one_error(evaluate("--data b"), 2)
    assert "makes images from images: give --input and --direction, one of A2B, B2A" in told
    told = one_error(evaluate("--direction A2B --input a --metrics kid"), 2)
    assert "no single images can be read: name some with --data" in told
    (directory / "c").mkdir(exist_ok=True)
    for path in sorted(Path("b").iterdir())[1:]:
        (directory / "c" / path.name).write_bytes(path.read_bytes())
    told = one_error(evaluate("--direction A2B --input a --data c --metrics ssim"), 2)
    assert "--input has 24 images and --data 23: give pairs of one name" in told
    (directory / "c" / "zz.png").write_bytes(Path("b/00.png").read_bytes())
    told = one_error(evaluate("--direction A2B --input a --data c --metrics ssim"), 2)
    assert "a/00.png and c/01.png are no pair: give files of the same names" in told
    told = one_error(evaluate("--direction A2B --input a --data b --metrics ppl"), 2)
    assert "CycleGAN has no latents to go along" in told
    told = one_error(evaluate("--count 5"), 2)
    assert "20" in told


def test_a_run_that_translates_cannot_measure_itself(tmp_path):
    (tmp_path / "c.yaml").write_text(YAML.replace("path: nowhere", "path: a, path_b: b"))
    ended = ganfleet("train", "--config", str(tmp_path / "c.yaml"), "metrics.names=[kid]")
    assert "metrics.names: cyclegan makes images from images, and `ganfleet evaluate --direction`" in one_error(
        ended, 2
    )
