"""What a stage costs on this machine: each of its phases is run twice on one lane of the data."""

import time
from dataclasses import dataclass

from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.config import Config
from ganfleet.data import Loader, Source
from ganfleet.engine import compile_cache, drawing
from ganfleet.engine.loss_scale import loss_scales
from ganfleet.engine.program import Program
from ganfleet.engine.step import Lane, Stepper
from ganfleet.engine.tensors import tensors, zeros
from ganfleet.fleet import Fleet
from ganfleet.strategies.base import Stage, Strategy


@dataclass(frozen=True)
class Cost:
    """Of one phase and the update after it, on one lane.

    Attributes:
        compile_seconds: what the first run took longer than the second.
        seconds: what the second run took.
        peak_bytes: the most memory in use meanwhile: of the card, on a CPU of the process; None if it is not known.
    """

    compile_seconds: float
    seconds: float
    peak_bytes: int | None


def one_lane(config: Config, strategy: Strategy, stage: Stage) -> tuple[Stepper, int, Clock]:
    """What runs the phases of ``stage`` on one lane alone, that lane's number of samples, and when the stage begins."""
    train = config.train
    program = Program(strategy, stage, train.seed, train.precision, train.recompute)
    scales = loss_scales((compiled.name for compiled in program.phases), train.precision, lanes=1)
    stepper = Stepper(program, Fleet(1, "exact"), train.seed, {0: {}}, scales, ahead=False)
    return stepper, stage.batch_size // train.lanes, Clock(10**12, nimg=stage.starts_at)


def costs(config: Config, strategy: Strategy, source: Source, stage: Stage) -> dict[str, Cost]:
    """The cost of each phase of ``stage`` by name. Trains a lane for two steps, and forgets them."""
    train = config.train
    stepper, n, clock = one_lane(config, strategy, stage)
    program = stepper.program
    runs: dict[str, list[tuple[float, int | None]]] = {compiled.name: [] for compiled in program.phases}
    loader = Loader(
        source.at(stage.resolution),
        batch_size=n,
        lanes=1,
        owned=stepper.fleet.lanes,
        seed=train.seed,
        workers=config.data.workers,
        prefetch=0,
    )
    with loader, compile_cache.unused():
        for _ in range(2):
            lanes = {0: Lane(tensors(loader.next().lanes[0]))}
            for compiled in program.phases:
                drawn = drawing.draw(strategy, rng.stream(train.seed, compiled.name), n, clock, compiled.phase)
                stepper.peaks.clear()
                start = time.perf_counter()
                stepper.run(compiled, lanes, {0: tensors(drawn)}, clock, zeros(0)).asnumpy()
                runs[compiled.name].append((time.perf_counter() - start, stepper.peaks[compiled.name] or None))
    stepper.close()
    return {name: Cost(max(0.0, first - second), second, size) for name, ((first, _), (second, size)) in runs.items()}
