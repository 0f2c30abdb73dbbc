"""Samples: the same picture from a checkpoint as from the run itself, and no trace of them in the training."""

from pathlib import Path

import numpy as np
import pytest
from commands import ganfleet, one_error
from fleets import digest
from PIL import Image

from ganfleet import load
from ganfleet.cli.sample import lines
from ganfleet.errors import ConfigError
from ganfleet.observe.grid import save_picture

# Batch norm, so that sampling has running statistics to disturb; eight steps are too few for an EMA to catch up.
DCGAN = """\
strategy: {name: dcgan, resolution: 16, latent: 8, ngf: 8, ndf: 8, ema_kimg: 1}
data: {source: embedded}
train: {steps: 8, batch_size: 16, lanes: 2, seed: 3}
log: {every_steps: 4, samples_every_kimg: 100, samples: 16}
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Holds runs/often, which drew samples every other step, and runs/seldom."""
    directory = tmp_path_factory.mktemp("samples")
    (directory / "dcgan.yaml").write_text(DCGAN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for name, *overrides in [("seldom",), ("often", "log.samples_every_kimg=0.032")]:
            ended = ganfleet("train", "--config", "dcgan.yaml", f"run.name={name}", *overrides)
            assert ended.code == 0, ended.output
    return directory


@pytest.fixture(autouse=True)
def there(directory, monkeypatch):
    monkeypatch.chdir(directory)


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_sampling_in_between_leaves_no_trace_in_the_training():
    assert (len(list(Path("runs/often/samples").iterdir())), len(list(Path("runs/seldom/samples").iterdir()))) == (5, 2)
    assert digest(Path("runs/often")) == digest(Path("runs/seldom"))


def test_a_checkpoint_gives_the_grid_that_its_run_drew_and_other_weights_another():
    assert ganfleet("sample", "--checkpoint", "runs/seldom", "--out", "ema.png", "--seeds", "0-15").code == 0
    own = pixels(sorted(Path("runs/seldom/samples").iterdir())[-1])
    np.testing.assert_array_equal(pixels("ema.png"), own)
    ended = ganfleet("sample", "--checkpoint", "runs/seldom", "--out", "raw.png", "--seeds", "0-15", "--no-ema")
    assert ended.code == 0
    assert pixels("raw.png").shape == own.shape
    assert np.abs(pixels("raw.png") - own).max() > 0


@pytest.mark.parametrize("seeds", ["", "a", "3-", "1,,2", "-1", "5-3", "0-15x", "0-99999999999", "9" * 5000])
def test_what_is_no_list_of_seeds_is_refused(seeds):
    message = one_error(ganfleet("sample", "--checkpoint", "runs/seldom", "--out", "no.png", "--seeds", seeds), 2)
    assert "--seeds" in message and seeds[:30] in message
    assert not Path("no.png").exists()


def test_what_holds_no_checkpoint_is_refused():
    message = one_error(ganfleet("sample", "--checkpoint", "runs", "--out", "no.png"), 2)
    assert "runs is no checkpoint and holds none" in message


@pytest.mark.parametrize(
    "out, told",
    [
        ("no/dir.png", "there is no folder no"),
        (".", "a picture is a file that ends in one of .png, .jpg, .jpeg, .webp"),
        ("folder.png", "is a folder: name a file in it"),
        ("grid.gif", "a picture is a file that ends in one of"),
        ("grid", "a picture is a file that ends in one of"),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused_before_it_is_drawn(out, told, monkeypatch):
    Path("folder.png").mkdir(exist_ok=True)
    monkeypatch.setattr("ganfleet.engine.sampler.Sampler.draw", None)
    message = one_error(ganfleet("sample", "--checkpoint", "runs/seldom", "--out", out, "--seeds", "0"), 2)
    assert f"--out {out}" in message and told in message


@pytest.mark.parametrize(("name", "kind"), [("grid.jpg", "JPEG"), ("grid.WEBP", "WEBP"), ("grid.png", "PNG")])
def test_the_suffix_decides_the_kind_of_picture(name, kind):
    assert ganfleet("sample", "--checkpoint", "runs/seldom", "--out", name, "--seeds", "0-3").code == 0
    with Image.open(name) as picture:
        assert picture.format == kind


def test_a_folder_gets_one_file_per_image_in_its_true_size():
    ended = ganfleet("sample", "--checkpoint", "runs/seldom", "--out-dir", "images", "--seeds", "3,0-1")
    assert ended.code == 0, ended.output
    assert sorted(path.name for path in Path("images").iterdir()) == [f"seed-{i:06d}.png" for i in (0, 1, 3)]
    with load("runs/seldom") as loaded:
        images = loaded.sample([0, 1, 3])
    for image, path in zip(images, sorted(Path("images").iterdir()), strict=True):
        np.testing.assert_array_equal(pixels(path), np.rint((image[0] + 1) * 127.5))


@pytest.mark.parametrize(
    "options, told",
    [
        ([], "give one of --out FILE"),
        (["--out", "a.png", "--out-dir", "b"], "give one of --out FILE"),
        (["--out-dir", "dcgan.yaml"], "--out-dir dcgan.yaml is a file"),
        (["--out-dir", "b", "--columns", "3"], "--columns does not go with --out-dir"),
        (["--out", "a.png", "--prompts", "no.txt"], "--prompts no.txt cannot be read"),
        (["--out", "a.png", "--prompt", "a car", "--classes", "0"], "--prompt does not go with --classes"),
    ],
)
def test_targets_that_do_not_go_together_are_refused(options, told):
    assert told in one_error(ganfleet("sample", "--checkpoint", "runs/seldom", *options), 2)


def test_a_file_of_prompts_may_begin_with_a_byte_order_mark_and_its_lines_end_only_where_they_do(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa red disc\r\n\n a blue\u2028disc\r\n".encode())
    assert lines(path) == ["a red disc", "a blue\u2028disc"]


def test_a_picture_too_large_for_its_kind_of_file_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"long.webp: .webp has no room for 16,384x1 pixels: choose .png"):
        save_picture(tmp_path / "long.webp", np.zeros((1, 16384), np.uint8))
    assert not (tmp_path / "long.webp").exists()
    save_picture(tmp_path / "long.webp", np.zeros((1, 16383), np.uint8))
