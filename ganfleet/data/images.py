"""Pixels: an image file to 8-bit grey, RGB on white or RGBA, and any image to the training resolution.

Which images there are and how they are read is the business of sources.py.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError, features

from ganfleet.errors import ConfigError
from ganfleet.size import Size

READ = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
}
# Some builds of Pillow lack these two: their files then count as no images.
FORMATS = tuple(
    name for name in READ if name not in ("WEBP", "AVIF") or name.lower() in features.get_supported_modules()
)
SUFFIXES = tuple(suffix for name in FORMATS for suffix in READ[name])
RESIZES = ("crop", "fit", "stretch", "none")
WHITE, BLACK = 255, 0
OPAQUE, CLEAR = 255, 0
LARGEST = 2**30  # pixels of an image: four gigabytes once it is decoded
TOO_LARGE = f"it has more than {LARGEST:,} pixels: make it smaller"
# Pillow's own limits refuse good files: images of 179 million pixels, and more than a megabyte of zipped text in one
# piece, as editors write it.
Image.MAX_IMAGE_PIXELS = LARGEST
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # ``open_image`` says it
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

POINTERS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the image: fetch it with `git lfs pull`",
    b"/annex/objects/": "a pointer of git-annex, not the image: fetch it with `git annex get`",
}


def open_image(data: bytes) -> Image.Image:
    """The image file with these bytes, of which no pixel is decoded yet.

    Raises:
        ValueError: it is no image file, or one of more than LARGEST pixels.
        Exception: whatever Pillow raises on a damaged header.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:  # its own message holds a memory address, another one on each rank
        raise ValueError(f"it is {_unidentified(data)}") from None
    except Image.DecompressionBombError:  # at twice the limit; up to there, Pillow warns
        raise ValueError(TOO_LARGE) from None
    if image.width * image.height > LARGEST:
        raise ValueError(TOO_LARGE)
    return image


def _unidentified(data: bytes) -> str:
    if not data:
        return "empty"
    pointers = [told for start, told in POINTERS.items() if data.startswith(start)]
    return pointers[0] if pointers else f"not one of {', '.join(FORMATS)}"


def decode(data: bytes, channels: int) -> Image.Image:
    """The picture in an image file, or its first frame, upright by its EXIF tag, as mode L, RGB or RGBA (1, 3 or 4
    ``channels``).

    For L and RGB, transparency is composited on white. Of 16-bit pixels the high byte is kept.

    Raises:
        ValueError: no image file at all, or one of numbers that are no levels of 8 or 16 bits.
        Exception: whatever Pillow raises on a damaged file; there are a dozen kinds.
    """
    with open_image(data) as image:
        return convert(upright(image), channels)


def upright(image: Image.Image) -> Image.Image:
    """``image``, decoded and turned as its EXIF tag says. Tags that cannot be read spoil no picture."""
    image.load()
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return image


