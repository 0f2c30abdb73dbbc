"""Grids: every pixel where it belongs."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from ganfleet.errors import ConfigError, StorageError
from ganfleet.observe.grid import grid, picture_of, save_animation, save_png


def flat(values, channels=1, size=4):
    """One image of a single value for each of ``values``."""
    return np.array(values, np.float32)[:, None, None, None] * np.ones((1, channels, size, size), np.float32)


def test_images_run_row_by_row_with_a_white_gap_between():
    images = np.array([[[[-1, 1], [0.2, -0.2]]], [[[1, 1], [1, -1]]], [[[-1, -1], [-1, -1]]]], np.float32)
    expected = [
        [0, 255, 255, 255, 255],
        [153, 102, 255, 255, 0],
        [255, 255, 255, 255, 255],
        [0, 0, 255, 255, 255],
        [0, 0, 255, 255, 255],
    ]
    picture = grid(images, columns=2, gap=1, scale=1)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, expected)


def test_every_grey_value_survives_the_way_to_the_network_and_back():
    values = np.arange(256, dtype=np.uint8)
    images = (values.astype(np.float32) / 127.5 - 1).reshape(1, 1, 16, 16)
    np.testing.assert_array_equal(grid(images, scale=1).ravel(), values)


def test_colours_keep_their_channels():
    image = np.full((1, 3, 1, 1), -1.0)
    image[0, 1] = 1.0  # pure green
    np.testing.assert_array_equal(grid(image, scale=1), [[[0, 255, 0]]])


def test_values_outside_are_clipped_and_nan_is_black():
    image = np.array([-7.0, 7.0, np.inf, -np.inf, np.nan]).reshape(1, 1, 1, 5)
    np.testing.assert_array_equal(grid(image, scale=1), [[0, 255, 255, 0, 0]])


@pytest.mark.parametrize(
    ("size", "n", "expected_size"), [(32, 64, 8 * 64 + 7 * 2), (28, 9, 3 * 84 + 2 * 2), (64, 4, 130), (128, 1, 128)]
)
def test_small_images_are_enlarged_until_they_can_be_looked_at(size, n, expected_size):
    assert grid(np.zeros((n, 1, size, size))).shape == (expected_size, expected_size)


def test_enlarging_repeats_pixels():
    image = np.array([-1.0, 1.0]).reshape(1, 1, 1, 2)
    np.testing.assert_array_equal(grid(image, scale=3), [[0, 0, 0, 255, 255, 255]] * 3)


def test_transparent_pixels_show_a_checkerboard():
    image = np.full((1, 4, 16, 24), -1.0)
    image[0, 0] = 1.0  # red
    image[0, 3, :, :16], image[0, 3, :, 16:] = -1.0, 1.0
    image[0, 3, 0, 0] = 1 / 255  # an alpha of 128
    picture = grid(image, scale=1)
    assert picture.shape == (16, 24, 3)
    assert picture[[1, 1, 8, 8], [1, 8, 1, 8]].tolist() == [[g] * 3 for g in (255, 204, 204, 255)]
    assert (picture[:, 16:] == [255, 0, 0]).all()
    assert picture[0, 0].tolist() == [255, 127, 127]  # 255 (1 - 128 / 255)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_one_image_in_its_true_size_keeps_its_channels(channels):
    pixels = np.random.default_rng(1).integers(0, 256, (channels, 5, 7), dtype=np.uint8)
    picture = picture_of(pixels / 127.5 - 1)
    assert picture.shape == ((5, 7) if channels == 1 else (5, 7, channels))
    np.testing.assert_array_equal(picture.reshape(5, 7, channels), pixels.transpose(1, 2, 0))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_labels_are_drawn_beside_the_images_and_leave_every_image_pixel_alone(channels):
    images = flat([-1, 0, 0.5, -0.5, 0.2, 0.8], channels, size=40)
    plain = grid(images, columns=3, scale=1)
    labels = {"row_labels": ("source A", "B"), "column_labels": ("1", "a label far too wide for it", "3")}
    labelled = grid(images, columns=3, scale=1, **labels)
    height, width = plain.shape[:2]
    np.testing.assert_array_equal(labelled[-height:, -width:], plain)
    top, left = labelled.shape[0] - height, labelled.shape[1] - width
    assert (labelled[top:, :left] < 100).any() and (labelled[:top, left:] < 100).any()  # there is text
    assert (labelled[top + 40 : top + 42] == 255).all()  # none of it in the gaps
    assert (labelled[:top, left + 40 : left + 42] == 255).all()


def test_a_row_without_its_label_is_an_error():
    with pytest.raises(ValueError):
        grid(flat([0, 0]), columns=1, row_labels=("only one",))


@pytest.mark.parametrize("shape", [(2, 2, 4, 4), (0, 3, 4, 4)])
def test_no_images_or_two_channels_are_an_error_that_shows_the_shape(shape):
    with pytest.raises(ValueError, match=str(shape[1])):
        grid(np.zeros(shape))


def test_the_png_on_disk_is_the_grid_and_nothing_else_is_left(tmp_path):
    images = np.random.default_rng(0).uniform(-1, 1, (6, 3, 8, 8))
    save_png(tmp_path / "a.png", images, columns=3, scale=2)
    with Image.open(tmp_path / "a.png") as written:
        np.testing.assert_array_equal(np.asarray(written), grid(images, columns=3, scale=2))
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    save_png(tmp_path / "a.png", flat([0]))
    before = (tmp_path / "a.png").read_bytes()

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.rename", full)
    with pytest.raises(StorageError, match=r"a\.png: No space left on device"):
        save_png(tmp_path / "a.png", flat([1]))
    assert (tmp_path / "a.png").read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


def test_an_animation_has_its_frames_in_order_and_repeats(tmp_path):
    frames = np.stack([np.full((3, 64, 64), value, np.float32) for value in (-1, 0, 1)])
    save_animation(tmp_path / "a.gif", frames)
    with Image.open(tmp_path / "a.gif") as animation:
        assert (animation.n_frames, animation.info["loop"], animation.info["duration"]) == (3, 0, 50)
        shown = [np.asarray(frame.convert("L")).mean() for frame in ImageSequence.Iterator(animation)]
    np.testing.assert_allclose(shown, [0, 128, 255], atol=1)


@pytest.mark.parametrize("name, told", [("a.png", "is one of .gif, .webp, .mp4"), ("a.mp4", "needs ffmpeg")])
def test_an_animation_that_cannot_be_written_is_refused(name, told, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ConfigError, match=told):
        save_animation(tmp_path / name, np.zeros((2, 1, 8, 8), np.float32))
    assert not list(tmp_path.iterdir())
