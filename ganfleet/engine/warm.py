"""A process that compiles the graphs of one stage and ends; see ``ahead``, which starts it and says what is wanted."""

import json
import os
import signal
import sys

import numpy as np

from ganfleet import rng
from ganfleet.config import Config
from ganfleet.engine import drawing
from ganfleet.engine.cost import one_lane
from ganfleet.engine.run import new_strategy
from ganfleet.engine.sampler import CHUNK, Sampler, seeded
from ganfleet.engine.step import HOST_VALUES, Lane
from ganfleet.engine.tensors import tensors, zeros
from ganfleet.fleet import launcher
from ganfleet.nn import forms
from ganfleet.strategies.base import ImageSpec


def warm(wanted: dict) -> None:
    """Run each graph once, on samples that are zero: those of a step, of the averages, and of the sample grid."""
    config = Config.from_dict(wanted["config"] | {"data": {"source": "given"}})
    forms.use(wanted["form"])
    strategy = new_strategy(config, ImageSpec.of(wanted["image"]))
    stage = next(stage for stage in strategy.schedule() if stage.name == wanted["stage"])
    stepper, n, clock = one_lane(config, strategy, stage)
    program = stepper.program
    samples = {name: np.zeros((n, *shape), kind) for name, (shape, kind) in wanted["samples"].items()}
    lanes = {0: Lane(tensors(samples))}
    for compiled in program.phases:
        drawn = drawing.draw(strategy, rng.stream(config.train.seed, compiled.name), n, clock, compiled.phase)
        stepper.run(compiled, lanes, {0: tensors(drawn)}, clock, zeros(HOST_VALUES))
    stepper.average(clock)
    program.load(program.tensors())  # what takes over the weights of the stage before is a graph too
    if not strategy.samples_data:
        Sampler(program).images([seeded(strategy, clock, seed) for seed in range(CHUNK)], clock, stepper.fleet)
    stepper.close()


if __name__ == "__main__":
    launcher.end_with(int(sys.argv[1]), signal.SIGKILL)
    warm(json.load(sys.stdin))
    sys.stdout.flush()
    os._exit(0)  # MindSpore's own exit may take seconds
