"""Does the model of `ganfleet plan --cards` say what a step takes here on 1, 2 and 4 processes?

    python benchmarks/scaling.py [--config dcgan_fashion_small] [--steps 60] [key=value …]

Trains the config with so many ranks over mccl, with the same four lanes, and compares a step with that of the
model. This knows only what one rank takes, and the link that `ganfleet doctor` has found between two. Where ranks are
more than cores, they share these, so their lanes compute as much slower.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ganfleet.fleet import links

LANES = 4
FLEETS = (1, 2, 4)


def ganfleet(*words: str, cwd: Path) -> str:
    ended = subprocess.run([sys.executable, "-m", "ganfleet", *words], cwd=cwd, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(f"{words} ended with {ended.returncode}: {ended.stdout}{ended.stderr}")
    return ended.stdout


def seconds_per_step(workers: int, options, folder: Path) -> float:
    """The median of a run's log lines, the first one left out."""
    words = ["--config", options.config, f"train.lanes={LANES}", f"train.steps={options.steps}", *options.overrides]
    words += ["log.every_steps=5", "log.samples_every_kimg=1e9", f"run.name=ranks{workers}"]
    ganfleet("train", *words, *(["--workers", str(workers)] if workers > 1 else []), cwd=folder)
    log = (folder / "runs" / f"ranks{workers}" / "log.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in log]
    lines = [line for line in lines if line.get("images_per_sec")]
    rates = [line["images_per_sec"] for line in lines[1:]]
    batch = (lines[-1]["nimg"] - lines[-2]["nimg"]) / (lines[-1]["step"] - lines[-2]["step"])
    return batch / statistics.median(rates)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="dcgan_fashion_small")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        folder = Path(folder)
        words = ["--config", options.config, f"train.lanes={LANES}", *options.overrides]
        [*_, stage] = json.loads(ganfleet("plan", "--json", *words, cwd=folder))["stages"]
        sizes = [phase["gradient_bytes"] + phase["buffer_bytes"] for phase in stage["phases"]]
        [found] = json.loads(ganfleet("doctor", "--json", "allreduce", cwd=folder))["findings"]
        link = links.Link.parse(found["facts"]["link"])
        print(f"{options.config}: {len(sizes)} collectives of {sum(sizes):,} bytes in a step; the link is {link}")
        measured = {workers: seconds_per_step(workers, options, folder) for workers in FLEETS}
    lane = measured[1] / LANES
    for workers, seconds in measured.items():
        sharing = max(1, workers / os.cpu_count())
        # What ganfleet does over mccl: see fleet/mindspore_fleet.py.
        exchange = links.ring(workers) if workers <= 2 else links.gather(workers)
        waiting = sum(exchange.seconds(size, link) for size in sizes)
        modelled = LANES / workers * lane * sharing + waiting
        print(
            f"{workers} ranks: {seconds * 1e3:7.1f} ms measured, {modelled * 1e3:7.1f} ms modelled "
            f"({waiting * 1e3:.1f} ms of them in collectives), {modelled / seconds - 1:+.0%}"
        )


if __name__ == "__main__":
    main()
