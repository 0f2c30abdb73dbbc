"""Loggers of other makers as callbacks: W&B and SwanLab, each behind an extra, off unless ``run.callbacks`` names it.

They get what log.jsonl gets, the grids and the metrics, and steer nothing: if one fails during the run, the run says so
and goes on without it.
"""

import json
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from ganfleet.engine.callbacks import Callback
from ganfleet.errors import ConfigError, GanfleetError
from ganfleet.observe.grid import grid
from ganfleet.store import publish

WAIT = 50  # seconds for a server to answer: the other ranks wait too


class Logger(Callback):
    """Base of loggers: what one is told, and when. Only rank 0 has an open one.

    The identifier of the logger's run is kept in the run directory, so that a run which goes on is one run there too.

    Attributes:
        package: what is imported, and the name of the extra that installs it.
        offline: what a user sets so that nothing goes over the network.
    """

    package: ClassVar[str]
    offline: ClassVar[str]

    def __init__(self):
        """
        Raises:
            ConfigError: the package is not installed.
        """
        spec = find_spec(self.package)
        if spec is None or spec.origin is None:  # a mere folder of that name, such as W&B's own of an earlier run
            raise ConfigError(
                f"run.callbacks names {self.package}, which is not installed: pip install 'ganfleet[{self.package}]'"
            )
        self._open: Any = None

    # ── What a subclass says

    def start(self, identifier: str, name: str, directory: Path, config: dict[str, Any]) -> Any:
        """Open the logger's run ``identifier``, or go on with it; returns what the other methods are given."""
        raise NotImplementedError

    def log(self, opened: Any, values: dict[str, Any], step: int) -> None:
        """Write ``values`` by name at ``step``."""
        raise NotImplementedError

    def image(self, picture: Image.Image) -> Any:
        """What ``log`` takes for ``picture``."""
        raise NotImplementedError

    def finish(self, opened: Any, error: BaseException | None) -> None:
        """End the logger's run: because of ``error``, or because the run is done."""
        raise NotImplementedError

    # ── What the engine says

    def begin(self, run):
        run.fleet.first(lambda: self._begin(run))

    def on_log(self, run, line):
        values = {name: value for name, value in line.items() if isinstance(value, int | float) and name != "step"}
        self._try(run, lambda: self.log(self._open, values, run.clock.step))

    def on_samples(self, run, images):
        self._try(run, lambda: self.log(self._open, {"Samples": self._picture(images)}, run.clock.step))

    def on_metrics(self, run, values):
        named = {f"Metrics/{name}": float(value) for name, value in values.items()}
        self._try(run, lambda: self.log(self._open, named, run.clock.step))

    def at_end(self, run):
        self._try(run, lambda: self.finish(self._open, None))

    def on_error(self, run, error):
        self._try(run, lambda: self.finish(self._open, error))

    def _begin(self, run) -> None:
        """
        Raises:
            ConfigError: the logger does not start.
            StorageError: the identifier cannot be kept.
        """
        kept = run.directory / f"{self.package}.json"
        identifier = secrets.token_hex(8)
        with suppress(OSError, ValueError, KeyError, TypeError):
            identifier = str(json.loads(kept.read_text("utf-8"))["id"])
        try:
            self._open = self.start(identifier, run.directory.name, run.directory, run.config.resolved())
        except Exception as error:  # whatever a stranger's package raises for want of a login or a network
            raise ConfigError(
                f"run.callbacks: {self.package} does not start ({type(error).__name__}: {error}). Log in as its page "
                f"says, set {self.offline} to write files only, or leave it out"
            ) from error
        publish.file(kept, json.dumps({"id": identifier}) + "\n")

    def _picture(self, images) -> Any:
        return self.image(Image.fromarray(grid(images)))

    def _try(self, run, action: Callable[[], None]) -> None:
        """Do ``action`` if the logger is open; one that fails is not asked again."""
        if self._open is None:
            return
        try:
            action()
        except Exception as error:
            self._open = None
            run.journal.say(f"{self.package} failed, and the run goes on without it: {type(error).__name__}: {error}")


class WandB(Logger):
    """Weights & Biases; ``WANDB_PROJECT``, ``WANDB_ENTITY``, ``WANDB_MODE`` and its other variables are in force."""

    package, offline = "wandb", "WANDB_MODE=offline"

    def start(self, identifier, name, directory, config):
        import wandb

        opened = wandb.init(
            id=identifier,
            resume="allow",
            project=os.environ.get("WANDB_PROJECT", "ganfleet"),
            name=os.environ.get("WANDB_NAME", name),
            dir=directory,
            config=config,
            settings=wandb.Settings(console="off", init_timeout=WAIT),
        )
        # W&B drops what is logged at a step that it knows. With steps of its own, a run that was killed and goes on
        # from an earlier checkpoint draws that part of a curve twice, along the same points.
        opened.define_metric("*", step_metric="step")
        return opened

    def log(self, opened, values, step):
        opened.log({"step": step, **values})

    def image(self, picture):
        import wandb

        return wandb.Image(picture)

    def finish(self, opened, error):
        opened.finish(exit_code=_exit_code(error))


class SwanLab(Logger):
    """SwanLab; ``SWANLAB_MODE`` and its other variables are in force."""

    package, offline = "swanlab", "SWANLAB_MODE=offline"

    def start(self, identifier, name, directory, config):
        import swanlab

        return swanlab.init(
            id=identifier,
            resume="allow",
            project=os.environ.get("SWANLAB_PROJ_NAME", "ganfleet"),
            name=os.environ.get("SWANLAB_EXP_NAME", name),
            log_dir=str(directory / "swanlog"),
            config=config,
        )

    def log(self, opened, values, step):
        opened.log(values, step=step)

    def image(self, picture):
        import swanlab

        return swanlab.Image(picture)

    def finish(self, opened, error):
        opened.finish(state="crashed" if error else "success", error=None if error is None else str(error))


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    return error.exit_code if isinstance(error, GanfleetError) else GanfleetError.exit_code
