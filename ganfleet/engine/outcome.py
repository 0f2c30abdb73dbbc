"""What a step tells, read when somebody asks: until then nothing waits for the device."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from mindspore import Tensor

from ganfleet.engine.phase import CompiledPhase
from ganfleet.engine.tensors import values
from ganfleet.fleet import heartbeat


class Told(NamedTuple):
    """What all phases of a step have told, equal on every rank."""

    stats: dict[str, np.ndarray]
    host: np.ndarray
    skipped: list[str]


class Outcome:
    """What came of a step. The first that asks for it waits until the device has made the step.

    Attributes:
        stats: losses and stats by name, means over all lanes, as a mapping that waits when it is first read.
    """

    def __init__(self, summaries: Sequence[tuple[CompiledPhase, Tensor]], lanes: int, host_size: int):
        """``summaries`` of the phases that were due, of ``lanes`` lanes and so many host values."""
        self._summaries, self._lanes, self._host_size = summaries, lanes, host_size
        self.stats = Stats(self)

    @property
    def host(self) -> np.ndarray:
        """The fleet's sum of the host values."""
        return self.told.host

    @property
    def skipped(self) -> list[str]:
        """The phases whose update was left out because it was not finite, and which the run should count."""
        return self.told.skipped

    def read(self) -> None:
        """Wait now."""
        _ = self.told

    @cached_property
    def told(self) -> Told:
        with heartbeat.waiting():
            arrived = values([summary for _, summary in self._summaries])
        stats, host, skipped = {}, np.zeros(self._host_size, np.float32), []
        for (compiled, _), summary in zip(self._summaries, arrived, strict=True):
            fine, part, own = compiled.summarize(summary, self._lanes, self._host_size)
            stats |= own
            host = host + part
            if not fine:
                skipped.append(compiled.name)
        self._summaries = ()
        return Told(stats, host, skipped)


class Stats(Mapping):
    """The stats of an outcome by name."""

    def __init__(self, outcome: Outcome):
        self._outcome = outcome

    def __getitem__(self, name: str) -> np.ndarray:
        return self._outcome.told.stats[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outcome.told.stats)

    def __len__(self) -> int:
        return len(self._outcome.told.stats)
