"""Picture files that translation reads and writes: images, and GIF animations frame by frame."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence, PngImagePlugin

from ganfleet.data.images import Resize, convert, decode, open_image
from ganfleet.data.loader import to_network
from ganfleet.errors import ConfigError, DataError
from ganfleet.observe.grid import grid, picture_of
from ganfleet.size import Size
from ganfleet.store import publish
from ganfleet.store.publish import writing
from ganfleet.strategies.options import IMAGE_FILE, Options

DIRECTION = "ganfleet direction"  # what the text in a PNG file is called that says how it was made
COMMENT = f"{DIRECTION}: "  # what the comment in a GIF file begins with
LARGEST = 2**27  # pixels of an image, or of all frames of an animation


def is_there(path: Path) -> bool:
    """Whether there is a file at ``path`` that is not empty, nor a PNG or GIF file without its end."""
    try:
        with path.open("rb") as file:
            begin = file.read(8)
            file.seek(max(0, file.seek(0, 2) - 4096))
            end = file.read()
    except FileNotFoundError:
        return False
    except OSError:  # a folder, or what may not be read: not ours to replace
        return True
    if begin == b"\x89PNG\r\n\x1a\n":
        return b"IEND\xaeB`\x82" in end  # with its checksum; behind it others may have put something
    return end.endswith(b";") if begin.startswith(b"GIF8") else bool(begin)


def direction_of(path: Path) -> str | None:
    """In which direction the PNG or GIF file at ``path`` was translated, if it says so."""
    try:
        with Image.open(path, formats=["PNG", "GIF"]) as image:
            comment = image.info.get("comment", b"").decode()
            return comment.removeprefix(COMMENT) if comment.startswith(COMMENT) else image.info.get(DIRECTION)
    except Exception:  # whatever this is, no translation of ours
        return None


def is_animation(path: Path) -> bool:
    """Whether this is a GIF file with several frames, or with so many that they cannot be counted: ``read_frames`` says
    how it is damaged.
    """
    if path.suffix.lower() != ".gif":
        return False
    try:
        image = Image.open(path, formats=["GIF"])
    except Exception:  # whatever this is, it has no frames
        return False
    with image:
        try:
            return image.n_frames > 1
        except Exception:  # Pillow raises a dozen kinds on damaged bytes
            return True


def read(path: Path, channels: int) -> np.ndarray:
    """float32 (channels, h, w) in [-1, 1], upright by its EXIF tag.

    Raises:
        DataError: it is no image, damaged, or too large.
    """
    try:
        return as_array(_decoded(path, channels))
    except Exception as error:  # Pillow raises a dozen kinds on damaged bytes
        raise DataError(f"{path} cannot be decoded: {error}") from error


def with_images(options: Options, channels: int, resolution: int | Size) -> Options:
    """``options`` with images in the place of their files, see ``strategies.options.ImageFile``.

    Raises:
        ConfigError: there is no such image, or it cannot be decoded.
    """
    images = {}
    for name, field in type(options).model_fields.items():
        if IMAGE_FILE in field.metadata:
            path = getattr(options, name)
            try:
                images[name] = to_network(Resize(resolution, upscale=True)(_decoded(path, channels), str(path)))
            except Exception as error:  # Pillow raises a dozen kinds on damaged bytes
                why = getattr(error, "strerror", None) or error
                raise ConfigError(f"{name}={path} cannot be read: {why}. Give an image file") from error
    return options.model_copy(update=images)


def _decoded(path: Path, channels: int) -> Image.Image:
    data = path.read_bytes()
    with open_image(data) as image:
        refuse_if_too_large(image)
    return decode(data, channels)


def read_frames(path: Path, channels: int) -> tuple[list[np.ndarray], dict]:
    """The frames of a GIF file, float32 (channels, h, w) in [-1, 1], and for how long and how often it shows them.

    Raises:
        DataError: it is damaged, or too large.
    """
    try:
        with open_image(path.read_bytes()) as image:
            refuse_if_too_large(image, image.n_frames)
            frames, durations = [], []
            for frame in ImageSequence.Iterator(image):
                frames.append(as_array(convert(frame.copy(), channels)))
                durations.append(frame.info.get("duration", 0))
            timing = {"duration": durations}
            return frames, timing | ({"loop": image.info["loop"]} if "loop" in image.info else {})
    except Exception as error:  # Pillow raises a dozen kinds on damaged bytes
        raise DataError(f"{path} cannot be decoded: {error}") from error


def refuse_if_too_large(image: Image.Image, frames: int = 1) -> None:
    """
    Raises:
        ValueError: it has more pixels than are worth trying.
    """
    if image.width * image.height * frames > LARGEST:
        of = f" in {frames} frames" if frames > 1 else ""
        raise ValueError(f"it has {image.width}x{image.height} pixels{of}, and memory cannot hold so many")


def as_array(image: Image.Image) -> np.ndarray:
    """float32 (channels, h, w) in [-1, 1]."""
    pixels = np.asarray(image)
    return to_network(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def side_by_side(images: list[np.ndarray]) -> Image.Image:
    """One picture of ``images`` (channels, h, w)."""
    one = picture_of(images[0]) if len(images) == 1 else grid(np.stack(images), columns=len(images), scale=1)
    return Image.fromarray(one)


def save(path: Path, frames: list[list[np.ndarray]], direction: str) -> None:
    """Write the images of the one frame, side by side, as a PNG file that says how it was made.

    Raises:
        StorageError: it cannot be written.
    """
    text = PngImagePlugin.PngInfo()
    text.add_text(DIRECTION, direction)
    content = io.BytesIO()
    side_by_side(frames[0]).save(content, format="PNG", compress_level=1, pnginfo=text)
    _put(path, content)


def save_animation(path: Path, frames: list[list[np.ndarray]], direction: str, timing: dict) -> None:
    """Write ``frames``, the images of each side by side, as a GIF file that says how it was made.

    ``timing`` is what ``read_frames`` gave.

    Raises:
        StorageError: it cannot be written.
    """
    content = io.BytesIO()
    first, *others = map(side_by_side, frames)
    comment = (COMMENT + direction).encode()
    first.save(content, format="GIF", save_all=True, append_images=others, comment=comment, **timing)
    _put(path, content)


def _put(path: Path, content: io.BytesIO) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    publish.file(path, content.getvalue(), durable=False)
