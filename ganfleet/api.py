"""What ``import ganfleet`` offers. Each name is imported when it is used, so that ``ganfleet --help`` stays fast."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from ganfleet import fleet
from ganfleet.config import Config, DataConfig
from ganfleet.engine import run
from ganfleet.engine.callbacks import Callback
from ganfleet.errors import ConfigError
from ganfleet.fleet import Fleet


def train(
    config: str | Path | Mapping[str, Any] | Config,
    *overrides: str,
    source: Any = None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train as ``config`` says, in this process or as one rank of the fleet that a launcher started.

    Args:
        config: a YAML file, the name of a recipe (``ganfleet configs``), a dict of its sections, or a ``Config``.
        overrides: ``key=value`` words that come after it, such as ``"train.seed=1"``.
        source: what to train on instead of ``data.source``: numpy arrays of images (n, channels, height, width), a dict
            of arrays with a row for each sample, or any object with ``__len__`` and ``__getitem__``. Images are uint8,
            or floats in [-1, 1], of ``strategy.resolution``; ``label`` has the classes.
        callbacks: ``Callback`` objects, beside those that the config names.

    With a ``source``, the run's own config says ``data.source: given``.

    Returns:
        The run's directory.

    Raises:
        GanfleetError: with a message that says what is wrong and what to do; see ``ganfleet.errors``.
    """
    config = _read(config, overrides)
    if source is not None:
        config = _with_source_given(config)
    return run.train(config, source, _callbacks(callbacks))


def _read(config: Any, overrides: Sequence[str]) -> Config:
    wrong = [each for each in overrides if not isinstance(each, str)]
    if wrong:
        raise ConfigError(f"{wrong[0]!r} is no override: write 'key=value', such as 'train.seed=1'")
    if isinstance(config, Mapping):
        return Config.from_dict(config, *overrides)
    if isinstance(config, Config):
        return Config.from_dict(config.resolved(), *overrides) if overrides else config
    if isinstance(config, str | PathLike):
        return Config.load(config, *overrides)
    raise ConfigError(f"the config is of type {type(config).__name__}: give a path, a dict or a Config")


def _with_source_given(config: Config) -> Config:
    """``config`` with ``data.source: given``, by which the run's directory tells what it was trained on.

    Raises:
        ConfigError: it names data of its own.
    """
    sections = config.resolved()
    if config.data.source not in ("embedded", "given"):
        raise ConfigError(f"there are two sources, data.source={config.data.source} and source=: leave one out")
    shared = {key: sections["data"][key] for key in DataConfig.model_fields}
    return Config.from_dict(sections | {"data": shared | {"source": "given"}})


def _callbacks(given: Any) -> list[Callback]:
    callbacks = [given] if isinstance(given, Callback) else list(given)
    wrong = [each for each in callbacks if not isinstance(each, Callback)]
    if wrong:
        made = f": write {wrong[0].__name__}()" if isinstance(wrong[0], type) else ": give ganfleet.Callback objects"
        raise ConfigError(f"{wrong[0]!r} is no callback{made}")
    return callbacks


def connect(lanes: int = 8, **settings: Any) -> Fleet:
    """The fleet that the launcher started, for ``DataParallel``; ``settings`` are keys of a config's ``fleet:``.

    Raises:
        ConfigError: they contradict what the launcher started, or the ranks cannot share the lanes.
        PeerLost: the rendezvous failed.
    """
    if isinstance(lanes, bool) or not isinstance(lanes, int) or lanes < 1:
        raise ConfigError(f"lanes is {lanes!r}, and must be a whole number, 1 or more")
    return fleet.connect(Config.from_dict({"strategy": {"name": "gan"}, "fleet": settings}).fleet, lanes)
