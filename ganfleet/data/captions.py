"""Captions of image files: from a ``metadata.jsonl``, or from a ``.txt`` file beside each image."""

import json
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

from ganfleet.data.labels import refuse
from ganfleet.data.places import Files
from ganfleet.errors import ConfigError, DataError, printable
from ganfleet.rng import stream
from ganfleet.text.encoder import is_text

METADATA, BESIDE = "metadata.jsonl", ".txt"
Kind = Literal["metadata.jsonl", "txt"]
OF_A_ROW = ("text", "caption", "name")  # the keys that may have a row's caption, the first there is
FILE = ("file_name", "file")  # and those that name its image
REMEDY = "Add them, or take these images away"


@dataclass(frozen=True)
class Captions:
    """The captions of images, in their order.

    Attributes:
        texts: of each image.
        things: what each image is of, for holding out.
        files: the names of those that they are from.
        notes: what the user should know of them.
    """

    texts: list[str]
    things: list
    files: list[str]
    notes: list[str]


class Row(NamedTuple):
    """One of a metadata.jsonl, and where it is."""

    values: dict[str, Any]
    where: str


def captions_of(files: Files, kind: Kind | None, template: str | None, by: str | None = None) -> Captions:
    """The captions of the images among ``files``.

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
        found = _listed(files, lists, template, by)
    elif template or by:
        key = "template" if template else "hold_out_by"
        raise ConfigError(f"data.{key} is for captions in {METADATA}: leave it out, or add that file")
    else:
        found = _beside(files)
    broken = [name for name, text in zip(files.names, found.texts, strict=True) if not is_text(text)]
    refuse(files.describe(""), "has half of a character, which no text has, in the caption of", broken, "Correct it")
    empty = [name for name, text in zip(files.names, found.texts, strict=True) if not text.strip()]
    if empty:
        found.notes.append(f"{_counted(empty, 'caption is', 'captions are')} empty, such as that of {empty[0]}")
    return found


def _listed(files: Files, lists: list[str], template: str | None, by: str | None) -> Captions:
    """From files called metadata.jsonl."""
    rows: dict[str, Row] = {}
    several = []
    for each in lists:
        for name, row in _rows(files, each):
            if name in rows and rows[name].values != row.values:
                several.append(name)
            rows[name] = row
    refuse(files.describe(lists[0]), "has no caption for", [name for name in files.names if name not in rows], REMEDY)
    texts = [_filled(template, rows[name], name, files) for name in files.names]
    lacking = next((rows[name] for name in files.names if by and by not in rows[name].values), None)
    if lacking:
        raise ConfigError(
            f"data.hold_out_by is {by}, which {lacking.where} does not have: choose among {', '.join(lacking.values)}"
        )
    things = [str(rows[name].values[by]) for name in files.names] if by else texts
    notes, images = [], set(files.names)
    if several := list(dict.fromkeys(name for name in several if name in images)):
        told = _counted(several, "image has", "images have")
        notes.append(f"{told} several rows in {METADATA}, of which the last one counts, such as {several[0]}")
    if strange := [row.where for name, row in rows.items() if name not in images]:
        notes.append(f"{_counted(strange, 'row is', 'rows are')} of no image that is there, such as {strange[0]}")
    return Captions(texts, things, lists, notes)


def _beside(files: Files) -> Captions:
    """From text files, one for each image."""
    beside = {name: str(PurePosixPath(name).with_suffix(BESIDE)) for name in files.names}
    there = set(files.others)
    missing = [name for name, text in beside.items() if text not in there]
    if len(missing) == len(beside):
        raise ConfigError(
            f"{files.describe('')} has no captions: add a {METADATA}, or beside each image a {BESIDE} file of its name"
        )
    refuse(files.describe(""), "has no caption for", missing, REMEDY)
    texts = [_read(files, name).strip() for name in beside.values()]
    return Captions(texts, texts, list(beside.values()), [])


def _counted(names: Sequence, one: str, many: str) -> str:
    return f"{len(names):,} {one if len(names) == 1 else many}"


def held_out(things: Sequence, share: float) -> list[bool]:
    """Of each image, by what it is of, whether it is held out: ``share`` of all different things are, the same ones
    every time."""
    kinds = sorted(set(things))
    count = max(1, round(share * len(kinds))) if share else 0
    chosen = {kinds[i] for i in stream(0, "captioned/held-out").permutation(len(kinds))[:count]}
    return [thing in chosen for thing in things]


def _rows(files: Files, name: str) -> Iterator[tuple[str, Row]]:
    """The rows of the metadata.jsonl called ``name``, each behind the name of its image."""
    folder = PurePosixPath(name).parent
    for number, line in enumerate(_read(files, name).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{files.describe(name)}:{number}"
        try:
            row = json.loads(line)
            image = next(row[key] for key in FILE if key in row)
            if not all(is_text(value) for value in row.values() if isinstance(value, str)):
                raise DataError(f"{where} has half of a character, which no text has: correct it")
            yield str(folder / image), Row(row, where)
        except (ValueError, TypeError, StopIteration) as error:
            raise DataError(f'{where} is no row like {{"file": "a.png", "text": "a red car"}}: correct it') from error


def _filled(template: str | None, row: Row, image: str, files: Files) -> str:
    if template is None:
        key = next((key for key in OF_A_ROW if key in row.values), None)
        if key is None:
            raise DataError(f"{row.where} has none of {', '.join(OF_A_ROW)}: add one of them")
        if not isinstance(row.values[key], str):
            raise DataError(f"{row.where}: {key} is {json.dumps(row.values[key])[:40]}, and must be a string")
        return row.values[key]
    folder = PurePosixPath(image).parent.name or files.describe("").rstrip("/").rpartition("/")[2]
    known = {"folder": folder} | row.values
    asked = [key for _, key, _, _ in string.Formatter().parse(template) if key is not None]
    unknown = [key for key in asked if key not in known]
    if unknown:
        raise ConfigError(
            f"data.template asks for {printable(unknown[0])}, which {row.where} does not have: choose among "
            f"{', '.join(known)}"
        )
    return template.format(**known)


def _read(files: Files, name: str) -> str:
    try:
        return files.read(name).decode("utf-8-sig")  # with a mark of its order or without
    except Exception as error:  # of an archive, of its encoding, of a file that cannot be read
        raise DataError(f"{files.describe(name)} cannot be read: {error}. Repair it") from error
