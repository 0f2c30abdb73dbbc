"""Makes docs/img/tuning.png, the curves of docs/tuning.md, with the extra `docs`:

    python docs/tuning.py runs/arcane-base runs/arcane-tuned runs/arcane-scratch

It plots what `ganfleet evaluate` has measured of the runs' checkpoints; docs/tuning.md says with which options.
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

KID = "kid_effnet_lite0"


def main(base: str, tuned: str, scratch: str) -> None:
    [(_, before)] = measured(base)
    figure, axis = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
    for name, points in {"from the base": [(0, before), *measured(tuned)], "from nothing": measured(scratch)}.items():
        print(name, *(f"{kimg:.0f}: {kid:.4f}" for kimg, kid in points), sep="  ")
        axis.plot(*zip(*points, strict=True), "o-", label=name, linewidth=1, markersize=3)
    axis.set(xlabel="thousand images of Twemoji", ylabel="KID to Twemoji", ylim=0)
    axis.legend()
    figure.savefig(Path(__file__).parent / "img/tuning.png", dpi=100)


def measured(run: str) -> list[tuple[float, float]]:
    """(kimg, KID) of each checkpoint that was measured."""
    lines = map(json.loads, (Path(run) / "metrics.jsonl").read_text().splitlines())
    return sorted({line["kimg"]: line["metrics"][KID] for line in lines if KID in line["metrics"]}.items())


if __name__ == "__main__":
    main(*sys.argv[1:])
