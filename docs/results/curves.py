"""Curves out of runs' logs: `python docs/results/curves.py PNG RUN_DIRECTORY:KEY[,KEY…] …`, with the extra `docs`.

One plot for each argument, over kimg; a vertical line where the resolution changes.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt


def main(png: Path, curves: list[str]) -> None:
    size = (4.5 * len(curves), 3.2)
    figure, axes = plt.subplots(1, len(curves), figsize=size, layout="constrained", squeeze=False)
    for axis, curve in zip(axes[0], curves, strict=True):
        run_dir, keys = curve.split(":")
        lines = [json.loads(line) for line in (Path(run_dir) / "log.jsonl").read_text().splitlines()]
        stages = [line for line in lines if "resolution" in line]  # a line of metrics has none
        for key in keys.split(","):
            logged = [line for line in lines if key in line]
            axis.plot([line["kimg"] for line in logged], [line[key] for line in logged], label=key, linewidth=1)
        for before, after in pairwise(stages):
            if before["resolution"] != after["resolution"]:
                axis.axvline(before["kimg"], color="grey", linewidth=0.5)
        axis.set(xlabel="kimg", title=Path(run_dir).name, ylim=0)
        axis.legend()
    png.parent.mkdir(exist_ok=True)
    figure.savefig(png, dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
