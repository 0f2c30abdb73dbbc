"""Emoji as training images: one vendor's, or one vendor's beside another's for translation.

Each set is made from pinned npm packages. How these are fetched is npm.py's business.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from ganfleet import rng
from ganfleet.data import npm
from ganfleet.data.images import Resize, decode
from ganfleet.data.npm import Package
from ganfleet.errors import ConfigError, DataError

Track = Callable[[Sequence, str], Iterable]  # goes through a sequence, showing progress under a heading
Files = dict[str, bytes]  # a package's files by path

SKIN_TONES = {
    "1f3fb": "light skin tone",
    "1f3fc": "medium-light skin tone",
    "1f3fd": "medium skin tone",
    "1f3fe": "medium-dark skin tone",
    "1f3ff": "dark skin tone",
}
EXCHANGED = {"1f3fc": "1f3fd", "1f3fd": "1f3fc"}
COUPLES_AND_TECHNOLOGISTS = {"1f46b", "1f46c", "1f46d", "1f48f", "1f491", "1f4bb"}
HELD_OUT = 10  # one base emoji of so many


@dataclass(frozen=True)
class Emoji:
    """``code``: hexadecimal code points joined by ``-``, without the variation selector fe0f. ``base``: the code of the
    same emoji without skin tones. ``file``: what the vendor published, PNG, WebP or SVG."""

    code: str
    name: str
    category: str
    base: str
    file: bytes


@dataclass(frozen=True)
class Vendor:
    """Where a set comes from and what must be said of it.

    Attributes:
        packages: the images first.
        wanted: which files of the packages ``parse`` reads.
        parse: the emoji in these files.
        count: of the emoji.
        pixels: width and height of the images; None for drawings, which have any size.
    """

    packages: tuple[Package, ...]
    wanted: Callable[[str], bool]
    parse: Callable[[Files], list[Emoji]]
    count: int
    pixels: int | None
    title: str
    author: str
    home: str
    licence: str
    licence_file: str


def canonical(code: str) -> str:
    return code.lower().replace("-fe0f", "")


def tones_in(code: str) -> str:
    """What a name says of the skin tones in ``code``, such as ``", dark skin tone"``."""
    return "".join(f", {SKIN_TONES[point]}" for point in code.split("-") if point in SKIN_TONES)


def without_tones(code: str) -> str:
    return "-".join(point for point in code.split("-") if point not in SKIN_TONES)


def parse_emoji_datasource(found: Files, vendor: str) -> list[Emoji]:
    emoji = []
    for entry in json.loads(found["emoji.json"]):
        base, name = canonical(entry["unified"]), (entry["name"] or entry["short_name"]).lower()
        for variant in (entry, *entry.get("skin_variations", {}).values()):
            code = canonical(variant["unified"])
            file = found[f"img/{vendor}/64/{variant['image']}"]
            emoji.append(Emoji(code, name + tones_in(code), entry["category"], base, file))
    return emoji


def parse_fluent(found: Files) -> list[Emoji]:
    """The package has codes alone; names and categories are the Unicode index's.

    A few files whose names are no emoji's code, copies of others nearly all, are left out.
    """
    index = {
        canonical("-".join(f"{ord(character):04x}" for character in text)): entry
        for text, entry in json.loads(found["data-by-emoji.json"]).items()
    }
    bases = {without_tones(code): code for code in index}
    drawings = {fluent_code(path): file for path, file in found.items() if path.endswith(".webp")}
    emoji = []
    for code, file in drawings.items():
        base = bases.get(without_tones(code))
        if base is not None:
            emoji.append(Emoji(code, index[base]["name"] + tones_in(code), index[base]["group"], base, file))
    return emoji


def fluent_code(path: str) -> str:
    """The code of what is to be seen in the file: the package exchanged the names of medium-light and medium skin,
    except where there are couples or technologists."""
    points = canonical(Path(path).stem).split("-")
    couple = sum(point in SKIN_TONES for point in points) == 2
    if not couple and COUPLES_AND_TECHNOLOGISTS.isdisjoint(points):
        points = [EXCHANGED.get(point, point) for point in points]
    return "-".join(points)


def parse_openmoji(found: Files) -> list[Emoji]:
    return [
        Emoji(
            canonical(entry["hexcode"]),
            entry["annotation"],
            entry["group"],
            canonical(entry["skintone_base_hexcode"] or entry["hexcode"]),
            found[f"color/svg/{entry['hexcode']}.svg"],
        )
        for entry in json.loads(found["data/openmoji.json"])
    ]


VENDORS = {
    "google": Vendor(
        packages=(
            Package(
                "emoji-datasource-google",
                "16.0.0",
                "sha512-ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
            ),
        ),
        wanted=lambda path: path == "emoji.json" or path.startswith("img/google/64/"),
        parse=partial(parse_emoji_datasource, vendor="google"),
        count=3786,
        pixels=64,
        title="Noto Emoji",
        author="Google LLC and the Noto Emoji authors",
        home="https://github.com/googlefonts/noto-emoji",
        licence="Apache License 2.0",
        licence_file="apache-2.0.txt",
    ),
    "twitter": Vendor(
        packages=(
            Package(
                "emoji-datasource-twitter",
                "16.0.0",
                "sha512-7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==",
            ),
        ),
        wanted=lambda path: path == "emoji.json" or path.startswith("img/twitter/64/"),
        parse=partial(parse_emoji_datasource, vendor="twitter"),
        count=3786,
        pixels=64,
        title="Twemoji",
        author="Twitter, Inc. and other contributors",
        home="https://github.com/jdecked/twemoji",
        licence="Creative Commons Attribution 4.0 International (CC BY 4.0)",
        licence_file="cc-by-4.0.txt",
    ),
    "fluent": Vendor(
        packages=(
            Package(
                "@lobehub/fluent-emoji-3d",
                "1.1.0",
                "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
            ),
            Package(
                "unicode-emoji-json",
                "0.8.0",
                "sha512-3wDXXvp6YGoKGhS2O2H7+V+bYduOBydN1lnI0uVfr1cIdY02uFFiEH1i3kE5CCE4l6UqbLKVmEFW9USxTAMD1g==",
            ),
        ),
        wanted=lambda path: path == "data-by-emoji.json" or path.startswith("assets/"),
        parse=parse_fluent,
        count=3372,
        pixels=256,
        title="Fluent Emoji, 3D",
        author="Microsoft Corporation; packaged by LobeHub",
        home="https://github.com/microsoft/fluentui-emoji",
        licence="MIT",
        licence_file="mit-fluent.txt",
    ),
    "openmoji": Vendor(
        packages=(
            Package(
                "openmoji",
                "17.0.0",
                "sha512-EBnYrNGdcdw+OSXmENeNE1yBNRu6tOraTmoOyUbJkTmvT/+XETp8RZLSJFzD3lrPc5N9CzsyPnRTk0Vp4UaI9w==",
            ),
        ),
        wanted=lambda path: path == "data/openmoji.json" or path.startswith("color/svg/"),
        parse=parse_openmoji,
        count=4495,
        pixels=None,
        title="OpenMoji",
        author="the OpenMoji project (HfG Schwäbisch Gmünd) and its contributors",
        home="https://openmoji.org",
        licence="Creative Commons Attribution-ShareAlike 4.0 International (CC BY-SA 4.0)",
        licence_file="cc-by-sa-4.0.txt",
    ),
}


def check(vendor: Vendor, size: int) -> None:
    """Meet what cannot be before anything is fetched.

    Raises:
        ConfigError: ``size`` is larger than the vendor's images, or drawings cannot be rendered here.
    """
    if vendor.pixels is None:
        renderer()
    elif size > vendor.pixels:
        raise ConfigError(
            f"--size {size}: the images of {vendor.title} have {vendor.pixels}x{vendor.pixels} pixels: choose no more"
        )


def renderer() -> Callable[..., bytes]:
    try:
        from resvg_py import svg_to_bytes
    except ImportError:
        raise ConfigError(
            "OpenMoji is drawn as SVG, and resvg-py, which renders it, is not installed: "
            "run `pip install 'ganfleet[openmoji]'`."
        ) from None
    return svg_to_bytes


def load(vendor: Vendor, tarballs: dict[Package, Path]) -> list[Emoji]:
    """The vendor's emoji, by code.

    Raises:
        DataError: not as many as there must be.
    """
    found = {
        path: file for package in vendor.packages for path, file in npm.read(tarballs[package], vendor.wanted).items()
    }
    emoji = sorted(vendor.parse(found), key=lambda each: each.code)
    if len({each.code for each in emoji}) != vendor.count:
        raise DataError(f"{vendor.packages[0]} has {len(emoji)} emoji where {vendor.count} were expected.")
    return emoji


def render(file: bytes, size: int, name: str) -> Image.Image:
    """The emoji in ``file`` on white, RGB, in a square of ``size`` pixels."""
    if file.lstrip().startswith(b"<"):
        file = renderer()(svg_string=file.decode(), width=size, height=size, skip_system_fonts=True)
    pixels = Resize(size, "fit", upscale=True)(decode(file, channels=3), name)
    return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def write_set(folder: Path, vendor: Vendor, emoji: list[Emoji], size: int, track: Track) -> None:
    """One PNG per emoji, named by its code, with metadata.jsonl, LICENSE and ATTRIBUTION.md."""
    rows = []
    for each in track(emoji, f"writing {vendor.title}"):
        file = f"{each.code}.png"
        render(each.file, size, file).save(folder / file)
        rows.append(describe(file, each))
    write_metadata(folder, rows)
    write_licence(folder, "LICENSE", vendor)
    (folder / "ATTRIBUTION.md").write_text(attribution(vendor, size), "utf-8")


def write_pair(
    folder: Path, twemoji: list[Emoji], fluent: list[Emoji], size: int, track: Track, paired: bool = False
) -> dict[str, int]:
    """Twemoji as domain A, Fluent 3D as domain B: trainA, trainB, testA, testB. The number of images of each.

    Only emoji that both have. One base emoji of ten is held out with all of its skin tones. Test images of one name
    show one emoji, and with ``paired`` training images too. Without, these are numbered in an order of each domain's
    own, so that names pair nothing.
    """
    others = {each.code: each for each in fluent}
    pairs = [(each, others[each.code]) for each in twemoji if each.code in others]
    held_out = draw_held_out(sorted({a.base for a, _ in pairs}))
    train = [pair for pair in pairs if pair[0].base not in held_out]
    test = [pair for pair in pairs if pair[0].base in held_out]
    named = {}
    for side, domain in enumerate("AB"):
        order = rng.stream(0, f"emoji-pair/train{domain}").permutation(len(train))
        if paired:
            named |= {f"train{domain}/{pair[0].code}.png": pair[side] for pair in train}
        else:
            named |= {f"train{domain}/{number:05d}.png": train[i][side] for number, i in enumerate(order)}
        named |= {f"test{domain}/{a.code}.png": (a, b)[side] for a, b in test}
        for split in ("train", "test"):
            (folder / f"{split}{domain}").mkdir()
    for file, each in track(list(named.items()), "writing the pair"):
        render(each.file, size, file).save(folder / file)
    write_metadata(folder, [describe(file, each) for file, each in named.items()])
    vendors = {"A": VENDORS["twitter"], "B": VENDORS["fluent"]}
    for domain, vendor in vendors.items():
        write_licence(folder, f"LICENSE-{domain}", vendor)
    texts = [f"# Domain {domain}\n\n{attribution(vendor, size)}" for domain, vendor in vendors.items()]
    (folder / "ATTRIBUTION.md").write_text("\n".join(texts), "utf-8")
    return {"train": len(train), "test": len(test), "held out": len(held_out)}


def draw_held_out(bases: list[str]) -> set[str]:
    """One of ten, the same ones every time."""
    return set(rng.stream(0, "emoji-pair/held-out").permutation(bases)[: max(1, len(bases) // HELD_OUT)].tolist())


def describe(file: str, emoji: Emoji) -> dict[str, str]:
    return {"file": file, "name": emoji.name, "category": emoji.category, "code": emoji.code, "base": emoji.base}


def write_metadata(folder: Path, rows: list[dict]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / "metadata.jsonl").write_text("".join(lines), "utf-8")


def write_licence(folder: Path, name: str, vendor: Vendor) -> None:
    text = files("ganfleet.data").joinpath("licences", vendor.licence_file).read_text("utf-8")
    (folder / name).write_text(text, "utf-8")


def attribution(vendor: Vendor, size: int) -> str:
    package = vendor.packages[0]
    return (
        f"Images: {vendor.title}, by {vendor.author}, {vendor.home}\n\n"
        f"Licence: {vendor.licence}\n\n"
        f"Taken from the npm package {package} ({package.integrity}).\n\n"
        f"Changed: transparency composited on white, scaled to {size}x{size} pixels, saved as PNG.\n"
    )
