"""The data set that comes with ganfleet: 2,000 Fashion-MNIST images, so that a first run needs no download."""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("fashion_mnist.npz")


def load() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (2000, 28, 28), bright on black, and labels int32 (2000,) of ten classes, 200 images each."""
    with np.load(FILE) as arrays:
        return arrays["images"], arrays["labels"].astype(np.int32)
