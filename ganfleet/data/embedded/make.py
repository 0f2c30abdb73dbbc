"""Makes fashion_mnist.npz: ``python -m ganfleet.data.embedded.make t10k-images-idx3-ubyte.gz``."""

import sys
from pathlib import Path

import numpy as np

from ganfleet.data.embedded import FILE
from ganfleet.data.idx import labels_beside, read_idx

PER_CLASS = 200


def main(path: Path) -> None:
    images, labels = read_idx(path, ndim=3), read_idx(labels_beside(path), ndim=1)
    first = [np.flatnonzero(labels == label)[:PER_CLASS] for label in range(10)]
    chosen = np.sort(np.concatenate(first))
    np.savez_compressed(FILE, images=images[chosen], labels=labels[chosen])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
