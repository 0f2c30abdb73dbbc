"""What a run has left in its directory, read as far as it is there: a run may have been killed at any moment."""

import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors

from ganfleet.document import Document
from ganfleet.errors import ConfigError
from ganfleet.observe.history import FILE as HISTORY
from ganfleet.size import Size
from ganfleet.store import checkpoint

SAMPLE = re.compile(r"(\d+\.\d{3})kimg\.png")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")
PLACE = ("step", "nimg", "kimg", "resolution")  # in a line of the log, where the run was
PACE = ("sec_per_kimg", "images_per_sec")


@dataclass(frozen=True)
class Saved:
    """A checkpoint: what its files say of themselves. Nothing is verified; ``ganfleet ckpt verify`` does that."""

    path: Path
    facts: dict[str, Any]
    size: int
    parameters: dict[str, int]  # of each player

    @property
    def step(self) -> int:
        return self.facts["clock"]["step"]

    @property
    def kimg(self) -> float:
        return self.facts["clock"]["nimg"] / 1000


@dataclass(frozen=True)
class Stretch:
    """A part of a run at one resolution."""

    resolution: Size
    first: float  # kimg
    last: float
    seconds: float | None  # of training, without pauses; None where no line says
    memory: dict[str, float]  # MiB by phase, at the peak


@dataclass
class Remains:
    """What the run in ``path`` has left.

    Attributes:
        config, text: ``config.yaml``, read and as it stands.
        log: the lines of ``log.jsonl`` with stats of training.
        measured: the lines of ``log.jsonl`` with metrics that the run measured itself.
        evaluations: the lines of ``metrics.jsonl``, the run's and those of ``ganfleet evaluate``.
        history: the lines of ``history.jsonl``; none if an older release made the run.
        samples: the grids, by kimg.
        pictures: other pictures in the directory, or in its folder ``figures``.
        checkpoints: those whose files can be read.
        unreadable: how many lines could not be read, by file.
    """

    path: Path
    config: dict[str, Any]
    text: str
    log: list[dict[str, Any]] = field(default_factory=list)
    measured: list[dict[str, Any]] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    samples: list[tuple[float, Path]] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    checkpoints: list[Saved] = field(default_factory=list)
    best: dict[str, Any] | None = None
    unreadable: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @cached_property
    def kimg(self) -> float:
        """Where the run is, as far as any file says."""
        ends = [line["kimg"] for line in [*self.log, *self.history] if isinstance(line.get("kimg"), int | float)]
        return max([*ends, *(each.kimg for each in self.checkpoints)], default=0)

    @cached_property
    def step(self) -> int:
        ends = [line["step"] for line in [*self.log, *self.history] if isinstance(line.get("step"), int)]
        return max([*ends, *(each.step for each in self.checkpoints)], default=0)

    @property
    def start(self) -> dict[str, Any]:
        """What the newest process said of itself when it began; empty if an older release made the run."""
        return next((line for line in reversed(self.history) if line["event"] == "start"), {})

    @property
    def newest(self) -> Saved | None:
        return self.checkpoints[-1] if self.checkpoints else None

    @cached_property
    def curves(self) -> dict[str, list[tuple[float, float | None]]]:
        """Each number of the log over kimg, None where it was not finite."""
        found: dict[str, list[tuple[float, float | None]]] = {}
        for line in self.log:
            for name, value in line.items():
                if name not in PLACE and (value is None or isinstance(value, int | float)):
                    found.setdefault(name, []).append((line["kimg"], value))
        return found

    @cached_property
    def metrics(self) -> dict[str, list[tuple[float, float | None]]]:
        """Each metric that the run measured itself, over kimg."""
        found: dict[str, list[tuple[float, float | None]]] = {}
        for line in self.measured:
            for name, value in line.items():
                if name.startswith("Metrics/"):
                    found.setdefault(name.removeprefix("Metrics/"), []).append((line["kimg"], value))
        return found

    @cached_property
    def stretches(self) -> list[Stretch]:
        """The stages of the run, as far as its log tells them: one for each resolution in turn."""
        found: list[Stretch] = []
        before = 0.0
        for line in self.log:
            size = Size.of(line["resolution"])
            if not found or found[-1].resolution != size:
                found.append(Stretch(size, before, before, None, {}))
            last = found[-1]
            pace, seconds = line.get("sec_per_kimg"), last.seconds
            if pace is not None:
                seconds = (seconds or 0) + pace * (line["kimg"] - before)
            memory = dict(last.memory)
            for name, value in line.items():
                if name.startswith("Memory/") and value is not None:
                    memory[name.removeprefix("Memory/")] = max(value, memory.get(name.removeprefix("Memory/"), 0))
            before = line["kimg"]
            found[-1] = Stretch(size, last.first, before, seconds, memory)
        return found

    def resolution_at(self, kimg: float) -> Size | None:
        """That of images drawn at ``kimg``."""
        return next((each.resolution for each in self.stretches if kimg <= each.last), None) or (
            self.stretches[-1].resolution if self.stretches else None
        )


