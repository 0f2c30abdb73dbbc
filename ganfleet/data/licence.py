"""Under which licence training data are, as far as they say so themselves."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ganfleet.errors import ConfigError
from ganfleet.plugins import SOURCES

NAMES = ("LICENSE", "LICENCE", "COPYING", "ATTRIBUTION")
SAYS = "Licence:"  # a line of the ATTRIBUTION.md that ``ganfleet data`` writes


def licence_of(section: Mapping[str, Any]) -> str | None:
    """The licence of the data that ``section``, the ``data`` of a config, names; None where they do not say.

    A source of an installed package has it as its attribute ``licence``. A folder has a file with such a name, if it is
    still there.
    """
    with suppress(ConfigError):  # the source is not installed here
        known = getattr(SOURCES.find(str(section.get("source", "embedded")), trusted=False), "licence", None)
        if known:
            return str(known)
    folder = Path(str(section["path"])) if section.get("path") else None
    if folder is None or not folder.is_dir():
        return None
    found = sorted(each for each in folder.iterdir() if each.is_file() and _stem(each) in NAMES)
    said = [
        line.removeprefix(SAYS).strip()
        for file in found
        if _stem(file) == "ATTRIBUTION"
        for line in file.read_text("utf-8", "replace").splitlines()
        if line.startswith(SAYS)
    ]
    where = ", ".join(str(file) for file in found)
    return "; ".join([*dict.fromkeys(said), f"see {where}"]) if found else None


def _stem(file: Path) -> str:
    """``LICENSE`` of ``LICENSE-trainA.txt``."""
    return file.name.split(".")[0].split("-")[0].upper()
