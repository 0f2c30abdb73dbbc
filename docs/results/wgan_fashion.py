"""Makes docs/img/wgan_fashion.png: `python docs/results/wgan_fashion.py RUN_DIRECTORY…`, with the extra `docs`."""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

PNG = Path(__file__).parent.parent / "img" / "wgan_fashion.png"


def main(run_dirs: list[Path]) -> None:
    size = (4.5 * len(run_dirs), 3.2)
    figure, axes = plt.subplots(1, len(run_dirs), figsize=size, layout="constrained", squeeze=False)
    for axis, run_dir in zip(axes[0], run_dirs, strict=True):
        lines = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
        axis.plot([line["kimg"] for line in lines], [line["Loss/wasserstein"] for line in lines])
        axis.set(xlabel="kimg", ylabel="Loss/wasserstein", title=run_dir.name, ylim=0)
    PNG.parent.mkdir(exist_ok=True)
    figure.savefig(PNG, dpi=100)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
