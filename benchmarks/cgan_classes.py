"""How often a CGAN's image is of the class that was asked for, in the eyes of a classifier trained on real images.

`python benchmarks/cgan_classes.py CHECKPOINT_OR_RUN [--images IDX_FILE] [--per-class 100] [--grid PNG]`

The classifier is a support vector machine on pixels, trained on all real images but every fourth, on which its own
accuracy is measured: those of the embedded set, or with --images those of an idx file with its labels beside it.
"""

import argparse
from pathlib import Path

import ganfleet  # noqa: F401  (sets what MindSpore reads at import)

import numpy as np  # isort: skip
from sklearn.metrics import confusion_matrix
from sklearn.svm import SVC

from ganfleet.data import open_source
from ganfleet.engine.loaded import load
from ganfleet.observe.grid import save_png

NAMES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
CLASSIFIER_LIMIT = 12_000  # images; a support vector machine's time grows with their square


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--per-class", type=int, default=100)
    parser.add_argument("--grid", type=Path, help="a PNG with one row of eight images per class")
    options = parser.parse_args()

    images, asked = generated(options.checkpoint, options.per_class)
    if options.grid:
        rows = images.reshape(-1, options.per_class, *images.shape[1:])[:, :8]
        save_png(options.grid, rows.reshape(-1, *images.shape[1:]), columns=8, row_labels=NAMES)
    pixels, labels = real(options.images, images.shape[-1])
    held_out = np.arange(len(labels)) % 4 == 0
    classifier = SVC(C=10, gamma="scale").fit(pixels[~held_out], labels[~held_out])
    given = classifier.predict(images.reshape(len(images), -1))

    print(f"classifier: {(~held_out).sum()} real images, right on {share(classifier, pixels, labels, held_out)} of the")
    print(f"            {held_out.sum()} held out")
    counts = confusion_matrix(asked, given, labels=range(len(NAMES)))
    for name, row in zip(NAMES, counts, strict=True):
        print(f"{name:>11}  " + " ".join(f"{count:4d}" for count in row))
    print(f"generated images of the class that was asked for: {np.mean(given == asked):.1%} of {len(asked)}")


def generated(checkpoint: Path, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (10·per_class, 1, h, w) in [-1, 1] and the classes asked for, in order; other seeds for each class."""
    asked = np.repeat(np.arange(len(NAMES)), per_class)
    with load(checkpoint) as loaded:
        images = loaded.sample(range(len(asked)), asked)
    return images, asked


def real(path: Path | None, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, h·w) in [-1, 1] and labels (n,)."""
    if path is None:
        source = open_source(resolution=resolution)
    else:
        source = open_source("idx", path=path, resolution=resolution, resize="fit")
    samples = [source[i] for i in range(min(len(source), CLASSIFIER_LIMIT))]
    pixels = np.stack([sample["image"].ravel() for sample in samples]).astype(np.float32) / 127.5 - 1
    return pixels, np.array([sample["label"] for sample in samples])


def share(classifier, pixels, labels, chosen) -> str:
    return f"{classifier.score(pixels[chosen], labels[chosen]):.1%}"


if __name__ == "__main__":
    main()
