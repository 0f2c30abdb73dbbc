"""``ganfleet data check``: what people read of a folder or ZIP file, and how it ends."""

import json
import os
import shutil
import zipfile

import numpy as np
import pytest
from commands import ganfleet, one_error
from PIL import Image


@pytest.fixture
def photos(tmp_path):
    """Three images of 16x16 in two folders, one of 8x20, and a text."""
    noise = np.random.Generator(np.random.Philox(5)).integers(0, 256, (4, 20, 16, 3), dtype=np.uint8)
    for i, (folder, suffix) in enumerate([("cats", "png"), ("cats", "bmp"), ("dogs", "jpg"), ("dogs", "png")]):
        path = tmp_path / "photos" / folder / f"{i}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise[i, 4:] if i else noise[i, :, :8]).save(path)
    (tmp_path / "photos" / "notes.txt").touch()
    return tmp_path / "photos"


def test_sound_images_are_counted_and_the_exit_code_is_0(photos):
    shutil.copy(photos / "cats" / "1.bmp", photos / "dogs" / "copy.bmp")
    ended = ganfleet("data", "check", str(photos))
    assert ended.code == 0
    for told in (
        f"{photos}: 5 images, 5 can be read",
        "formats: 2 BMP, 2 PNG, 1 JPEG",
        "modes: 5 RGB",
        "sizes: 4 16x16, 1 8x20",
        "classes from subfolders: 2; 2 in 0 cats, 3 in 1 dogs",
        "files with the content of another: 1",
        "  cats/1.bmp = dogs/copy.bmp",
        "at 8x8: 0 too small; the cache takes 0.0 MB in RGB",
        "at 16x16: 1 too small; the cache takes 0.0 MB in RGB",
        f"{photos}: 1 file is no image that ganfleet reads: 1 .txt",
    ):
        assert told in ended.output.splitlines()


def test_a_zip_is_checked_too_and_the_cache_estimated(photos):
    archive = shutil.make_archive(photos, "zip", photos)
    ended = ganfleet("data", "check", archive, "--resolution", "16", "--json")
    told = json.loads(ended.output[: ended.output.rindex("}") + 1])
    assert told["resolutions"] == [{"resolution": 16, "too_small": 1, "cache_bytes": 4 * 3 * (8 * 8 + 4 * 4)}]
    assert "1 too small for 16x16" in one_error(ended, 65)


def test_a_resolution_may_have_a_height_and_a_width(photos):
    ended = ganfleet("data", "check", str(photos), "--resolution", "20x8", "--json")
    told = json.loads(ended.output[: ended.output.rindex("}") + 1])
    assert [(each["resolution"], each["too_small"]) for each in told["resolutions"]] == [([20, 8], 3)]
    assert "3 too small for 20x8" in one_error(ended, 65)
    assert "write 64, or 32x48" in one_error(ganfleet("data", "check", str(photos), "--resolution", "8x"), 2)


def test_damaged_images_are_named_and_the_exit_code_is_65(photos):
    for i in range(12):
        (photos / "cats" / f"damaged{i:02d}.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    ended = ganfleet("data", "check", str(photos))
    assert "  cats/damaged00.png: it is a pointer of Git LFS" in ended.output
    assert "damaged10" not in ended.output and "and 2 more, which --json lists" in ended.output
    assert one_error(ended, 65).endswith(f"{photos} needs care: 12 damaged")


def test_labels_that_training_would_refuse_are_told(photos):
    (photos / "dataset.json").write_text(json.dumps({"labels": [["cats/0.png", [0.5, 1.5]]]}))
    assert "cats/0.png has a list of numbers" in one_error(ganfleet("data", "check", str(photos)), 65)
    names = [path.relative_to(photos).as_posix() for path in photos.glob("*/*")]
    (photos / "dataset.json").write_text(json.dumps({"labels": [[name, 2] for name in names]}))
    ended = ganfleet("data", "check", str(photos))
    assert ended.code == 0 and "classes from dataset.json: 1; 4 in 2" in ended.output


@pytest.mark.parametrize(
    "make, told, code",
    [
        (lambda path: None, "there is nothing at", 2),
        (lambda path: path.mkdir(), "there are no images", 2),
        (lambda path: path.write_text("text"), "cannot be read as a ZIP file", 65),
        (os.mkfifo, "is neither a folder nor a regular file", 2),
    ],
)
def test_what_holds_no_images_is_refused(make, told, code, tmp_path):
    make(tmp_path / "here")
    error = one_error(ganfleet("data", "check", str(tmp_path / "here")), code)
    assert told in error and "data.path" not in error


def test_a_home_folder_that_is_not_there_is_told():
    message = one_error(ganfleet("data", "check", "~nobody_here/photos"), 2)
    assert "the path is ~nobody_here/photos, and there is no such home folder here" in message


def test_a_zip_with_absolute_names_beside_others_is_read(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        for name in ("/abs.png", "in/plain.png"):
            archive.writestr(zipfile.ZipInfo(name), (photos / "dogs" / "3.png").read_bytes())
    ended = ganfleet("data", "check", str(tmp_path / "odd.zip"))
    assert ended.code == 0, ended.output
    assert "odd.zip: 2 images, 2 can be read" in ended.output
