"""Classes of image files: from NVlabs' ``dataset.json``, or from the folders that they are in."""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ganfleet.data.places import Files
from ganfleet.errors import ConfigError, DataError, printable

FILE = "dataset.json"
OTHERWISE = "set data.classes to none to train without labels"
REMEDY = f"Complete the labels, or {OTHERWISE}"
HIGHEST = 2**31 - 1
NAMES_SHOWN = 20


@dataclass(frozen=True)
class Labels:
    """The class of each image.

    Attributes:
        numbers: int32 (n,), in the order of the images.
        names: of classes 0, 1, 2 …; empty where classes have numbers only.
        file: the name of the file that they are from, if it is one.
    """

    numbers: np.ndarray
    names: tuple[str, ...] = ()
    file: str | None = None


def labels_of(files: Files, choice: str | None) -> Labels | None:
    """The classes of the images among ``files``, as ``data.classes`` says; None where they have none.

    A ``dataset.json`` with labels comes before folders: NVlabs' tools cut a data set into folders that are no classes.

    Raises:
        ConfigError: ``choice`` asks for what is not there.
        DataError: the file is damaged, does not go with the images, or has labels that are no classes.
    """
    if choice == "none":
        return None
    labels = from_file(files)
    if labels is None and choice == FILE:
        raise ConfigError(
            f"data.classes is {FILE}, and there is no such file with labels in {files.describe('')}: add it"
        )
    if labels is None and choice == "subfolder":
        return from_subfolders(files)
    return labels


def described(class_names: Sequence[str]) -> str:
    """``0 cats, 1 dogs``, the number of each class and its name; of many classes, the first and the last."""
    shown = [f"{number} {name}" for number, name in enumerate(class_names)]
    return ", ".join(shown if len(shown) <= NAMES_SHOWN else [*shown[: NAMES_SHOWN - 2], "…", shown[-1]])


# ── Folders


def from_subfolders(files: Files) -> Labels:
    """Each top-level subfolder is a class. They are numbered in natural order: 2 before 10.

    Raises:
        ConfigError: an image is in none.
    """
    inner = [name.removeprefix(files.wrapper) for name in files.names]
    loose = next((name for name in inner if "/" not in name), None)
    if loose is not None:
        raise ConfigError(
            f"data.classes: subfolder, but {loose} is in no subfolder of {files.describe(files.wrapper)}: move it into "
            "one, or set data.classes to none"
        )
    folders = [name.split("/")[0] for name in inner]
    order = sorted(set(folders), key=natural)
    number = {folder: i for i, folder in enumerate(order)}
    numbers = np.array([number[folder] for folder in folders], np.int32)
    return Labels(numbers, tuple(map(printable, order)))


def natural(name: str) -> tuple[list, str]:
    """A key that sorts names as people do, by the value of the numbers in them."""
    parts = re.split(r"([0-9]+)", name)  # text and digits in turn
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


# ── dataset.json


def file_among(files: Files) -> str | None:
    """The name of the ``dataset.json`` at the root of the data."""
    return next((name for name in (FILE, files.wrapper + FILE) if name in files.others), None)


def from_file(files: Files) -> Labels | None:
    """The labels of the ``dataset.json`` at the root of the data, ``{"labels": [[name, class], …]}``.

    Raises:
        DataError: as ``labels_of`` does.
    """
    file = file_among(files)
    if file is None:
        return None
    folder, where = file.removesuffix(FILE), files.describe(file)
    try:
        content = json.loads(files.read(file))
    except Exception as error:  # of JSON, of a damaged archive, of its encoding, of a file that cannot be read
        raise DataError(f"{where} cannot be read: {error}. Repair it, or {OTHERWISE}") from error
    if not isinstance(content, dict) or content.get("labels") is None:
        return None
    classes = classes_by_name(content["labels"], where)
    images = [plain(name.removeprefix(folder)) for name in files.names]
    refuse(where, "has no label for", [name for name in images if name not in classes])
    refuse(where, "has a label for what is no image here:", sorted(classes.keys() - set(images)))
    return Labels(np.array([classes[name] for name in images], np.int32), file=file)


def classes_by_name(labels: Any, where: str) -> dict[str, int]:
    """
    Raises:
        DataError: an entry is not ``[name, class]``, or one name has two classes.
    """
    entries = list(labels.items()) if isinstance(labels, dict) else labels
    if not isinstance(entries, list):
        raise DataError(f'{where}: "labels" is {shown(labels)}, not a list of [name, class]. Repair it, or {OTHERWISE}')
    classes: dict[str, int] = {}
    for entry in entries:
        if not isinstance(entry, list | tuple) or len(entry) < 2 or not isinstance(entry[0], str):
            raise DataError(f"{where}: a label is {shown(entry)}, not [name, class]. Repair it, or {OTHERWISE}")
        name, label = plain(entry[0]), entry[1] if len(entry) == 2 else entry[1:]
        if not is_class(label):
            raise DataError(
                f"{where}: {name} has {kind_of(label)}, {shown(label)}, and ganfleet takes one class for each image, "
                f"an integer from 0 to {HIGHEST}. Change the labels, or {OTHERWISE}"
            )
        if classes.setdefault(name, label) != label:
            raise DataError(
                f"{where}: {name} has several labels, {classes[name]} and {label}, and ganfleet takes one class for "
                f"each image. Change the labels, or {OTHERWISE}"
            )
    return classes


def is_class(label: Any) -> bool:
    return isinstance(label, int) and not isinstance(label, bool) and 0 <= label <= HIGHEST


def kind_of(label: Any) -> str:
    """What kind of thing stands where a class should."""
    if isinstance(label, list | tuple):
        return "a list of numbers" if any(isinstance(each, float) for each in label) else "several labels"
    if label is None:
        return "no label"
    return "a label that is no class"


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def plain(name: str) -> str:
    """A name as both a file and a list of labels may write it: with ``/``, and composed accents."""
    return unicodedata.normalize("NFC", name.replace("\\", "/").removeprefix("./"))


def refuse(
    where: str, problem: str, names: Iterable[str], remedy: str = f"Complete the labels, or {OTHERWISE}"
) -> None:
    """
    Raises:
        DataError: there are such names.
    """
    names = list(names)
    if names:
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        raise DataError(f"{where} {problem} {printable(names[0])}{more}. {remedy}")
