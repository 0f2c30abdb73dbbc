"""A Trainer in this process on samples that are an array, for tests of what the engine computes."""

from pathlib import Path

import numpy as np

from ganfleet import config as configs
from ganfleet.engine import run
from ganfleet.engine.trainer import Trainer, Watch
from ganfleet.fleet import Fleet


class ArraySource:
    """Row i of ``samples`` (count, ...) under ``name``, at whatever resolution."""

    classes = 0

    def __init__(self, name: str, samples: np.ndarray, channels: int = 1):
        self.name, self.samples, self.channels = name, samples, channels
        self.names = (name,)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return {self.name: self.samples[index]}

    def at(self, resolution):
        return self


def trainer(yaml: str, source: ArraySource, directory: Path, watch: Watch | None = None) -> Trainer:
    """A lone process's Trainer for the config that ``yaml`` is."""
    path = directory / "config.yaml"
    path.write_text(yaml)
    config = configs.load(path)
    return Trainer(config, run.strategy_of(config, source), source, Fleet(config.train.lanes), watch)
