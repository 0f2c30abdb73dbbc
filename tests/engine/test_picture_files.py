"""Which picture files count as done, so that a command which goes on does not make them again."""

import io

import pytest
from PIL import Image

from ganfleet.engine.picture_files import is_there


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
