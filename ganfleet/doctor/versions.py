"""Which versions go together, and whether the installed ones do. docs/ascend.md shows this table with its sources."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from ganfleet.doctor.device import cards
from ganfleet.doctor.finding import Finding, failure, ok
from ganfleet.errors import GanfleetError
from ganfleet.fleet import start_mindspore

PYTHONS = ("3.10", "3.11", "3.12")


@dataclass(frozen=True)
class Release:
    """A MindSpore release: the CANN that its wheel was ``built`` with, and those that it ``accepts``."""

    built: str
    accepts: tuple[str, ...]


MINDSPORE = {
    "2.10": Release("9.1", ("8.2", "8.3", "8.5", "9.0", "9.1")),
    "2.9": Release("9.0", ("8.2", "8.3", "8.5", "9.0")),
    "2.8": Release("8.5", ("8.2", "8.3", "8.5")),
}
# Drivers (Ascend HDK) that a CANN runs with, first the one that it is paired with.
DRIVERS = {
    "9.1": ("26.0", "25.2", "25.3", "25.5", "26.1"),
    "9.0": ("26.0", "25.0", "25.2", "25.3", "25.5"),
    "8.5": ("25.5", "25.0", "25.2", "25.3"),
}
INSTALL = f"pip install 'mindspore>={list(MINDSPORE)[-1]},<2.{int(next(iter(MINDSPORE)).split('.')[1]) + 1}'"


def short(version: str) -> str:
    """``9.1`` of ``9.1.0-beta.2``."""
    return ".".join(re.findall(r"\d+", version)[:2])


def check() -> Iterator[Finding]:
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if python in PYTHONS:
        yield ok(f"Python {python}")
    else:
        yield failure(f"Python {python}: MindSpore has wheels for {', '.join(PYTHONS)}", "python3.11 -m venv .venv")
    numpy, mindspore = _installed("numpy"), _installed("mindspore")
    if numpy is None or int(numpy.split(".")[0]) >= 2:
        found = f"numpy {numpy}: MindSpore is built against numpy 1" if numpy else "numpy is not installed"
        yield failure(found, "pip install 'numpy<2'")
    else:
        yield ok(f"numpy {numpy}")
    if mindspore is None:
        yield failure("MindSpore is not installed", INSTALL)
    elif short(mindspore) not in MINDSPORE:
        yield failure(f"MindSpore {mindspore}: ganfleet is tested with {', '.join(MINDSPORE)}", INSTALL)
    if mindspore is not None:
        yield _started(mindspore)


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _started(version: str) -> Finding:
    """Whether MindSpore can be imported, and what it computes on."""
    try:
        target = start_mindspore().get_context("device_target")
    except GanfleetError as error:
        return failure(str(error), f"pip install --force-reinstall mindspore=={version}")
    if target == "CPU" and cards():
        return failure(
            "MindSpore computes on the CPU although there are cards: it cannot load CANN's libraries",
            'GLOG_v=2 python -c "import mindspore" names the library; '
            "then source /usr/local/Ascend/cann/set_env.sh in this shell",
        )
    return ok(f"MindSpore {version} starts and computes on {target}", device_target=target)
