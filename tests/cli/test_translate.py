"""``ganfleet translate``: images of any size, what a generator makes of them, and files that are no images."""

from pathlib import Path

import cyclegan_float64 as float64
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ganfleet, one_error
from fleets import REPOSITORY, msrun, run
from PIL import Image, PngImagePlugin
from stored import save_start_of

from ganfleet import load
from ganfleet.data.images import SUFFIXES
from ganfleet.store import checkpoint

YAML = "strategy: {name: cyclegan, resolution: 24, ngf: 2, ndf: 2, blocks: 1}\ntrain: {batch_size: 1, lanes: 1}\n"
# Width, height. Two are mirrored to 8x8, and two to 16x24: each size is two graphs to compile.
SIZES = {"odd.png": (13, 21), "whole.png": (16, 24), "tiny.png": (3, 5), "sub/photo.jpg": (8, 8)}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Holds a checkpoint in ``run``, and images in ``photos``."""
    directory = tmp_path_factory.mktemp("translate")
    save_start_of(YAML, directory / "run", channels=3, scale=20)
    for seed, (name, size) in enumerate(SIZES.items()):
        path = directory / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(256, size=(4, 4, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path)
    (directory / "photos" / "README.txt").write_text("not an image, and not named like one")
    return directory


@pytest.fixture(autouse=True)
def there(directory, monkeypatch):
    monkeypatch.chdir(directory)


def translate(*arguments, direction="A2B"):
    return ganfleet("translate", "--checkpoint", "run", "--direction", direction, *map(str, arguments))


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def files(folder):
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def expected(name, image):
    """What the generator ``name`` makes of uint8 (h, w, 3), in float64, with sides of 8 or a larger multiple of 4."""
    snapshot = checkpoint.load(checkpoint.newest_valid(Path("run/checkpoints"))[0])
    w = {key: jnp.asarray(array, jnp.float64) for key, array in snapshot.tensors["G.weights"].items()}
    x = (image.transpose(2, 0, 1) / 127.5 - 1)[None]
    height, width = x.shape[2:]
    border = [max(8, (side + 3) // 4 * 4) - side for side in (height, width)]
    x = np.pad(x, [(0, 0), (0, 0), (0, border[0]), (0, border[1])], mode="reflect")
    y = float64.generator(w, name, x)[0, :, :height, :width]
    return np.rint((np.asarray(y).transpose(1, 2, 0) + 1) * 127.5)


@pytest.fixture(scope="module")
def translated(directory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        ended = translate("--input", "photos", "--output", "out", "--panel")
        assert ended.code == 0, ended.output
        assert "translated 4 images into out" in ended.output
    return directory / "out"


def test_images_of_any_size_keep_their_names_and_sizes(translated):
    names = {str(Path(name).with_suffix(".png")) for name in SIZES}
    assert files(translated) == names | {f"panels/{name}" for name in names}
    for name, size in SIZES.items():
        assert Image.open(translated / Path(name).with_suffix(".png")).size == size


@pytest.mark.parametrize("name", SIZES)
def test_a_translation_is_what_the_generator_makes_of_the_image_mirrored_to_a_multiple_of_four(name, translated):
    made = pixels(translated / Path(name).with_suffix(".png"))
    assert np.abs(made - expected("G_AB", pixels(f"photos/{name}"))).max() <= 1
    assert made.std() > 10


def test_a_panel_shows_the_original_its_translation_and_that_back(translated):
    original, width = pixels("photos/whole.png"), SIZES["whole.png"][0]
    panel = pixels(translated / "panels" / "whole.png")
    there = pixels(translated / "whole.png")
    assert panel.shape == (24, 3 * width + 4, 3)
    np.testing.assert_array_equal(panel[:, :width], original)
    np.testing.assert_array_equal(panel[:, width + 2 : 2 * width + 2], there)
    # The second generator sees the first one's output before it is rounded to 8 bits.
    assert np.abs(panel[:, -width:] - expected("G_BA", there)).mean() <= 3


def test_what_is_there_is_not_done_again_and_what_is_missing_is(translated):
    marked = translated / "odd.png"
    marked.write_bytes(b"kept")
    removed = (translated / "panels" / "tiny.png").read_bytes()
    (translated / "panels" / "tiny.png").unlink()
    emptied = (translated / "whole.png").read_bytes()
    (translated / "whole.png").write_bytes(b"")
    ended = translate("--input", "photos", "--output", "out", "--panel")
    assert ended.code == 0 and "translated 2 images into out, 2 were there already" in ended.output
    assert (translated / "whole.png").read_bytes() == emptied
    assert marked.read_bytes() == b"kept"
    assert (translated / "panels" / "tiny.png").read_bytes() == removed


def test_one_image_goes_the_other_way():
    ended = translate("--input", "photos/whole.png", "--output", "back", direction="B2A")
    assert ended.code == 0, ended.output
    assert files("back") == {"whole.png"}
    assert np.abs(pixels("back/whole.png") - expected("G_BA", pixels("photos/whole.png"))).max() <= 1


def test_what_is_damaged_or_no_image_is_named_and_all_others_are_translated(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.effect_noise((16, 8), 50).save(photos / name)
    (photos / "b.png").write_bytes((photos / "a.png").read_bytes()[:100])
    (photos / "d.png").write_text("no image")
    (photos / "e.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    message = one_error(translate("--input", photos, "--output", tmp_path / "out"), 65)
    assert f"3 of 5 images are left out, all others are there: {photos}/b.png cannot be decoded" in message
    assert f"{photos}/d.png cannot be decoded: it is not one of" in message
    assert f"{photos}/e.png cannot be decoded: it is a pointer of Git LFS, not the image: fetch" in message
    assert files(tmp_path / "out") == {"a.png", "c.png"}


def test_one_file_that_is_no_image_is_named(tmp_path):
    message = one_error(translate("--input", "photos/README.txt", "--output", tmp_path / "out"), 65)
    assert "photos/README.txt cannot be decoded: it is not one of" in message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", f"no image ({', '.join(SUFFIXES)}) at nowhere"),
        ("run", f"no image ({', '.join(SUFFIXES)}) at run"),
    ],
)
def test_an_input_without_images_is_refused(source, message):
    assert message in one_error(translate("--input", source, "--output", "no"), 2)


def test_two_images_that_would_become_one_file_are_refused(tmp_path):
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    message = one_error(translate("--input", tmp_path, "--output", "no"), 2)
    assert f"{tmp_path}/a.jpg and {tmp_path}/a.png would both become no/a.png" in message


def test_a_checkpoint_that_does_not_translate_is_refused(tmp_path):
    save_start_of("strategy: {name: gan, resolution: 8, hidden: [4]}\ntrain: {batch_size: 1, lanes: 1}\n", tmp_path)
    arguments = ["--direction", "A2B", "--input", "photos", "--output", "no"]
    message = one_error(ganfleet("translate", "--checkpoint", str(tmp_path), *arguments), 2)
    assert f"{tmp_path}, a gan, does not translate images A2B: it makes images from nothing else" in message
    assert not Path("no").exists()


def test_an_unknown_direction_is_answered_with_those_there_are():
    message = one_error(translate("--input", "photos", "--output", "no", direction="A2C"), 2)
    assert "does not translate images A2C: its directions are A2B, B2A" in message


def test_in_python_an_array_is_translated(translated):
    image = pixels("photos/odd.png").transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
    with load("run") as loaded:
        made = loaded.translate(image, "A2B")
    assert made.shape == image.shape and made.dtype == np.float32
    shown = np.rint((made.transpose(1, 2, 0) + 1) * 127.5)
    assert np.abs(shown - expected("G_AB", pixels("photos/odd.png"))).max() <= 1


@pytest.mark.parametrize("output", ["photos", "photos/sub/out", "photos/../photos"])
def test_an_output_among_the_inputs_is_refused(output):
    message = one_error(translate("--input", "photos", "--output", output), 2)
    assert f"--output {output} is in --input photos" in message
    message = one_error(translate("--input", "photos/whole.png", "--output", "photos"), 2)
    assert "photos/whole.png is the image itself" in message


def test_two_directions_do_not_mix_in_one_folder(tmp_path):
    out = tmp_path / "out"
    assert translate("--input", "photos/whole.png", "--output", out).code == 0
    before = (out / "whole.png").read_bytes()
    message = one_error(translate("--input", "photos", "--output", out, direction="B2A"), 2)
    assert f"{out}/whole.png was translated A2B, not B2A: choose another folder" in message
    assert files(out) == {"whole.png"} and (out / "whole.png").read_bytes() == before


def test_an_image_too_large_is_left_out_and_one_with_much_text_is_translated(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("1", (20000, 10000)).save(photos / "huge.png")
    text = PngImagePlugin.PngInfo()
    text.add_text("history", "edited " * 180_000, zip=True)
    Image.effect_noise((16, 8), 50).save(photos / "text.png", pnginfo=text)
    message = one_error(translate("--input", photos, "--output", tmp_path / "out"), 65)
    assert f"1 of 2 images are left out, all others are there: {photos}/huge.png cannot be decoded" in message
    assert files(tmp_path / "out") == {"text.png"}


def test_a_photo_that_its_camera_turned_is_translated_upright(tmp_path):
    pixels_of = np.random.default_rng(1).integers(256, size=(8, 16, 3), dtype=np.uint8)
    turned = Image.fromarray(pixels_of)
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise is to be shown
    turned.save(tmp_path / "a.png", exif=exif)
    out = tmp_path / "out"
    assert translate("--input", tmp_path / "a.png", "--output", out).code == 0
    made = pixels(out / "a.png")
    assert made.shape == (16, 8, 3) and not Image.open(out / "a.png").getexif()
    assert np.abs(made - expected("G_AB", np.rot90(pixels_of, -1))).max() <= 1


def test_an_animation_is_translated_frame_by_frame_and_keeps_its_durations(tmp_path):
    """A GIF has 256 colours at most, so grey frames are compared: their 256 levels are all there."""
    frames = [np.full((8, 16, 3), level, np.uint8) for level in (0, 90, 200)]
    for i, frame in enumerate(frames):
        frame[2:6, 4 * i : 4 * i + 4] = 255 - frame[0, 0]
    first, *others = map(Image.fromarray, frames)
    photos = tmp_path / "photos"
    photos.mkdir()
    durations = [40, 500, 120]
    first.save(photos / "a.gif", save_all=True, append_images=others, duration=durations, loop=2)
    first.save(photos / "still.gif")
    out = tmp_path / "out"
    ended = translate("--input", photos, "--output", out, "--panel")
    assert ended.code == 0, ended.output
    assert files(out) == {"a.gif", "still.png", "panels/a.gif", "panels/still.png"}
    for path, shape in ((out / "a.gif", (8, 16, 3)), (out / "panels" / "a.gif", (8, 52, 3))):
        with Image.open(path) as made:
            assert made.n_frames == 3 and made.info["loop"] == 2
            for i, frame in enumerate(frames):
                made.seek(i)
                assert made.info["duration"] == durations[i]
                shown = np.asarray(made.convert("RGB")).astype(int)[:, -16:]
                assert np.asarray(made.convert("RGB")).shape == shape
                if path.parent == out:
                    assert np.abs(shown - expected("G_AB", frame)).mean() <= 4
    message = one_error(translate("--input", photos, "--output", out, direction="B2A"), 2)
    assert f"{out}/a.gif was translated A2B, not B2A" in message


def test_an_animation_that_is_cut_off_is_left_out(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    first, *others = [Image.effect_noise((16, 8), spread) for spread in (20, 50, 80)]
    first.save(photos / "a.gif", save_all=True, append_images=others, duration=50)
    content = (photos / "a.gif").read_bytes()
    (photos / "a.gif").write_bytes(content[: len(content) // 2])
    assert "photos/a.gif cannot be decoded" in one_error(translate("--input", photos, "--output", tmp_path / "out"), 65)


@pytest.mark.slow
def test_a_fleet_of_two_writes_what_one_process_writes(translated, tmp_path):
    for name in SIZES:  # one of them has been made unreadable on purpose by another test
        (translated / Path(name).with_suffix(".png")).unlink(missing_ok=True)
    assert translate("--input", "photos", "--output", "out").code == 0
    script = str(REPOSITORY / "launch" / "translate.py")
    arguments = ["--checkpoint", "run", "--direction", "A2B", "--input", "photos", "--output", "fleet"]
    ended = run([*msrun(2, tmp_path)[:-1], script, *arguments], Path.cwd())
    assert ended.code == 0, ended.output
    for name in SIZES:
        target = Path(name).with_suffix(".png")
        assert Path("fleet", target).read_bytes() == Path("out", target).read_bytes()
    assert "translated 4 images into fleet" in ended.output
