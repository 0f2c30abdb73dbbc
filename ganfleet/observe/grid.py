"""Image grids: many images as one picture, with labels where a figure needs them. Knows nothing of runs or clocks."""

import io
import math
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ganfleet.errors import ConfigError
from ganfleet.store import publish

BACKGROUND = 255  # white
SQUARE, SQUARES = 8, (204, 255)  # pixels of a checkerboard's square, and its two greys
FRAMES_PER_SECOND = 20
SIDE = 16_383  # pixels that WebP has room for, the smallest of all
PICTURES = {
    ".png": {"format": "PNG", "compress_level": 1},  # five times as fast as the default, and a sixth larger
    ".jpg": {"format": "JPEG", "quality": 95},
    ".jpeg": {"format": "JPEG", "quality": 95},
    ".webp": {"format": "WEBP", "lossless": True},
}
ANIMATIONS = (".gif", ".webp", ".mp4")
VIEWABLE = 64  # pixels: images below are enlarged so that a 32x32 grid can be looked at


def grid(
    images: np.ndarray,
    columns: int | None = None,
    gap: int = 2,
    scale: int | None = None,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
) -> np.ndarray:
    """One picture of ``images``, row by row, on white.

    Args:
        images: (n, c, h, w) in [-1, 1], c = 1, 3 or 4. Values outside are clipped, NaN is black. The fourth channel is
            alpha: the image is drawn over a checkerboard.
        columns: images per row; ceil(sqrt(n)) where None.
        gap: pixels between neighbours; there is no frame.
        scale: every pixel becomes scale x scale pixels; where None, the least factor that makes an image at least
            64 pixels high.
        row_labels, column_labels: drawn in a margin left of the rows and above the columns, one for each.

    Returns:
        uint8, (H, W) for c = 1, otherwise (H, W, 3). A pixel x in [-1, 1] is round(127.5 (x + 1)).

    Raises:
        ValueError: there is no image, or c is none of these.
    """
    n, channels, height, width = images.shape
    if n == 0 or channels not in (1, 3, 4):
        raise ValueError(f"grid takes at least one image of 1, 3 or 4 channels, got the shape {images.shape}")
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    scale = scale or math.ceil(VIEWABLE / height)
    tiles = _pixels(images).transpose(0, 2, 3, 1).repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = height * scale, width * scale
    if channels == 4:
        tiles, channels = np.stack([_over_checkerboard(tile) for tile in tiles]), 3

    left, top = _margin(row_labels, axis=0), _margin(column_labels, axis=1)
    shape = (top + rows * (height + gap) - gap, left + columns * (width + gap) - gap, channels)
    picture = np.full(shape, BACKGROUND, np.uint8)
    y_of = [top + row * (height + gap) for row in range(rows)]
    x_of = [left + column * (width + gap) for column in range(columns)]
    for index, tile in enumerate(tiles):
        y, x = y_of[index // columns], x_of[index % columns]
        picture[y : y + height, x : x + width] = tile
    for label, y in zip(row_labels, y_of, strict=True) if row_labels else ():
        picture[y : y + height, :left] = _text(label, left, height)
    for label, x in zip(column_labels, x_of, strict=True) if column_labels else ():
        picture[:top, x : x + width] = _text(label, width, top)
    return picture[:, :, 0] if channels == 1 else picture


def picture_of(image: np.ndarray) -> np.ndarray:
    """One ``image`` (c, h, w) in [-1, 1] in its true size and with its alpha: uint8, (h, w) for c = 1 or (h, w, c)."""
    pixels = _pixels(image)
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


def png(picture: np.ndarray) -> bytes:
    """``picture``, uint8 (H, W) or (H, W, 3), as a PNG file's bytes."""
    buffer = io.BytesIO()
    # Level 1 is five times as fast as the default and a sixth larger; the fleet waits meanwhile.
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def save_picture(path: Path, picture: np.ndarray) -> None:
    """Writes ``picture``, uint8 (H, W), (H, W, 3) or (H, W, 4), as the PNG, JPEG or WebP file that the suffix says.

    Raises:
        ConfigError: ``path`` ends otherwise, or such a file has no room for so many pixels.
        StorageError: the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in PICTURES:
        raise ConfigError(f"{path}: a picture is one of {', '.join(PICTURES)}")
    buffer = io.BytesIO()
    try:
        Image.fromarray(picture).save(buffer, **PICTURES[suffix])
    except (OSError, ValueError) as error:
        height, width = picture.shape[:2]
        if max(height, width) <= SIDE:
            raise
        raise ConfigError(f"{path}: {suffix} has no room for {width:,}x{height:,} pixels: choose .png") from error
    publish.file(path, buffer.getvalue(), durable=False)


def save_png(path: Path, images: np.ndarray, **layout) -> None:
    """Writes the grid of ``images`` to ``path``; ``layout`` is what ``grid`` takes.

    Raises:
        StorageError: the file cannot be written.
    """
    publish.file(path, png(grid(images, **layout)), durable=False)


def save_animation(path: Path, images: np.ndarray) -> None:
    """Writes ``images``, (n, c, h, w) in [-1, 1], as the frames of an endless GIF or WebP, or of an MP4 by ffmpeg.

    Raises:
        ConfigError: ``path`` ends otherwise, or there is no ffmpeg.
        StorageError: the file cannot be written.
    """
    frames = [Image.fromarray(grid(image[None])) for image in images]
    suffix = Path(path).suffix.lower()
    if suffix == ".mp4":
        publish.file(path, _mp4(frames), durable=False)
        return
    if suffix not in ANIMATIONS:
        raise ConfigError(f"{path}: an animation is one of {', '.join(ANIMATIONS)}")
    buffer = io.BytesIO()
    frames[0].save(
        buffer, format=suffix[1:], save_all=True, append_images=frames[1:], duration=1000 // FRAMES_PER_SECOND, loop=0
    )
    publish.file(path, buffer.getvalue(), durable=False)


def _mp4(frames: list[Image.Image]) -> bytes:
    if shutil.which("ffmpeg") is None:
        raise ConfigError("an .mp4 needs ffmpeg, which is not installed: write a .gif or .webp")
    width, height = frames[0].size
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory, "animation.mp4")
        command = ["ffmpeg", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        command += ["-r", str(FRAMES_PER_SECOND), "-i", "-", "-pix_fmt", "yuv420p", str(made)]
        pixels = b"".join(frame.convert("RGB").tobytes() for frame in frames)
        ended = subprocess.run(command, input=pixels, capture_output=True)
        if ended.returncode:
            raise ConfigError(f"ffmpeg failed: {ended.stderr.decode(errors='replace').strip()}")
        return made.read_bytes()


def _pixels(images: np.ndarray) -> np.ndarray:
    values = np.nan_to_num(np.asarray(images, np.float32), nan=-1.0)
    return np.rint((values.clip(-1, 1) + 1) * 127.5).astype(np.uint8)


def _over_checkerboard(tile: np.ndarray) -> np.ndarray:
    """RGBA pixels uint8 (h, w, 4) as RGB (h, w, 3), with light squares where they are transparent."""
    rows, columns = (np.arange(side) // SQUARE for side in tile.shape[:2])
    ground = np.where((rows[:, None] + columns) % 2, *SQUARES)[:, :, None]
    alpha = tile[:, :, 3:] / 255
    return np.rint(tile[:, :, :3] * alpha + ground * (1 - alpha)).astype(np.uint8)


def _margin(labels: Sequence[str], axis: int) -> int:
    """Pixels that the longest (axis 0) or the highest (axis 1) of ``labels`` needs, with some air."""
    font = ImageFont.load_default()
    return max((math.ceil(font.getbbox(label)[2 + axis]) + 6 for label in labels), default=0)


def _text(label: str, width: int, height: int) -> np.ndarray:
    """``label`` in black in the middle of a white (height, width, 1) field; what does not fit is cut off."""
    field = Image.new("L", (width, height), BACKGROUND)
    ImageDraw.Draw(field).text((width / 2, height / 2), label, fill=0, font=ImageFont.load_default(), anchor="mm")
    return np.asarray(field)[:, :, None]
