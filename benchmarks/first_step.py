"""How long does a run take until its first step is done, and how much memory?

    python benchmarks/first_step.py [TREE …] [--config dcgan_fashion.yaml] [--times 3] [key=value …]

A TREE is a folder with ganfleet's sources, by default that of this file; give a checkout of another release to compare.
Each trains for one step, in turns with the others: with no graph kept from before, and where it keeps graphs, once more
with those. Printed are the median of the seconds from the start of the command to its end, and of the most memory that
it had in use.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent.parent
CASES = {"nothing kept": False, "graphs kept": True}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="TREE or key=value")
    parser.add_argument("--config", default="dcgan_fashion.yaml")
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_intermixed_args()
    overrides = [word for word in options.words if "=" in word]
    trees = [Path(word).resolve() for word in options.words if "=" not in word] or [HERE]
    found = {(tree, case): [] for tree in trees for case in CASES}
    with tempfile.TemporaryDirectory(prefix="first-step-") as folder:
        for turn in range(options.times):
            for tree in trees:
                cache = Path(folder, f"{turn}-{trees.index(tree)}")
                for case in CASES:
                    found[tree, case].append(run(tree, cache, [str(config_of(tree, options.config)), *overrides]))
    print("| tree | case | seconds | MiB |\n" + "| --- " * 4 + "|")
    for (tree, case), numbers in found.items():
        seconds, size = np.median(numbers, 0)
        print(f"| {tree.name} | {case} | **{seconds:.1f}** | {size:.0f} |")


def config_of(tree, name):
    return next(path for path in (tree / "configs" / name, tree / "ganfleet" / "configs" / name) if path.exists())


def run(tree, cache, words):
    """Seconds and MiB of one run, whose caches are in ``cache``."""
    environment = os.environ | {"PYTHONPATH": str(tree), "XDG_CACHE_HOME": str(cache)}
    never = ("checkpoint.every_kimg=1e6", "log.samples_every_kimg=1e6", "log.samples=4")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ganfleet", "train", "--config", *words, "train.steps=1", *never]
        start = time.perf_counter()
        words = [*command, f"run.dir={folder}"]
        # Not here: a folder with sources in it comes before PYTHONPATH.
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{tree} failed")
        return time.perf_counter() - start, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
