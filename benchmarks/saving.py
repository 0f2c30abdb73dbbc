"""How long training waits for its checkpoints, at the default interval of 10 kimg.

``python benchmarks/saving.py [CONFIG] [key=value …] [--checkpoints N]`` trains so long that N checkpoints are written,
one every so many steps (``--every``). Waiting is what the main thread spends in the callback that saves, and what steps
take longer while the thread writes.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import ganfleet
from ganfleet.config import CheckpointConfig
from ganfleet.engine.saving import Checkpoints
from ganfleet.store import checkpoint


class Steps(ganfleet.Callback):
    """The seconds of each step without its checkpoints, and whether one was being written."""

    def __init__(self):
        self.steps: list[tuple[float, bool]] = []
        self.waited: list[float] = []  # by checkpoint
        self.writing = False
        self._began = None
        self._in_saving = 0.0

    def after_step(self, run, stats):
        now = time.perf_counter()
        if self._began is not None:
            self.steps.append((now - self._began - self._in_saving, self.writing))
        self._began, self._in_saving = now, 0.0

    def timed(self, method, saves):
        def wrapped(callback, *arguments, **keywords):
            began = time.perf_counter()
            try:
                return method(callback, *arguments, **keywords)
            finally:
                seconds = time.perf_counter() - began
                self._in_saving += seconds
                if saves:
                    self.waited.append(seconds)
                elif self.waited:
                    self.waited[-1] += seconds

        return wrapped


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("config", nargs="?", default="dcgan_fashion")
    options.add_argument("overrides", nargs="*", metavar="key=value")
    options.add_argument("--checkpoints", type=int, default=8)
    options.add_argument("--every", type=int, default=10, help="steps between two")
    asked = options.parse_args()
    config = ganfleet.Config.load(asked.config, *asked.overrides)
    seen, writes, size = Steps(), [], 0
    save = checkpoint.save

    def timed_save(*arguments, **keywords):
        nonlocal size
        began, seen.writing = time.perf_counter(), True
        try:
            path = save(*arguments, **keywords)
        finally:
            seen.writing = False
        writes.append(time.perf_counter() - began)
        size = sum(each.stat().st_size for each in path.iterdir())
        return path

    checkpoint.save = timed_save
    Checkpoints._save = seen.timed(Checkpoints._save, True)
    Checkpoints.on_news = seen.timed(Checkpoints.on_news, False)
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        ganfleet.train(
            config,
            f"run.dir={folder}",
            f"checkpoint.every_kimg={asked.every * config.train.batch_size / 1000}",
            f"train.steps={asked.every * (asked.checkpoints + 1)}",
            f"log.samples_every_kimg={10**6}",
            callbacks=[seen],
        )
    # Neither the first, which compiles nothing and still meets cold caches, nor the last, for which the end waits.
    waited, alone = seen.waited[1:-1], [seconds for seconds, writing in seen.steps[5:] if not writing]
    beside = [seconds for seconds, writing in seen.steps[5:] if writing]
    slower = max(median(beside) - median(alone), 0) * len(beside) / len(waited) if beside else 0.0
    every = CheckpointConfig().every_kimg
    interval = every * 1000 / config.train.batch_size * median(alone)
    cost = median(waited) + slower
    print(f"{asked.config}: {size / 2**20:.1f} MiB a checkpoint, written in {median(writes):.3f} s by the thread")
    print(
        f"training waits {median(waited) * 1000:.1f} ms (at most {max(waited) * 1000:.1f}) for one, and steps beside it"
    )
    print(f"take {slower * 1000:.1f} ms more; a step takes {median(alone) * 1000:.1f} ms")
    print(f"at the default interval of {every:g} kimg, {interval:.0f} s: {cost / (interval + cost):.3%} of the time")
    print(f"if training waited for the writing too: {(cost + median(writes)) / (interval + cost + median(writes)):.3%}")


if __name__ == "__main__":
    main()