def read(path: Path) -> Remains:
    """What the run in the folder ``path`` has left.

    Raises:
        ConfigError: there is no such folder, or it is no run's.
    """
    file = path / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"{path} is no run: {_instead(path)}")
    config = Document.read(file).data
    if not isinstance(config.get("strategy"), dict):
        raise ConfigError(f"{path} is no run: its config.yaml names no strategy; give the folder of a run")
    remains = Remains(path, config, file.read_text("utf-8"))

    for line in _lines(remains, "log.jsonl", ("step", "kimg")):
        if any(name.startswith("Metrics/") for name in line):
            remains.measured.append(line)
        elif "resolution" in line:
            remains.log.append(line)
    for line in _lines(remains, "metrics.jsonl", ("step", "kimg", "metrics")):
        if line not in remains.evaluations:  # measured twice, because the run went on from a checkpoint before
            remains.evaluations.append(line)
    remains.history = list(_lines(remains, HISTORY, ("event", "time", "step", "kimg")))
    remains.samples = sorted(
        (float(match[1]), each) for each in _files(path / "samples") if (match := SAMPLE.fullmatch(each.name))
    )
    remains.pictures = [
        each for folder in (path / "figures", path) for each in _files(folder) if each.suffix.lower() in PICTURES
    ]
    remains.checkpoints = [saved for each in checkpoint.checkpoints(path / "checkpoints") if (saved := _saved(each))]
    with suppress(OSError, ValueError):
        remains.best = json.loads((path / "best.json").read_text("utf-8"))
    return remains


def _instead(path: Path) -> str:
    """What to give in the place of ``path``."""
    if not path.exists():
        return "there is no such folder; give the folder of a run, such as runs/00000-gan-embedded32"
    if (path.parent.parent / "config.yaml").is_file():
        return f"it is a checkpoint; give the folder of its run, {path.parent.parent}"
    runs = sorted(each.parent for each in path.glob("*/config.yaml")) if path.is_dir() else []
    if runs:
        return f"it holds runs; give one of them, such as {runs[-1]}"
    return "it has no config.yaml; give the folder of a run, such as runs/00000-gan-embedded32"


def _files(folder: Path) -> list[Path]:
    """The files in ``folder``; none if there is no such folder."""
    with suppress(OSError):
        return sorted(each for each in folder.iterdir() if each.is_file() and not each.name.startswith("."))
    return []


def _lines(remains: Remains, name: str, needed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The records of a file; those that a kill has torn, or that lack what is ``needed``, are counted."""
    try:
        content = (remains.path / name).read_bytes()
    except OSError:
        return
    for line in content.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict) and all(record.get(key) is not None for key in needed):
            yield record
        elif line.strip():
            remains.unreadable[name] = remains.unreadable.get(name, 0) + 1


def _saved(path: Path) -> Saved | None:
    """The checkpoint in ``path``; None if its state cannot be read."""
    try:
        facts = json.loads((path / checkpoint.STATE).read_bytes())["facts"]
        int(facts["clock"]["nimg"]), int(facts["clock"]["step"])
        size = sum(each.stat().st_size for each in path.iterdir())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    ending = f".weights{checkpoint.SUFFIX}"
    weights = {each.name.removesuffix(ending): each for each in _files(path) if each.name.endswith(ending)}
    return Saved(path, facts, size, {player: _count(file) for player, file in weights.items()})


def _count(path: Path) -> int:
    """How many numbers are in a file of weights, from its header alone; 0 if it cannot be read."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except (OSError, safetensors.SafetensorError):
        return 0
