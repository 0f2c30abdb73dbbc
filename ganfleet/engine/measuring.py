"""How a run measures itself, what is kept of the numbers, and how metrics and their network are found."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ganfleet.config import Config
from ganfleet.data import Source
from ganfleet.engine.evaluation import Evaluation, Extractor
from ganfleet.engine.pictures import REAL, Drawn, FromSeeds, Read, asked, captions_to_draw, drawn_with
from ganfleet.errors import ConfigError
from ganfleet.metrics import Metric
from ganfleet.metrics.networks import feature_network
from ganfleet.observe.log import JsonLog
from ganfleet.plugins import METRICS
from ganfleet.strategies.base import Strategy

RECORDS = "metrics.jsonl"


class OfRun:
    """The measurements of a run, as its config asks for them: the engine's part of the callback ``Metrics``."""

    def __init__(self, config: Config, strategy, source: Source):
        """Find all that they need.

        Raises:
            ConfigError: it is missing, or the strategy or the data cannot be measured so.
        """
        self.settings = config.metrics
        self.metrics = found_metrics(self.settings.names)
        check(self.metrics, strategy, translated=False)
        if strategy.samples_data and any(each.reads_generated for each in self.metrics):
            raise ConfigError(
                f"metrics.names: {config.strategy.name} makes images from images, and `ganfleet evaluate --direction` "
                "measures those: leave the names out of the run"
            )
        if "image" not in source.names and any(each.reads_real for each in self.metrics):
            raise ConfigError(
                f"metrics.names: the data have {' and '.join(source.names)}, and metrics compare with images called "
                "image: leave the names out of the run"
            )
        self.extractor = extractor_of(self.metrics, self.settings.inception)
        self._warned: set[str] = set()

    @property
    def network_sha256(self) -> str | None:
        """Of the weights of the network of features."""
        return self.extractor and self.extractor.network.sha256

    def __call__(self, run) -> dict[str, float]:
        """The numbers by name for the Trainer ``run`` as it is now; they are kept in its directory, too."""
        clock = run.strategy.within(run.stage, run.clock)
        holding = partial(run.sampler.averaged, clock)
        of = FromSeeds(run.program, run.sampler, clock, holding, drawn_with(run.program, clock, True))
        source = run.source.at(run.stage.resolution)
        real = Read(source, self.settings.real_count or REAL) if "image" in source.names else None
        options = run.strategy.SampleOptions()
        captions = captions_to_draw(options, real)
        if captions:
            of.change = partial(asked, run.strategy, options)
        drawn = Drawn(of, self.settings.count, 0, captions)
        evaluation = Evaluation(run, drawn, real, self.extractor, warn=self._once(run))
        values = evaluation.measure(self.metrics)
        evaluation.forget()
        record = evaluation.record(values, checkpoint=None, options={}, ema=True, direction=None)
        run.fleet.first(lambda: keep(run.directory, record))
        return values

    def _once(self, run) -> Callable[[str], None]:
        def warn(message: str) -> None:
            if message not in self._warned:
                self._warned.add(message)
                run.journal.say(message)

        return warn


def keep(directory: Path, record: dict[str, Any]) -> None:
    """Add ``record`` to the results in ``directory``.

    Raises:
        StorageError: it cannot be written.
    """
    JsonLog(directory / RECORDS).append(record)


def found_metrics(names: Sequence[str]) -> list[Metric]:
    """The metrics of these names.

    Raises:
        ConfigError: there is none of a name, or no name.
    """
    names = [names] if isinstance(names, str) else list(names)
    return [METRICS.find(name)() for name in dict.fromkeys(names)]


def check(metrics: Sequence[Metric], strategy: Strategy, translated: bool) -> None:
    """
    Raises:
        ConfigError: one of ``metrics`` cannot be measured of such a strategy, or is about translations.
    """
    for metric in metrics:
        if metric.paired and not translated:
            raise ConfigError(
                f"{type(metric).__name__.lower()} compares each translation with the image that it should be: give "
                "`ganfleet evaluate` --direction, --input and --data"
            )
        metric.check(strategy)


def extractor_of(metrics: Sequence[Metric], inception: str | Path | None) -> Extractor | None:
    """The network of features, where one of ``metrics`` needs it.

    Raises:
        ConfigError: its weights are missing, or no such weights.
    """
    return Extractor(feature_network(inception)) if any(each.reads_features for each in metrics) else None
