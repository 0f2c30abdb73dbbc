"""Which picture files count as done, so that a command which goes on does not make them again; images for figures."""

import io

import numpy as np
import pytest
from PIL import Image

from ganfleet.engine.picture_files import is_there, with_images
from ganfleet.errors import ConfigError
from ganfleet.strategies.options import ImageFile, Options


def encoded(kind):
    content = io.BytesIO()
    Image.effect_noise((32, 32), 50).save(content, format=kind)
    return content.getvalue()


@pytest.mark.parametrize(
    "content, there",
    [
        (encoded("PNG"), True),
        (encoded("PNG") + b"what another program put behind it", True),
        (encoded("PNG")[:-1], False),
        (encoded("PNG")[:-12], False),
        (encoded("PNG")[:20], False),
        (encoded("GIF"), True),
        (encoded("GIF")[:-1], False),
        (b"", False),
        (b"text", True),
    ],
    ids=[
        "png",
        "png with more behind",
        "png but its last byte",
        "png without its end",
        "begin of a png",
        "gif",
        "begin of a gif",
        "empty",
        "text",
    ],
)
def test_a_whole_file_is_there_and_one_cut_short_is_not(content, there, tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(content)
    assert is_there(path) == there


def test_nothing_is_not_there_and_a_folder_is_not_ours_to_replace(tmp_path):
    assert not is_there(tmp_path / "missing.png")
    assert is_there(tmp_path)


class Like(Options):
    image: ImageFile
    seeds: int = 3


def test_a_figure_gets_the_middle_of_an_image_upright_and_on_white(tmp_path):
    """Stored on its side by its EXIF tag; the top is red, the bottom is blue, and the left half is transparent."""
    upright = np.zeros((24, 12, 4), np.uint8)
    upright[:, :, 3] = 255
    upright[:12, :, 0], upright[12:, :, 2] = 255, 255
    upright[:, :6] = 0
    tags = Image.Exif()
    tags[0x0112] = 6  # turn it by 90 degrees clockwise to see it
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "a.png", exif=tags)
    made = with_images(Like(image=tmp_path / "a.png"), 3, 4)
    expected = -np.ones((3, 4, 4), np.float32)
    expected[0, :2], expected[2, 2:] = 1, 1
    expected[:, :, :2] = 1
    np.testing.assert_array_equal(made.image, expected)
    assert made.image.dtype == np.float32 and made.seeds == 3


@pytest.mark.parametrize("content", [None, b"", b"text", encoded("PNG")[:60]])
def test_an_image_for_a_figure_that_cannot_be_read_is_named(content, tmp_path):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ConfigError, match=r"image=.*a.png cannot be read: .* Give an image file"):
        with_images(Like(image=tmp_path / "a.png"), 3, 4)
