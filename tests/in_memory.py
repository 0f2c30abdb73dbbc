"""A Trainer in this process on samples that are an array, for tests of what the engine computes."""

from pathlib import Path

import numpy as np

from ganfleet import config as configs
from ganfleet.engine import run
from ganfleet.engine.callbacks import Callback
from ganfleet.engine.phase import CompiledPhase
from ganfleet.engine.tensors import tensors
from ganfleet.engine.trainer import Trainer
from ganfleet.fleet import Fleet


class ArraySource:
    """Row i of ``samples`` (count, ...) under ``name``, at whatever resolution."""

    classes, class_names, text = 0, (), None

    def __init__(self, name: str, samples: np.ndarray, channels: int = 1):
        self.name, self.samples, self.channels = name, samples, channels
        self.names = (name,)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return {self.name: self.samples[index]}

    def at(self, resolution):
        return self

    def as_in_checkpoint(self, classes, class_names):
        return self

    def digest(self):
        return f"{self.samples.shape}"


def trainer(yaml: str, source: ArraySource, directory: Path, *callbacks: Callback) -> Trainer:
    """A lone process's Trainer for the config that ``yaml`` is."""
    path = directory / "config.yaml"
    path.write_text(yaml)
    config = configs.load(path)
    return Trainer(config, run.strategy_of(config, source), source, Fleet(config.train.lanes), callbacks)


def one_lane(compiled: CompiledPhase, real: dict, noise: dict) -> tuple[np.ndarray, dict]:
    """A lane's flat vector [gradients, what buffers saw, loss, stats], and loss and stats by name."""
    flat = compiled.run(tensors(real), tensors(noise))[0].asnumpy().copy()
    behind = compiled.player.size + compiled.player.seen_size
    return flat, compiled.summarize(np.concatenate([[1], flat[behind:]]), 1, 0)[2]
