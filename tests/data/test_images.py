"""Every kind of image file comes out as the pixels a viewer would show on white paper, at the resolution asked for."""

import io

import numpy as np
import pytest
from odd_files import one_bit_png
from PIL import Image

from ganfleet.data import open_source
from ganfleet.data.images import Resize, area_mean, decode
from ganfleet.errors import ConfigError
from ganfleet.size import Size


def encoded(image, format="PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def palette(*colours):
    image = Image.new("P", (len(colours), 1))
    image.putpalette([level for colour in colours for level in colour])
    image.putdata(range(len(colours)))
    return image


def row(mode, *pixels):
    image = Image.new(mode, (len(pixels), 1))
    image.putdata(pixels)
    return image


def grey_16(*values):
    return Image.fromarray(np.array([values], np.uint16))


def plain(mode, colour):
    return Image.new(mode, (16, 16), colour)


# Each expected colour is worked out by hand: colour * alpha / 255 + 255 * (1 - alpha / 255).
FILES = {
    "L": (encoded(row("L", 7, 250)), [(7, 7, 7), (250, 250, 250)]),
    "1": (encoded(row("1", 0, 255)), [(0, 0, 0), (255, 255, 255)]),
    "RGB": (encoded(row("RGB", (1, 2, 3), (9, 8, 7))), [(1, 2, 3), (9, 8, 7)]),
    "RGBA": (encoded(row("RGBA", (200, 0, 10, 64), (5, 6, 7, 0))), [(241, 191, 194), (255, 255, 255)]),
    "LA": (encoded(row("LA", (100, 128), (100, 255))), [(177, 177, 177), (100, 100, 100)]),
    "P": (encoded(palette((1, 2, 3), (4, 5, 6))), [(1, 2, 3), (4, 5, 6)]),
    "P, alpha per colour": (
        encoded(palette((1, 2, 3), (200, 100, 0)), transparency=b"\x00\x80"),
        [(255, 255, 255), (227, 177, 127)],
    ),
    "P, one colour transparent": (
        encoded(palette((1, 2, 3), (4, 5, 6)), transparency=1),
        [(1, 2, 3), (255, 255, 255)],
    ),
    "L, one grey transparent": (encoded(row("L", 7, 9), transparency=7), [(255, 255, 255), (9, 9, 9)]),
    "RGB, one colour transparent": (
        encoded(row("RGB", (1, 2, 3), (4, 5, 6)), transparency=(1, 2, 3)),
        [(255, 255, 255), (4, 5, 6)],
    ),
    "16 bits": (encoded(grey_16(0, 255, 100 * 256, 65535)), [(0,) * 3, (0,) * 3, (100,) * 3, (255,) * 3]),
    "16 bits, one grey transparent": (
        encoded(grey_16(100 * 256, 100 * 256 + 1), transparency=100 * 256),
        [(255,) * 3, (100,) * 3],
    ),
    "WebP with alpha": (
        encoded(row("RGBA", (200, 0, 10, 64), (1, 2, 3, 255)), "WEBP", lossless=True),
        [(241, 191, 194), (1, 2, 3)],
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_every_pixel_mode_gives_its_colours_on_white(name):
    data, expected = FILES[name]
    pixels = np.asarray(decode(data, channels=3))[0].astype(int)
    np.testing.assert_allclose(pixels, expected, atol=1)


@pytest.mark.parametrize(
    "image, expected",
    [
        (plain("CMYK", (255, 0, 0, 0)), (0, 255, 255)),
        (plain("CMYK", (0, 0, 0, 255)), (0, 0, 0)),
        (plain("RGB", (200, 100, 50)), (200, 100, 50)),
        (plain("L", 90), (90, 90, 90)),
    ],
    ids=["CMYK cyan", "CMYK black", "RGB", "L"],
)
def test_jpeg_colours_are_right_to_its_loss(image, expected):
    pixels = np.asarray(decode(encoded(image, "JPEG", quality=95), channels=3)).astype(int)
    np.testing.assert_allclose(pixels, np.broadcast_to(expected, (16, 16, 3)), atol=3)


def test_one_channel_is_the_luma_of_the_colour():
    pixels = np.asarray(decode(encoded(row("RGB", (255, 0, 0), (0, 255, 0), (0, 0, 255))), channels=1))
    np.testing.assert_allclose(pixels, [[76, 150, 29]], atol=1)  # ITU-R 601: 0.299, 0.587, 0.114


def test_a_photo_taken_sideways_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # "the top of the picture is on the right"
    upright = decode(encoded(row("L", 10, 20), exif=exif), channels=1)
    assert np.asarray(upright).tolist() == [[10], [20]]


def test_a_tiff_taken_sideways_is_turned_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.asarray(decode(encoded(row("L", 10, 20), "TIFF", exif=exif), channels=1)).tolist() == [[10], [20]]


def test_exif_that_cannot_be_read_spoils_no_picture():
    data = encoded(plain("L", 90), "PNG", exif=b"Exif\0\0nothing of the kind")
    assert (np.asarray(decode(data, channels=1)) == 90).all()


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_seen(format):
    frames = [plain("RGB", colour) for colour in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert np.asarray(decode(data, channels=3))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("RGB", [(1, 2, 3, 255), (9, 8, 7, 255)]),
        ("L", [(7, 7, 7, 255), (250, 250, 250, 255)]),
        ("RGBA", [(200, 0, 10, 64), (5, 6, 7, 0)]),
        ("LA", [(100, 100, 100, 128), (100, 100, 100, 255)]),
        ("P, alpha per colour", [(1, 2, 3, 0), (200, 100, 0, 128)]),
        ("P, one colour transparent", [(1, 2, 3, 255), (4, 5, 6, 0)]),
        ("L, one grey transparent", [(7, 7, 7, 0), (9, 9, 9, 255)]),
        ("16 bits, one grey transparent", [(100, 100, 100, 0), (100, 100, 100, 255)]),
    ],
)
def test_four_channels_keep_alpha(name, expected):
    assert np.asarray(decode(FILES[name][0], channels=4))[0].tolist() == list(map(list, expected))


def test_four_channels_of_cmyk_are_opaque():
    pixels = np.asarray(decode(encoded(plain("CMYK", (255, 0, 0, 0)), "JPEG", quality=95), channels=4)).astype(int)
    np.testing.assert_allclose(pixels, np.broadcast_to((0, 255, 255, 255), (16, 16, 4)), atol=3)


def test_the_border_of_fit_is_clear_and_colours_under_no_alpha_do_not_bleed():
    image = row("RGBA", *[(200, 100, 50, 255)] * 4, *[(0, 255, 0, 0)] * 4)
    pixels = Resize(4, "fit")(image.resize((8, 4)), "it")
    assert pixels.shape == (4, 4, 4) and pixels[3, 0].tolist() == [0] * 4
    half = Resize(1, "stretch")(image, "it")[:, 0, 0]
    np.testing.assert_allclose(half, [200, 100, 50, 127.5], atol=1)


def test_grey_sources_are_opaque_in_four_channels():
    grey, rgba = open_source(resolution=32), open_source(resolution=32, channels=4)
    assert (rgba[5]["image"][:3] == grey[5]["image"]).all() and (rgba[5]["image"][3] == 255).all()


@pytest.mark.parametrize(
    "data, told",
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a pointer of Git LFS.*`git lfs pull`"),
        (b"/annex/objects/SHA256E-s1--00.png", "a pointer of git-annex"),
        (b"text", "it is not one of PNG, JPEG, WEBP, GIF, BMP, TIFF"),
        (encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "floating-point"),
        (encoded(Image.fromarray(np.full((2, 2), 70_000, np.int32)), "TIFF"), "from 70000 to 70000"),
    ],
)
def test_what_is_no_image_is_told(data, told):
    with pytest.raises(ValueError, match=told):
        decode(data, channels=3)


def test_a_picture_of_200_million_pixels_is_read():
    white = one_bit_png(20_000, 10_000)
    assert decode(white, channels=1).size == (20_000, 10_000)


@pytest.fixture
def wide():
    """8 wide, 4 high; columns 0 to 7 have the greys 0, 10, ... 70."""
    return Image.fromarray(np.tile(np.arange(0, 80, 10, dtype=np.uint8), (4, 1)))


def test_crop_keeps_the_centre_square(wide):
    assert Resize(4, "crop")(wide, "it")[0, 0].tolist() == [20, 30, 40, 50]


def test_stretch_squeezes_the_whole_image(wide):
    assert Resize(4, "stretch")(wide, "it")[0, 0].tolist() == [5, 25, 45, 65]


def test_fit_shows_the_whole_image_between_two_bars(wide):
    fitted = Resize(4, "fit", background=255)(wide, "it")[0]
    assert fitted[0].tolist() == fitted[3].tolist() == [255] * 4
    assert fitted[1].tolist() == fitted[2].tolist() == [5, 25, 45, 65]


@pytest.fixture
def ramp():
    """12 wide, 8 high; the grey of the pixel at (y, x) is 16 y + x."""
    return Image.fromarray((16 * np.arange(8)[:, None] + np.arange(12)).astype(np.uint8))


def test_crop_keeps_as_much_of_the_middle_as_has_the_shape_of_the_sample(ramp):
    pixels = np.asarray(ramp)
    assert (Resize(Size(8, 4), "crop")(ramp, "it")[0] == pixels[:, 4:8]).all()
    assert (Resize(Size(4, 12), "crop")(ramp, "it")[0] == pixels[2:6]).all()
    blocks = pixels[1:7].reshape(3, 2, 6, 2).astype(float).mean(axis=(1, 3))
    assert np.abs(Resize(Size(3, 6), "crop")(ramp, "it")[0] - blocks).max() <= 0.5


def test_stretch_and_fit_to_a_sample_that_is_not_square(ramp):
    pixels = np.asarray(ramp).astype(float)
    stretched = Resize(Size(2, 6), "stretch")(ramp, "it")[0]
    assert np.abs(stretched - pixels.reshape(2, 4, 6, 2).mean(axis=(1, 3))).max() <= 0.5
    halved = pixels.reshape(4, 2, 6, 2).mean(axis=(1, 3))
    for size, rows, columns in ((Size(4, 10), slice(0, 4), slice(2, 8)), (Size(8, 6), slice(2, 6), slice(0, 6))):
        fitted = Resize(size, "fit", background=255)(ramp, "it")[0]
        assert np.abs(fitted[rows, columns] - halved).max() <= 0.5
        assert fitted.shape == size and (fitted == 255).sum() == fitted.size - halved.size


@pytest.mark.parametrize("size, told", [(Size(9, 4), "9x4"), (Size(4, 13), "4x13")])
def test_either_side_may_be_too_small(size, told, ramp):
    for how in ("crop", "stretch"):
        with pytest.raises(ConfigError, match=rf"8x12 pixels \(height x width\), too few for resolution {told}"):
            Resize(size, how)(ramp, "it")
        assert Resize(size, how, upscale=True)(ramp, "it").shape == (1, *size)
    assert (Resize(Size(8, 12), "none")(ramp, "it")[0] == np.asarray(ramp)).all()
    with pytest.raises(ConfigError, match="not 12x8"):
        Resize(Size(12, 8), "none")(ramp, "it")


def test_fit_puts_a_border_around_a_small_image_and_does_not_enlarge_it():
    fitted = Resize(4, "fit", background=0)(plain("RGB", (1, 2, 3)).crop((0, 0, 2, 2)), "it")
    assert fitted.shape == (3, 4, 4)
    assert fitted[2].tolist() == [[0, 0, 0, 0], [0, 3, 3, 0], [0, 3, 3, 0], [0, 0, 0, 0]]


def test_shrinking_by_a_whole_factor_is_the_mean_over_blocks():
    noise = np.random.Generator(np.random.Philox(1)).integers(0, 256, (8, 8), dtype=np.uint8)
    mean = noise.reshape(2, 4, 2, 4).astype(float).mean(axis=(1, 3))
    assert np.abs(Resize(2)(Image.fromarray(noise), "it")[0] - mean).max() <= 0.5
    assert np.abs(area_mean(noise[None], 4)[0] - mean).max() <= 0.5


@pytest.mark.parametrize("how", ["crop", "stretch"])
def test_a_small_image_is_enlarged_only_when_asked(how):
    small = plain("L", 90).crop((0, 0, 5, 6))
    with pytest.raises(ConfigError, match=r"cat\.png has 6x5 pixels \(height x width\), too few for resolution 8"):
        Resize(8, how)(small, "cat.png")
    assert (Resize(8, how, upscale=True)(small, "cat.png") == 90).all()


def test_resize_none_takes_images_of_that_size_only(wide):
    square = wide.crop((0, 0, 4, 4))
    assert Resize(4, "none")(square, "it")[0, 0].tolist() == [0, 10, 20, 30]
    with pytest.raises(ConfigError, match=r"4x8 pixels \(height x width\), not 4x4"):
        Resize(4, "none")(wide, "it")
