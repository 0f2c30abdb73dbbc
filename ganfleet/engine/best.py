"""Which checkpoint of a run is the best so far, by one of its metrics; ``best.json`` in its directory says it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganfleet.clock import Clock
from ganfleet.config import KeepBest
from ganfleet.errors import ConfigError
from ganfleet.size import Size, plain
from ganfleet.store import checkpoint, publish

FILE = "best.json"


class Best:
    """The best checkpoint of the run in ``directory``. Only rank 0 has it."""

    def __init__(self, directory: Path):
        self._directory = directory

    def read(self) -> dict[str, Any] | None:
        """What is noted of the best checkpoint; None where there is none, or it has gone."""
        try:
            noted = json.loads((self._directory / FILE).read_text("utf-8"))
            there = {path.name for path in checkpoint.checkpoints(self._directory / "checkpoints")}
            return noted if noted["checkpoint"] in there else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def step(self) -> int | None:
        """Of the best checkpoint."""
        noted = self.read()
        return noted and noted["step"]

    def beats(self, values: Mapping[str, float], settings: KeepBest, resolution: int | Size) -> bool:
        """Whether ``values`` are better than those of the best checkpoint.

        Values of another metric, mode or resolution do not compare, so the new ones count as better: a model that has
        grown starts anew.

        Raises:
            ConfigError: the metric was not measured.
        """
        if settings.metric not in values:
            raise ConfigError(
                f"checkpoint.keep_best.metric is {settings.metric}, and measured are {', '.join(values)}: name one"
            )
        value, noted = values[settings.metric], self.read()
        if not math.isfinite(value):
            return False
        asked = [settings.metric, settings.mode, plain(resolution)]
        if noted is None or [noted["metric"], noted["mode"], noted.get("resolution")] != asked:
            return True
        return value < noted["value"] if settings.mode == "min" else value > noted["value"]

    def note(self, values: Mapping[str, float], settings: KeepBest, resolution: int | Size, clock: Clock) -> None:
        """Note that the checkpoint of ``clock``'s step, which has been saved, is the best.

        Raises:
            StorageError: it cannot be written.
        """
        noted = {
            "checkpoint": f"step-{clock.step:08d}",
            "step": clock.step,
            "kimg": clock.kimg,
            "metric": settings.metric,
            "mode": settings.mode,
            "resolution": plain(resolution),
            "value": values[settings.metric],
        }
        publish.file(self._directory / FILE, json.dumps(noted, indent=1) + "\n")
