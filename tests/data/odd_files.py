"""Makes a directory of 200 odd files: every format and fault that is known from users' data, and counts what it plants.

``python tests/data/odd_files.py FOLDER`` makes one to look at.
"""

import io
import json
import os
import struct
import sys
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, features

TOTAL = 200
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@dataclass
class Planted:
    """What is in the directory, by the words of ``ganfleet data check --json``.

    ``files`` counts regular files that are not hidden, ``hidden`` those that are, ``links`` what leads to them again.
    """

    formats: Counter = field(default_factory=Counter)
    modes: Counter = field(default_factory=Counter)
    sizes: Counter = field(default_factory=Counter)
    classes: Counter = field(default_factory=Counter)
    others: Counter = field(default_factory=Counter)
    damaged: dict[str, str] = field(default_factory=dict)  # name: a part of the reason
    duplicates: list[list[str]] = field(default_factory=list)
    several_frames: int = 0
    links: int = 0
    pipes: int = 0
    hidden: int = 0

    @property
    def usable(self) -> int:
        return sum(self.formats.values())

    @property
    def images(self) -> int:
        return self.usable + len(self.damaged)

    @property
    def files(self) -> int:
        return self.images + sum(self.others.values())


class Planter:
    """Writes files below ``root`` in class folders ``0`` to ``11``, and counts them in ``planted``."""

    def __init__(self, root: Path):
        self.root, self.planted = root, Planted()
        self._rng = np.random.Generator(np.random.Philox(12))
        self._number = 0

    def noise(self, *shape: int) -> np.ndarray:
        return self._rng.integers(0, 256, shape, dtype=np.uint8)

    def name(self, suffix: str, folder: str | None = None) -> str:
        self._number += 1
        return f"{self._number % 12 if folder is None else folder}/{self._number:03d}{suffix}"

    def write(self, name: str | bytes, data: bytes) -> None:
        path = os.path.join(os.fsencode(self.root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)

    def image(
        self, suffix, format, image, mode=None, size=None, frames=False, folder=None, data=None, **options
    ) -> str:
        """One that can be read, and its name; ``mode`` and ``size`` where they are not those of ``image``."""
        if data is None:
            file = io.BytesIO()
            image.save(file, format, **options)
            data = file.getvalue()
        name = self.name(suffix, folder)
        self.write(name, data)
        width, height = size or image.size
        self.planted.formats[format] += 1
        self.planted.modes[mode or image.mode] += 1
        self.planted.sizes[f"{width}x{height}"] += 1
        self.planted.several_frames += frames
        self.planted.classes[name.split("/")[0]] += 1
        return name

    def damaged(self, name: str | bytes, data: bytes, reason: str) -> None:
        self.write(name, data)
        text = name if isinstance(name, str) else os.fsdecode(name)
        self.planted.damaged[text] = reason
        self.planted.classes[text.split("/")[0]] += 1

    def other(self, name: str, data: bytes = b"something else") -> None:
        self.write(name, data)
        self.planted.others[Path(name).suffix.lower() or "without a suffix"] += 1

    def hidden(self, name: str) -> None:
        self.write(name, b"hidden")
        self.planted.hidden += 1

    def link(self, name: str, target: str) -> None:
        os.symlink(target, self.root / name)
        self.planted.links += 1


def encoded(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def one_bit_png(width: int, height: int, rows: int | None = None) -> bytes:
    """A white PNG of so many pixels, made without holding them; ``rows`` that it really has."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer, row = zlib.compressobj(9), b"\0" + b"\xff" * ((width + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(rows or height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def plant(root: Path) -> Planted:
    """Make the directory ``root``; what is in it."""
    planter = Planter(root)
    sound(planter)
    faults(planter)
    beside(planter)
    planted = planter.planted
    while planted.files + planted.hidden + planted.links + planted.pipes < TOTAL:
        size = 8 if planter._number % 10 == 0 else 24
        planter.image(".png", "PNG", Image.fromarray(planter.noise(size, size, 3)))
    return planted


def sound(planter: Planter) -> None:
    """Everything that can be read."""

    def rgb(height=20, width=24):
        return Image.fromarray(planter.noise(height, width, 3))

    for suffix in (".png", ".PNG", ".apng"):
        planter.image(suffix, "PNG", rgb())
    for suffix in (".jpg", ".jpeg", ".JPG", ".jpe", ".jfif"):
        planter.image(suffix, "JPEG", rgb())
    for suffix in (".tif", ".tiff"):
        planter.image(suffix, "TIFF", rgb())
    planter.image(".bmp", "BMP", rgb())
    planter.image(".webp", "WEBP", rgb())
    planter.image(".gif", "GIF", rgb().quantize(16))
    if "avif" in features.get_supported_modules():
        planter.image(".avif", "AVIF", rgb())
    else:
        planter.other(planter.name(".avif"))
    # The name says one kind, the content is another.
    planter.image(".jpg", "PNG", rgb())
    planter.image(".png", "WEBP", rgb())

    # Modes
    grey = Image.fromarray(planter.noise(20, 20))
    planter.image(".png", "PNG", grey)
    planter.image(".png", "PNG", grey.convert("1"))
    planter.image(".png", "PNG", Image.fromarray(planter.noise(20, 20, 2), "LA"))
    planter.image(".png", "PNG", Image.fromarray(planter.noise(20, 20, 4)))
    planter.image(".webp", "WEBP", Image.fromarray(planter.noise(20, 20, 4)))
    planter.image(".png", "PNG", rgb().quantize(16))
    planter.image(".png", "PNG", rgb().quantize(16), transparency=3)
    planter.image(".png", "PNG", Image.fromarray(planter.noise(20, 20).astype(np.uint16) * 257))
    planter.image(".tif", "TIFF", Image.fromarray(planter.noise(20, 20).astype(np.uint16) * 257))
    planter.image(".jpg", "JPEG", Image.fromarray(planter.noise(20, 20, 4), "CMYK"))

    # Several frames
    frames = [rgb().quantize(16) for _ in range(3)]
    planter.image(".gif", "GIF", frames[0], frames=True, save_all=True, append_images=frames[1:])
    planter.image(".webp", "WEBP", rgb(), frames=True, save_all=True, append_images=[rgb()], lossless=True)
    planter.image(".tif", "TIFF", rgb(), frames=True, save_all=True, append_images=[rgb()])

    # What other programs leave in good files
    sideways = Image.Exif()
    sideways[0x0112] = 6
    planter.image(".jpg", "JPEG", rgb(20, 24), size=(20, 24), exif=sideways)
    planter.image(".tif", "TIFF", rgb(20, 24), size=(20, 24), exif=sideways)
    for suffix, format in ((".jpg", "JPEG"), (".png", "PNG"), (".webp", "WEBP")):
        planter.image(suffix, format, rgb(), exif=b"Exif\0\0nothing of the kind")
    text = PngImagePlugin.PngInfo()
    text.add_text("history", "edited " * 200_000, zip=True)
    planter.image(".png", "PNG", rgb(), pnginfo=text)
    planter.image(".png", "PNG", Image.new("1", (1, 1)), size=(20_000, 10_000), data=one_bit_png(20_000, 10_000))

    # Names
    for name in ("with blanks ", "ünïcödé ", "图像 ", "new\nline ", "[bold] ", "%s ", "-dash "):
        planter.image(f"{name}.png", "PNG", rgb())
    planter.image(".png", "PNG", rgb(), folder="3/" + "/".join(["deep"] * 10))

    # Doubles
    for copies in (2, 3):
        data = encoded(rgb(), "PNG")
        names = [planter.image(".png", "PNG", rgb(), data=data) for _ in range(copies)]
        planter.planted.duplicates.append(names)


def faults(planter: Planter) -> None:
    """Files with the name of an image that are none, or damaged."""
    noise = Image.fromarray(planter.noise(64, 64, 3))
    for suffix, format in ((".png", "PNG"), (".jpg", "JPEG"), (".tif", "TIFF"), (".bmp", "BMP"), (".webp", "WEBP")):
        data = encoded(noise, format)
        planter.damaged(planter.name(suffix), data[: len(data) // 2], "")
        planter.damaged(planter.name(suffix), data[:20], "")
        planter.damaged(planter.name(suffix), b"", "it is empty")
        planter.damaged(planter.name(suffix), LFS, "git lfs pull")
        planter.damaged(planter.name(suffix), b"<!DOCTYPE html><title>404</title>", "it is not one of PNG")
    flipped = bytearray(encoded(noise, "PNG"))
    flipped[len(flipped) // 2] ^= 0xFF
    planter.damaged(planter.name(".png"), bytes(flipped), "")
    planter.damaged(planter.name(".png"), b"/annex/objects/SHA256E-s1--00.png\n", "git annex get")
    planter.damaged(planter.name(".jpg"), b"\0\0\0\x18ftypheic" + b"\0" * 99, "it is not one of PNG")
    planter.damaged(b"4/\xc4\xe3.png", b"damaged", "it is not one of PNG")
    depth = Image.fromarray(planter.noise(20, 20).astype(np.float32) / 255)
    planter.damaged(planter.name(".tif"), encoded(depth, "TIFF"), "floating-point")
    counts = Image.fromarray(planter.noise(20, 20).astype(np.int32) - 100_000)
    planter.damaged(planter.name(".tif"), encoded(counts, "TIFF"), "its pixels are from")
    planter.damaged(planter.name(".png"), one_bit_png(2**18, 2**14, rows=1), "it has more than 1,073,741,824 pixels")


def beside(planter: Planter) -> None:
    """What is no image, hidden, or there under another name."""
    for suffix in (".heic", ".heic", ".svg", ".psd", ".jxl", ".txt", ".json", ".csv", ".mp4", ".zip", ".db", ""):
        planter.other(planter.name(suffix))
    planter.other("LICENSE")
    planter.other("5/image.png.part")
    for name in (".DS_Store", "0/._001.png", ".git/objects/ab.png", "__MACOSX/0/._002.png", "1/.hidden.jpg"):
        planter.hidden(name)
    planter.link("again", ".")
    planter.link("0/up", "..")
    planter.link("2/zero", "../0")
    twin = next(name for names in planter.planted.duplicates for name in names)
    planter.link("6/linked.png", f"../{twin}")
    os.mkfifo(planter.root / "7" / "pipe.png")
    planter.planted.pipes += 1
    os.symlink("nowhere.png", planter.root / "8" / "broken.png")
    planter.planted.damaged["8/broken.png"] = "No such file"
    planter.planted.classes["8"] += 1


if __name__ == "__main__":
    made = plant(Path(sys.argv[1]))
    print(json.dumps({"images": made.images, "usable": made.usable, "files": made.files}))
