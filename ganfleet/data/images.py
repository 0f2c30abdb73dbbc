"""Pixels: an image file to 8-bit grey or RGB on white, and any image to the training resolution.

Which images there are and how they are read is the business of sources.py.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from ganfleet.errors import ConfigError
from ganfleet.size import Size

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
RESIZES = ("crop", "fit", "stretch", "none")
WHITE, BLACK = 255, 0
# By default Pillow refuses an image with more than a megabyte of zipped text in one piece, as editors write it.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY


def decode(data: bytes, channels: int) -> Image.Image:
    """The picture in an image file, upright by its EXIF tag, as mode L (1 channel) or RGB (3 channels).

    Transparency is composited on white; of 16-bit pixels the high byte is kept.

    Raises:
        ValueError: no image file at all.
        Exception: whatever Pillow raises on a damaged file; there are a dozen kinds.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:  # its own message holds a memory address, another one on each rank
        raise ValueError(f"it is not one of {', '.join(FORMATS)}") from None
    with image:
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I"):
            image = grey_of_16_bits(image)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("L" if channels == 1 else "RGB")


def grey_of_16_bits(image: Image.Image) -> Image.Image:
    """Mode L, or LA where the file names one grey as transparent. Pillow itself would clip at 255, not scale."""
    pixels = np.asarray(image)
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
        """Pixels uint8 (channels, height, width) of an L or RGB ``image``, called ``name`` in errors.

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
        ground = (self.background,) * len(image.getbands())
        whole = Image.new(image.mode, (width, height), ground)
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
