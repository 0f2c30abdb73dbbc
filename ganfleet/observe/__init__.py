"""What a run shows of itself: log.jsonl, TensorBoard, progress, sample grids. Reads the training, never steers it."""

from ganfleet.observe.observers import Observers

__all__ = ["Observers"]
