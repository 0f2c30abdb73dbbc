"""Directories of runs, written file by file as runs leave them: what reads them is tested without training."""

import json

import numpy as np
from PIL import Image

from ganfleet.store import checkpoint
from ganfleet.store.snapshot import Snapshot

CONFIG = """\
strategy: {name: stylegan, resolution: 16, latent: 8}
data: {source: embedded}
train: {kimg: 4, batch_size: 16}
log: {every_steps: 25}
run: {name: "<i>left</i>"}
"""
START = {"event": "start", "time": "2026-01-02 03:04:05+00:00", "step": 0, "kimg": 0.0, "notes": []}
START |= {"ganfleet": "0.2.0", "mindspore": "2.10.0", "python": "3.11.2", "ranks": 2, "backend": "mccl"}
START |= {"model": "StyleGAN (arXiv:1812.04948).", "directions": [], "device": "CPU", "host": "node1"}


def write_run(directory, lines=(), metrics=(), history=(), grids=(), step=0, text=CONFIG, **facts):
    """A run's directory: ``lines`` of its log, ``metrics`` it measured, ``grids`` at these kimg, each of another grey,
    and a checkpoint at ``step``, if that is not 0.
    """
    (directory / "samples").mkdir(parents=True)
    (directory / "checkpoints").mkdir()
    (directory / "config.yaml").write_text(text, "utf-8")
    for name, records in (("log", lines), ("metrics", metrics), ("history", history)):
        if records:
            (directory / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records), "utf-8")
    for i, kimg in enumerate(grids):
        Image.new("L", (40, 30), 10 + 40 * i).save(directory / "samples" / f"{kimg:010.3f}kimg.png")
    if step:
        weights = {"first.weight": np.zeros((3, 4), np.float32), "first.bias": np.zeros(3, np.float32)}
        facts = {
            "clock": {"step": step, "nimg": 16 * step},
            "source": {"images": 2000, "names": "ab" * 32, "channels": 1, "classes": 2, "class_names": ["bag", "boot"]},
            "accepted": [],
        } | facts
        checkpoint.save(directory / "checkpoints", Snapshot({"G.weights": weights}, facts, {}), step, keep=3)
    return directory


def line(step, resolution=16, **values):
    """A line of a log of batches of 16 images."""
    place = {"step": step, "nimg": 16 * step, "kimg": 0.016 * step, "resolution": resolution}
    return place | {name.replace("__", "/"): value for name, value in values.items()}


def grown(directory):
    """A run that grew from 8x8 to 16x16, was killed once, measured itself twice, and drew three grids."""
    lines = [
        line(25, 8, Loss__D=1.5, Loss__G=0.5, scores__real=0.25, Schedule__lr__G=2e-3, Progress__nonfinite=0,
             Memory__D=80.5, sec_per_kimg=2.0, images_per_sec=500.0),
        line(50, 8, Loss__D=1.25, Loss__G=None, scores__real=0.5, Schedule__lr__G=2e-3, Progress__nonfinite=2,
             Memory__D=81.0, sec_per_kimg=4.0, images_per_sec=250.0),
        line(75, 16, Loss__D=1.0, Loss__G=0.75, scores__real=-0.75, Schedule__lr__G=2e-3, Progress__nonfinite=2,
             Memory__D=90.0, sec_per_kimg=10.0, images_per_sec=100.0),
    ]  # fmt: skip
    measured = [
        {"step": step, "nimg": 16 * step, "kimg": 0.016 * step, "Metrics/kid_x": kid, "Metrics/kid_x_stderr": 0.01}
        for step, kid in ((50, 0.5), (75, 0.25))
    ]
    kept = [
        {"step": each["step"], "kimg": each["kimg"], "metrics": {"kid_x": each["Metrics/kid_x"], "kid_x_stderr": 0.01},
         "count": 256, "real": 2000, "seed": 0, "features": {"name": "x", "sha256": "c0ffee"}, "ganfleet": "0.2.0"}
        for each in measured
    ]  # fmt: skip
    again = START | {"time": "2026-01-02 05:04:05+00:00", "step": 50, "kimg": 0.8, "ranks": 1, "backend": "alone"}
    end = {"event": "end", "time": "2026-01-02 06:04:05+00:00", "step": 75, "kimg": 1.2, "seconds": 3600.0}
    end |= {"exit_code": 75, "error": "Stopped", "message": "stopped by a signal after step 75"}
    return write_run(directory, [*lines, *measured], kept, [START, again, end], (0.0, 0.8, 1.2), step=75)
