"""What ``import ganfleet`` offers. Each name is imported when it is used, so that ``ganfleet --help`` stays fast."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganfleet import fleet
from ganfleet.config import Config, FleetConfig
from ganfleet.engine import run
from ganfleet.engine.callbacks import Callback
from ganfleet.fleet import Fleet


def train(
    config: str | Path | Mapping[str, Any] | Config,
    *overrides: str,
    source: Any = None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train as ``config`` says, in this process or as one rank of the fleet that a launcher started.

    Args:
        config: a YAML file, a dict of its sections, or a ``Config``.
        overrides: ``key=value`` words that come after it, such as ``"train.seed=1"``.
        source: what to train on instead of ``data.source``: numpy arrays of images (n, channels, height, width), a dict
            of arrays with a row for each sample, or any object with ``__len__`` and ``__getitem__``. Images are uint8,
            or floats in [-1, 1], of ``strategy.resolution``; ``label`` has the classes.
        callbacks: ``Callback`` objects, beside those that the config names.

    Returns:
        The run's directory.

    Raises:
        GanfleetError: with a message that says what is wrong and what to do; see ``ganfleet.errors``.
    """
    if isinstance(config, Mapping):
        config = Config.from_dict(config, *overrides)
    elif not isinstance(config, Config):
        config = Config.load(config, *overrides)
    elif overrides:
        config = Config.from_dict(config.resolved(), *overrides)
    return run.train(config, source, callbacks)


def connect(lanes: int = 8, **settings: Any) -> Fleet:
    """The fleet that the launcher started, for ``DataParallel``; ``settings`` are keys of a config's ``fleet:``.

    Raises:
        ConfigError: they contradict what the launcher started, or the ranks cannot share the lanes.
        PeerLost: the rendezvous failed.
    """
    return fleet.connect(FleetConfig(**settings), lanes)
