import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path):
    """Ten 8x8 images of one colour each, (10 i, 100, 200), in two folders."""
    for i in range(10):
        folder = tmp_path / "photos" / ("cats" if i % 2 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * i, 100, 200)).save(folder / f"{i}.png")
    return tmp_path / "photos"
