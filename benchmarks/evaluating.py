"""Does an evaluation cost more than its parts, and does its memory grow with the number of images?

``python benchmarks/evaluating.py [CONFIG] [key=value …] [--count N] [--repeats R]`` takes turns: N images of the last
stage are drawn and their features computed by hand, in one loop; ``ganfleet.evaluate`` measures as many, with other
seeds. The features of the real images are in the cache before. Untrained weights draw: how long it takes does not
depend on them. Then a process of its own evaluates a quarter of the images, and another one all of them.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from ganfleet.fleet import cpu

METRICS = ("fid", "kid")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("config", nargs="?", default="quickstart")
    options.add_argument("overrides", nargs="*", metavar="key=value")
    options.add_argument("--count", type=int, default=2000)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--alone", type=int, metavar="SEED", help=argparse.SUPPRESS)
    options.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.alone is not None:
        cpu.pin(1)
        evaluate(asked.run, asked.count, asked.alone)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    with tempfile.TemporaryDirectory(prefix="ganfleet-evaluating-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # nothing is known from before
        os.chdir(folder)
        report(asked, Path(folder))


def report(asked: argparse.Namespace, folder: Path) -> None:
    cpu.pin(1)
    run = untrained(asked, folder)
    evaluate(run, 64, seed=10**6)  # compiles, and reads the real images
    by_hand(run, 64, seed=10**7)
    hand, whole = [], []
    for repeat in range(asked.repeats):
        hand.append(timed(by_hand, run, asked.count, repeat * asked.count))
        whole.append(timed(evaluate, run, asked.count, repeat * asked.count + 10**8))
    drawing, features = (median(each[i] for _, each in hand) for i in range(2))
    by_parts, evaluated = median(seconds for seconds, _ in hand), median(seconds for seconds, _ in whole)
    ratios = sorted(b[0] / a[0] for a, b in zip(hand, whole, strict=True))
    print(f"{asked.config}, {asked.count:,} images, median of {asked.repeats}, one core")
    print(f"by hand: {by_parts:.1f} s ({drawing:.1f} drawing, {features:.1f} features)")
    print(f"ganfleet.evaluate {','.join(METRICS)}: {evaluated:.1f} s")
    print(f"evaluate / by hand: {median(ratios):.3f} ({ratios[0]:.3f} – {ratios[-1]:.3f})")
    for count in (asked.count // 4, asked.count):
        words = [sys.executable, __file__, "--alone", str(2 * 10**8 + count), "--run", str(run), "--count", str(count)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        print(f"memory at most with {count:,} images: {done.stdout.split()[-1]} MiB")


def untrained(asked: argparse.Namespace, folder: Path) -> Path:
    """A run of one step at the last stage."""
    import ganfleet

    config = ganfleet.Config.load(asked.config, *asked.overrides)
    words = [*asked.overrides, "train.steps=1", "run.dir=runs", "run.name=untrained"]
    if "start_resolution" in type(config.strategy).model_fields:
        words.append(f"strategy.start_resolution={config.strategy.resolution}")
    ganfleet.train(asked.config, *words)
    return folder / "runs" / "untrained"


def evaluate(run: Path, count: int, seed: int) -> None:
    import ganfleet

    ganfleet.evaluate(run, metrics=METRICS, count=count, seed=seed, warn=lambda message: None)


def by_hand(run: Path, count: int, seed: int) -> tuple[float, float]:
    """The seconds of drawing, and of features."""
    from ganfleet.engine.evaluation import Extractor
    from ganfleet.engine.loaded import load
    from ganfleet.engine.pictures import Drawn
    from ganfleet.metrics.networks import feature_network
    from ganfleet.metrics.rows import BLOCK
    from ganfleet.strategies.options import read_options

    drawing = features = 0.0
    with load(run) as loaded:
        extractor = Extractor(feature_network(None))
        [checked] = read_options({}, loaded.schema)
        pictures = Drawn(loaded.from_seeds(checked), count, seed)
        with pictures.ready():
            for start in range(0, count, BLOCK):
                began = time.perf_counter()
                images = pictures.images(range(start, min(start + BLOCK, count)))
                drawn = time.perf_counter()
                extractor.features(images)
                drawing, features = drawing + drawn - began, features + time.perf_counter() - drawn
    return drawing, features


def timed(work, *arguments):
    began = time.perf_counter()
    found = work(*arguments)
    return time.perf_counter() - began, found


if __name__ == "__main__":
    main()
