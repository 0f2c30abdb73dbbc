"""Images per second that the loader gives over those that training takes, for one config in one process.

python benchmarks/feeding.py [--config F] [--steps 40] [key=value ...]
"""

import argparse
import time
from pathlib import Path

from ganfleet import config as configs
from ganfleet import fleet
from ganfleet.data import Loader
from ganfleet.engine.run import data_of, strategy_of
from ganfleet.engine.trainer import Trainer, Watch

CONFIG = Path(__file__).parent.parent / "configs" / "dcgan_fashion_small.yaml"
WARM_UP = 5  # steps that compile, not counted


class Stopwatch(Watch):
    """When the counted steps began."""

    def after_step(self, trainer, stats):
        if trainer.clock.step == WARM_UP:
            self.started = time.perf_counter()


def consumed(config, source, connected) -> float:
    """Images per second of training."""
    watch = Stopwatch()
    trainer = Trainer(config, strategy_of(config, source), source, connected, watch)
    trainer.run()
    return (config.train.steps - WARM_UP) * config.train.batch_size / (time.perf_counter() - watch.started)


def delivered(config, source, lanes) -> float:
    """Images per second of the loader alone."""
    train, data = config.train, config.data
    with Loader(
        source,
        batch_size=train.batch_size,
        lanes=train.lanes,
        owned=lanes,
        seed=train.seed,
        workers=data.workers,
        prefetch=data.prefetch,
    ) as loader:
        batches, start = 0, time.perf_counter()
        while time.perf_counter() - start < 3:
            loader.next()
            batches += 1
        return batches * train.batch_size / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default=CONFIG)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    steps = [f"train.steps={arguments.steps + WARM_UP}", "train.audit_every=0"]
    config = configs.load(arguments.config, [*arguments.overrides, *steps])
    source = data_of(config)
    connected = fleet.connect(config.fleet, config.train.lanes)
    gives, takes = delivered(config, source, connected.lanes), consumed(config, source, connected)
    print(f"loader   {gives:8.0f} images/s\ntraining {takes:8.0f} images/s\nratio    {gives / takes:8.1f}")


if __name__ == "__main__":
    main()
