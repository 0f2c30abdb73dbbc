"""Checkpoints of runs that are about to begin, for tests of what is made with them."""

from pathlib import Path

import numpy as np
from in_memory import ArraySource, trainer

from ganfleet.store import checkpoint


def save_start_of(yaml: str, run_dir: Path, channels: int = 1, classes: int = 0, scale: float = 1.0) -> Path:
    """A run directory with one checkpoint, G's weights ``scale`` times as large as a run's would be, EMA included."""
    run_dir.mkdir(parents=True, exist_ok=True)
    source = ArraySource("image", np.zeros((1, 1)), channels)
    source.names += ("image_a", "image_b")
    source.classes = classes
    made = trainer(yaml, source, run_dir)
    made.loader.close()
    snapshot = made.snapshot()
    for component in ("G.weights", "G.ema"):
        if component in snapshot.tensors:
            scaled = {name: array * np.float32(scale) for name, array in snapshot.tensors[component].items()}
            snapshot.tensors[component] = scaled
    checkpoint.save(run_dir / "checkpoints", snapshot, 0, keep=1)
    return run_dir
