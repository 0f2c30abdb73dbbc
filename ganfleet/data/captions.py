"""Captions of image files: from a ``metadata.jsonl``, or from a ``.txt`` file beside each image."""

import json
import string
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal

from ganfleet.data.labels import refuse
from ganfleet.data.places import Files
from ganfleet.errors import ConfigError, DataError, printable
from ganfleet.rng import stream

METADATA, BESIDE = "metadata.jsonl", ".txt"
Kind = Literal["metadata.jsonl", "txt"]
OF_A_ROW = ("text", "caption", "name")  # the keys that may have a row's caption, the first there is
FILE = ("file_name", "file")  # and those that name its image


def captions_of(files: Files, kind: Kind | None, template: str | None, by: str | None = None) -> tuple[list, list]:
    """The caption of each image among ``files``, in their order, and what it is of.

    Args:
        kind: where captions are; None for ``metadata.jsonl`` where there is one, otherwise for files beside images.
        template: what a caption is made of, such as ``{name} in the style of {folder}``: the keys of a row of
            metadata.jsonl, and ``folder``, the innermost one that the image is in. None for the row's text, caption or
            name.
        by: the key of a row that says what an image is of. None for its caption.

    Raises:
        ConfigError: there are no captions, or ``template`` has a key that a row lacks.
        DataError: a file of captions is damaged, or an image has none.
    """
    lists = [name for name in files.others if PurePosixPath(name).name == METADATA]
    if kind == METADATA or (kind is None and lists):
        if not lists:
            raise ConfigError(f"data.captions is {METADATA}, and {files.describe('')} has no such file: add it")
        rows = {name: row for each in lists for name, row in _rows(files, each).items()}
        refuse(files.describe(lists[0]), "has no caption for", [name for name in files.names if name not in rows])
        captions = [_filled(template, rows[name], name, files) for name in files.names]
        lacking = next((name for name in files.names if by and by not in rows[name]), None)
        if lacking:
            raise ConfigError(
                f"data.hold_out_by is {by}, which the row of {files.describe(lacking)} does not have: choose among "
                f"{', '.join(rows[lacking])}"
            )
        return captions, [rows[name][by] for name in files.names] if by else captions
    if template or by:
        key = "template" if template else "hold_out_by"
        raise ConfigError(f"data.{key} is for captions in {METADATA}: leave it out, or add that file")
    texts = {name: str(PurePosixPath(name).with_suffix(BESIDE)) for name in files.names}
    there = set(files.others)
    missing = [name for name, text in texts.items() if text not in there]
    if len(missing) == len(texts):
        raise ConfigError(
            f"{files.describe('')} has no captions: add a {METADATA}, or beside each image a {BESIDE} file of its name"
        )
    refuse(files.describe(""), "has no caption for", missing)
    captions = [_read(files, text).strip() for text in texts.values()]
    return captions, captions


def held_out(things: Sequence, share: float) -> list[bool]:
    """Of each image, by what it is of, whether it is held out: ``share`` of all different things are, the same ones
    every time."""
    kinds = sorted(set(things))
    count = max(1, round(share * len(kinds))) if share else 0
    chosen = {kinds[i] for i in stream(0, "captioned/held-out").permutation(len(kinds))[:count]}
    return [thing in chosen for thing in things]


def _rows(files: Files, name: str) -> dict[str, dict]:
    """The rows of the metadata.jsonl called ``name`` by the names of their images."""
    folder, rows = PurePosixPath(name).parent, {}
    for number, line in enumerate(_read(files, name).splitlines(), start=1):
        try:
            row = json.loads(line)
            image = next(row[key] for key in FILE if key in row)
            rows[str(folder / image)] = row
        except (ValueError, TypeError, StopIteration) as error:
            raise DataError(
                f'{files.describe(name)}:{number} is no row like {{"file": "a.png", "text": "a red car"}}: correct it'
            ) from error
    return rows


def _filled(template: str | None, row: dict, image: str, files: Files) -> str:
    if template is None:
        text = next((row[key] for key in OF_A_ROW if key in row), None)
        if not isinstance(text, str):
            raise DataError(f"{files.describe(image)} has a row without {', '.join(OF_A_ROW)}: add one of them")
        return text
    folder = PurePosixPath(image).parent.name or files.describe("").rstrip("/").rpartition("/")[2]
    known = {"folder": folder} | row
    asked = [key for _, key, _, _ in string.Formatter().parse(template) if key is not None]
    unknown = [key for key in asked if key not in known]
    if unknown:
        raise ConfigError(
            f"data.template asks for {printable(unknown[0])}, which the row of {files.describe(image)} does not have: "
            f"choose among {', '.join(known)}"
        )
    return template.format(**known)


def _read(files: Files, name: str) -> str:
    try:
        return files.read(name).decode("utf-8")
    except Exception as error:  # of an archive, of its encoding, of a file that cannot be read
        raise DataError(f"{files.describe(name)} cannot be read: {error}. Repair it") from error
