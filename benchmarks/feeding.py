"""Images per second that the loader gives over those that training takes, for one config in one process.

python benchmarks/feeding.py [--config F] [--steps 40] [key=value ...]
"""

import argparse
import tempfile
import time
from pathlib import Path

import ganfleet
from ganfleet.data import Loader
from ganfleet.engine.callbacks import Callback

CONFIG = Path(__file__).parent.parent / "configs" / "dcgan_fashion_small.yaml"
WARM_UP = 5  # steps that compile, not counted


class Stopwatch(Callback):
    """Images per second of training, from the first counted step to the last, and the source that it read."""

    def after_step(self, run, stats):
        if run.clock.step == WARM_UP:
            self.started = time.perf_counter()
        if run.clock.done:
            images = (run.clock.step - WARM_UP) * run.stage.batch_size
            self.rate = images / (time.perf_counter() - self.started)
            self.config, self.source = run.config, run.source


def delivered(config, source) -> float:
    """Images per second of the loader alone."""
    train, data = config.train, config.data
    with Loader(
        source,
        batch_size=train.batch_size,
        lanes=train.lanes,
        owned=range(train.lanes),
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
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as runs:
        steps = ["train.kimg=1e6", f"train.steps={arguments.steps + WARM_UP}", "train.audit_every=0"]
        ganfleet.train(arguments.config, *arguments.overrides, *steps, f"run.dir={runs}", callbacks=[watch])
    gives, takes = delivered(watch.config, watch.source), watch.rate
    print(f"loader   {gives:8.0f} images/s\ntraining {takes:8.0f} images/s\nratio    {gives / takes:8.1f}")


if __name__ == "__main__":
    main()
