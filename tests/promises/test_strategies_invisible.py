"""The fleet is invisible to each strategy, here on images that are not square: two ranks go on where one stopped."""

import json

import numpy as np
import pytest
from commands import ganfleet
from fleets import digest, newest, one_at_a_time, run, workers
from PIL import Image

SMALL_GAN = "latent: 4, ngf: 2, ndf: 2"
SMALL_STYLES = "latent: 4, mapping_layers: 1, fmap_base: 16, fmap_max: 4, mbstd_group: 2"
GROWTH = "stable_kimg: 0.008, fade_kimg: 0.008"  # a stage every two or three steps
CASES = {  # strategy, its section, height and width
    "dcgan": ("dcgan", f"resolution: [32, 48], {SMALL_GAN}", (32, 48)),
    "stylegan_grown": ("stylegan", f"resolution: [8, 12], start_resolution: 4, {SMALL_STYLES}, {GROWTH}", (8, 12)),
    "sngan_resnet": ("sngan", f"architecture: resnet, resolution: [16, 24], {SMALL_GAN}, critic_steps: 1", (16, 24)),
    "wgan": (
        "wgan",
        "resolution: [8, 12], latent: 4, architecture: mlp, hidden: [8], critic_steps: 2, lr: 1e-3",
        (8, 12),
    ),
    "wgan_gp": ("wgan_gp", f"resolution: [8, 12], {SMALL_GAN}, critic_steps: 2, augment: diffaugment", (8, 12)),
    "cgan": ("cgan", f"resolution: {{height: 12, width: 8}}, {SMALL_GAN}", (12, 8)),
    "cyclegan": ("cyclegan", "resolution: [24, 32], ngf: 2, ndf: 2, blocks: 1", (24, 32)),
}
REAL = "stylegan_grown"  # goes on in two processes, from the middle of a fade; all others on two simulated ranks
MARKS = {case: [one_at_a_time] * (case == REAL) for case in CASES}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Two classes of four photos of several sizes, and the working directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for i in range(8):
        height, width = rng.integers(50, 90, 2)
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return tmp_path


def done(*arguments):
    ended = ganfleet(*arguments)
    assert ended.code == 0, ended.output
    return ended.output


@pytest.mark.slow
@pytest.mark.parametrize("case", [pytest.param(case, marks=marks) for case, marks in MARKS.items()])
def test_two_ranks_that_go_on_where_one_stopped_end_with_the_bits_of_one(case, photos):
    name, section, size = CASES[case]
    data = "source: folder, path: photos, classes: subfolder, cache: cache"
    if name == "cyclegan":
        data = "source: unpaired, path: photos/a, path_b: photos/b"
    (photos / "run.yaml").write_text(
        f"strategy: {{name: {name}, {section}}}\n"
        f"data: {{{data}}}\n"
        "train: {steps: 6, batch_size: 4, lanes: 2, seed: 2}\n"
        "fleet: {reduction: exact}\n"
        "log: {every_steps: 1, samples_every_kimg: 1, samples: 3}\n"
    )
    train = ("train", "--config", "run.yaml")
    done(*train)
    [straight] = (photos / "runs").iterdir()
    assert straight.name.endswith(f"-{name}-{'unpaired' if name == 'cyclegan' else 'folder'}{size[0]}x{size[1]}")
    done(*train, "run.name=resumed", "train.steps=4")
    if case == REAL:
        assert newest(photos / "runs" / "resumed").facts["stage"] == "8x12-fade"
        ended = run(workers(2, "--config", "run.yaml", "run.name=resumed"), photos)
        assert ended.code == 0 and "resumed" in ended.output, ended.output
    else:
        assert "resumed" in done(*train, "run.name=resumed", "fleet.world_size=2")
    assert digest(photos / "runs" / "resumed") == digest(straight)

    lines = [json.loads(line) for line in (straight / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["resolution"] == list(size)
    [planned] = json.loads(done("plan", "--config", "run.yaml", "--json"))["stages"][-1:]
    assert planned["resolution"] == list(size)
    assert planned["memory"]["batch"] == 2 * 3 * size[0] * size[1] * 4  # a lane's RGB images in float32
    if name != "cyclegan":
        done("sample", "--checkpoint", str(straight), "--out-dir", "drawn", "--seeds", "0-1")
        drawn = sorted((photos / "drawn").iterdir())
        assert len(drawn) == 2
        for path in drawn:
            with Image.open(path) as image:
                assert image.size == size[::-1]
