"""A run on data like users have them: three classes by folder, alpha as a channel, a file whose name is no UTF-8."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from commands import TINY, ganfleet
from PIL import Image

from ganfleet.engine.picture_files import save
from ganfleet.store import checkpoint

CONFIG = """\
strategy: {name: cgan, architecture: mlp, resolution: 8, latent: 4, hidden: [8]}
data: {source: folder, path: photos, classes: subfolder, channels: 4}
train: {steps: 2, batch_size: 8, lanes: 1}
log: {every_steps: 1, samples_every_kimg: 100, samples: 4}
run: {name: alpha}
"""
RUN = Path("runs/alpha")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Holds the data and runs/alpha."""
    directory = tmp_path_factory.mktemp("data")
    noise = np.random.Generator(np.random.Philox(1)).integers(0, 256, (12, 8, 8, 4), dtype=np.uint8)
    for i, pixels in enumerate(noise):
        path = directory / "photos" / ("1", "10", "2")[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (directory / "photos" / "2" / "notes.txt").touch()
    with open(os.fsencode(directory) + b"/photos/2/\xc4\xe3.png", "wb") as file:
        file.write(b"damaged")
    (directory / "config.yaml").write_text(CONFIG)
    return directory


@pytest.fixture(autouse=True)
def there(directory, monkeypatch):
    monkeypatch.chdir(directory)


@pytest.fixture(scope="module")
def trained(directory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        return ganfleet("train", "--config", "config.yaml")


def test_a_run_says_once_what_it_trains_on_and_names_a_damaged_file_with_escapes(trained):
    assert trained.code == 0, trained.output
    lines = trained.output.splitlines()
    assert lines.count("classes: 0 1, 1 2, 2 10") == 1
    assert lines.count("photos: 1 file is no image that ganfleet reads: 1 .txt") == 1
    assert sum(r"photos/2/\xc4\xe3.png cannot be decoded: it is not one of" in line for line in lines) == 1


def test_plan_and_sample_show_the_classes(trained):
    planned = ganfleet("plan", "--config", "config.yaml")
    assert "classes: 0 1, 1 2, 2 10" in planned.output.splitlines()
    assert "photos: 1 file is no image that ganfleet reads: 1 .txt" in planned.output.splitlines()
    images = json.loads(ganfleet("plan", "--config", "config.yaml", "--json").output)["images"]
    assert (images["channels"], images["classes"], images["class_names"]) == (4, 3, ["1", "2", "10"])
    sampled = ganfleet("sample", "--checkpoint", str(RUN), "--classes", "0-2", "--out", "grid.png")
    assert sampled.output.splitlines() == ["classes: 0 1, 1 2, 2 10"]


def test_single_images_keep_their_alpha_and_grids_show_it(trained):
    assert ganfleet("sample", "--checkpoint", str(RUN), "--seeds", "0", "--out-dir", "single").code == 0
    with Image.open("single/seed-000000.png") as image:
        assert (image.mode, image.size) == ("RGBA", (8, 8))
    rgba = np.random.Generator(np.random.Philox(2)).integers(0, 256, (4, 5, 7), dtype=np.uint8)
    save(Path("translated.png"), [[rgba / 127.5 - 1]], "a2b")
    with Image.open("translated.png") as image:
        np.testing.assert_array_equal(np.asarray(image), rgba.transpose(1, 2, 0))
    with Image.open(next((RUN / "samples").iterdir())) as grid:
        assert grid.mode == "RGB"


def test_a_run_goes_on_with_the_numbers_that_its_checkpoint_has(trained):
    """The checkpoints of 0.1.0 hold no names; it numbered folders in the order of their characters."""
    snapshot = checkpoint.load(checkpoint.checkpoints(RUN / "checkpoints")[-1])
    facts = snapshot.facts["source"]
    assert facts.pop("class_names") == ["1", "2", "10"]
    del facts["names"]
    path = checkpoint.save(Path("older"), snapshot, 2, keep=1)
    again = ganfleet("train", "--config", "config.yaml", "run.name=b", f"checkpoint.resume={path}", "train.steps=3")
    assert "classes: 0 1, 1 10, 2 2" in again.output.splitlines(), again.output
    later = ganfleet("train", "--config", "config.yaml", "run.name=b", "train.steps=4")
    assert later.code == 0 and "classes: 0 1, 1 10, 2 2" in later.output.splitlines(), later.output


def test_a_run_does_not_go_on_with_other_classes(trained):
    (Path("photos") / "10").rename("photos/11")
    ended = ganfleet("train", "--config", "config.yaml", "train.steps=3")
    (Path("photos") / "11").rename("photos/10")
    assert ended.code == 85
    assert "class_names was ['1', '2', '10'], is ['1', '2', '11']" in ended.output


def test_a_run_without_classes_goes_on_when_labels_are_found():
    """As a run of 0.1.0 does, which did not read dataset.json."""
    Path("grey").mkdir()
    for i in range(16):
        Image.new("L", (8, 8), 10 * i).save(f"grey/{i}.png")
    Path("gan.yaml").write_text(TINY.replace("{source: embedded}", "{source: folder, path: grey, channels: 1}"))
    words = ["--config", "gan.yaml", "run.name=plain"]
    assert ganfleet("train", *words, "train.steps=2").code == 0
    labels = {"labels": [[path.name, 1] for path in Path("grey").iterdir()]}
    Path("grey/dataset.json").write_text(json.dumps(labels))
    later = ganfleet("train", *words, "train.steps=3")
    assert later.code == 0 and "resumed from" in later.output, later.output