def convert(image: Image.Image, channels: int) -> Image.Image:
    """``image`` of any mode as L, RGB or RGBA, see ``decode``."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers: save it with 8 or 16 bits per channel")
    if image.mode.startswith("I"):
        image = grey_of_16_bits(image)
    if image.mode == "LAB":
        image = image.convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if channels < 4:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif channels == 4:
        image = image.convert("RGB")  # Pillow knows no way from CMYK to RGBA
    return image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])


def grey_of_16_bits(image: Image.Image) -> Image.Image:
    """Mode L, or LA where the file names one grey as transparent. Pillow itself would clip at 255, not scale.

    Raises:
        ValueError: it has levels that 16 bits cannot hold.
    """
    pixels = np.asarray(image)
    low, high = pixels.min(), pixels.max()
    if low < 0 or high >= 2**16:
        raise ValueError(f"its pixels are from {low} to {high}: save it with 8 or 16 bits per channel")
    grey = Image.fromarray((pixels >> 8).astype(np.uint8))
    if "transparency" in image.info:
        opaque = pixels != image.info["transparency"]
        grey.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
    return grey


@dataclass(frozen=True)
class Resize:
    """How an image of any size gets the size that ``resolution`` means.

    ``crop``: the largest part of that shape in its middle, scaled. ``fit``: the whole image, scaled down if it is
    larger, in the middle of a ground of ``background``. ``stretch``: both sides scaled, whatever the aspect ratio.
    ``none``: it must have that size already. Scaling is the mean over whole blocks of pixels where the sizes divide,
    Lanczos where they do not. Images are enlarged only with ``upscale``.
    """

    resolution: int | Size
    how: str = "crop"
    upscale: bool = False
    background: int = WHITE

    def __call__(self, image: Image.Image, name: str) -> np.ndarray:
        """Pixels uint8 (channels, height, width) of an L, RGB or RGBA ``image``, called ``name`` in errors.

        Raises:
            ConfigError: too small, or of another size under ``none``.
        """
        height, width = Size.of(self.resolution)
        if self.how == "fit":
            sized = self._fit(image, width, height)
        else:
            self._refuse_misfit(image, name)
            sized = resample(centre(image, width, height) if self.how == "crop" else image, (width, height))
        pixels = np.asarray(sized)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def _refuse_misfit(self, image: Image.Image, name: str) -> None:
        size, wanted = Size(image.height, image.width), Size.of(self.resolution)
        told = f"{size} pixels" if size.height == size.width else f"{size} pixels (height x width)"
        if self.how == "none" and size != wanted:
            raise ConfigError(f"{name} has {told}, not {wanted}: set data.resize to crop, fit or stretch.")
        if (size.height < wanted.height or size.width < wanted.width) and not self.upscale:
            raise ConfigError(
                f"{name} has {told}, too few for resolution {self.resolution}: "
                "lower the resolution, set data.resize: fit to add a border, or data.upscale: true to enlarge."
            )

    def _fit(self, image: Image.Image, width: int, height: int) -> Image.Image:
        scale = min(width / image.width, height / image.height)
        if scale < 1 or self.upscale:
            image = resample(image, tuple(max(1, round(side * scale)) for side in image.size))
        ground = [self.background] * len(image.getbands())
        if image.mode == "RGBA":
            ground[3] = CLEAR
        whole = Image.new(image.mode, (width, height), tuple(ground))
        whole.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        return whole


def centre(image: Image.Image, width: int, height: int) -> Image.Image:
    """The largest part of ``image`` in its middle that is as wide to its height as ``width`` to ``height``."""
    if image.width * height > image.height * width:
        size = max(1, round(image.height * width / height)), image.height
    else:
        size = image.width, max(1, round(image.width * height / width))
    left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
    return image.crop((left, top, left + size[0], top + size[1]))


def resample(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    factors = image.width // size[0], image.height // size[1]
    if image.size == (size[0] * factors[0], size[1] * factors[1]):
        return image.reduce(factors)
    return image.resize(size, Image.Resampling.LANCZOS)


def area_mean(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Pixels (channels, height, width) made ``factor`` times smaller: the mean over square blocks, in uint8 rounded."""
    if factor == 1:
        return pixels
    channels, height, width = pixels.shape
    blocks = pixels.reshape(channels, height // factor, factor, width // factor, factor)
    if pixels.dtype != np.uint8:
        return blocks.mean(axis=(2, 4), dtype=pixels.dtype)
    area = factor * factor
    return ((blocks.sum(axis=(2, 4), dtype=np.uint32) + area // 2) // area).astype(np.uint8)


def halvings(pixels: np.ndarray, times: int) -> Iterator[np.ndarray]:
    """``pixels`` uint8 (channels, h, w) made 2, 4, 8 … times smaller: what ``area_mean`` gives, in one pass."""
    sums, area = pixels.astype(np.uint32), 1
    for _ in range(times):
        rows = sums[:, ::2] + sums[:, 1::2]
        sums, area = rows[:, :, ::2] + rows[:, :, 1::2], area * 4
        yield ((sums + area // 2) // area).astype(np.uint8)
