"""Inception-v3 (arXiv:1512.00567) in the variant that FID is defined by (arXiv:1706.08500).

It is the network of TensorFlow's ``inception-2015-12-05``, under the names that pytorch-fid's file gives its tensors.
It differs from torchvision's in this: average pools do not count the padding, the last pool is a maximum, there are
1008 classes, and there is no auxiliary head.
"""

from collections.abc import Callable

import numpy as np
from mindspore import nn, ops

from ganfleet.metrics.layers import AveragePool3, FoldedConv, Tensors, mean_over_pixels, taken

SIDE = 299
FEATURES, CLASSES = 2048, 1008
Sides = tuple[int, int]
Conv = tuple[str, int, Sides, int, Sides]
"""The name of a convolution in its branch, channels out, kernel, stride, padding."""


def one(name: str, out: int) -> Conv:
    return name, out, (1, 1), 1, (0, 0)


def same(name: str, out: int, *kernel: int) -> Conv:
    return name, out, kernel, 1, (kernel[0] // 2, kernel[1] // 2)


def halving(name: str, out: int) -> Conv:
    return name, out, (3, 3), 2, (0, 0)


class Chain(nn.Cell):
    """Convolutions one after the other."""

    def __init__(self, tensors: Tensors, prefix: str, channels: int, convs: list[Conv]):
        super().__init__()
        made = []
        for name, out, kernel, stride, padding in convs:
            where = f"{prefix}{name}"
            shape = (out, channels, *kernel)
            made.append(FoldedConv(tensors, f"{where}.conv", f"{where}.bn", shape, stride, padding))
            channels = out
        self.convs = nn.CellList(made)
        self.channels = channels

    def construct(self, x):
        for conv in self.convs:
            x = conv(x)
        return x


class Forked(nn.Cell):
    """Convolutions one after the other, the last two of which both take what those before them gave."""

    def __init__(self, tensors: Tensors, prefix: str, channels: int, convs: list[Conv]):
        super().__init__()
        self.trunk = Chain(tensors, prefix, channels, convs[:-2])
        self.a = Chain(tensors, prefix, self.trunk.channels, convs[-2:-1])
        self.b = Chain(tensors, prefix, self.trunk.channels, convs[-1:])
        self.channels = self.a.channels + self.b.channels

    def construct(self, x):
        x = self.trunk(x)
        return ops.concat((self.a(x), self.b(x)), 1)


class Mixed(nn.Cell):
    """Branches side by side, the last of which begins with ``pool``; their results one after the other as channels."""

    def __init__(self, branches: list[nn.Cell], pool: Callable, pooled: Chain | None, channels: int):
        super().__init__()
        self.branches, self.pool, self.pooled = nn.CellList(branches), pool, pooled
        self.has_pooled = pooled is not None
        self.channels = sum(each.channels for each in branches) + (pooled.channels if pooled else channels)

    def construct(self, x):
        results = []
        for branch in self.branches:
            results.append(branch(x))
        last = self.pool(x)
        results.append(self.pooled(last) if self.has_pooled else last)
        return ops.concat(results, 1)


def _a(tensors, name, channels, pooled):
    def chain(*convs):
        return Chain(tensors, f"{name}.", channels, list(convs))

    branches = [
        chain(one("branch1x1", 64)),
        chain(one("branch5x5_1", 48), same("branch5x5_2", 64, 5, 5)),
        chain(one("branch3x3dbl_1", 64), same("branch3x3dbl_2", 96, 3, 3), same("branch3x3dbl_3", 96, 3, 3)),
    ]
    return Mixed(branches, AveragePool3(35), chain(one("branch_pool", pooled)), channels)


def _b(tensors, name, channels):
    def chain(*convs):
        return Chain(tensors, f"{name}.", channels, list(convs))

    branches = [
        chain(halving("branch3x3", 384)),
        chain(one("branch3x3dbl_1", 64), same("branch3x3dbl_2", 96, 3, 3), halving("branch3x3dbl_3", 96)),
    ]
    return Mixed(branches, halving_pool(), None, channels)


def _c(tensors, name, channels, inner):
    def chain(*convs):
        return Chain(tensors, f"{name}.", channels, list(convs))

    long = [one("branch7x7dbl_1", inner)]
    for i, out in enumerate((inner, inner, inner, 192), start=2):
        long.append(same(f"branch7x7dbl_{i}", out, *((7, 1) if i % 2 == 0 else (1, 7))))
    branches = [
        chain(one("branch1x1", 192)),
        chain(one("branch7x7_1", inner), same("branch7x7_2", inner, 1, 7), same("branch7x7_3", 192, 7, 1)),
        chain(*long),
    ]
    return Mixed(branches, AveragePool3(17), chain(one("branch_pool", 192)), channels)


def _d(tensors, name, channels):
    def chain(*convs):
        return Chain(tensors, f"{name}.", channels, list(convs))

    wide = [same("branch7x7x3_2", 192, 1, 7), same("branch7x7x3_3", 192, 7, 1), halving("branch7x7x3_4", 192)]
    branches = [
        chain(one("branch3x3_1", 192), halving("branch3x3_2", 320)),
        chain(one("branch7x7x3_1", 192), *wide),
    ]
    return Mixed(branches, halving_pool(), None, channels)


def _e(tensors, name, channels, pool):
    def forked(*convs):
        return Forked(tensors, f"{name}.", channels, list(convs))

    short = [same("branch3x3_2a", 384, 1, 3), same("branch3x3_2b", 384, 3, 1)]
    long = [same("branch3x3dbl_3a", 384, 1, 3), same("branch3x3dbl_3b", 384, 3, 1)]
    branches = [
        Chain(tensors, f"{name}.", channels, [one("branch1x1", 320)]),
        forked(one("branch3x3_1", 384), *short),
        forked(one("branch3x3dbl_1", 448), same("branch3x3dbl_2", 384, 3, 3), *long),
    ]
    return Mixed(branches, pool, Chain(tensors, f"{name}.", channels, [one("branch_pool", 192)]), channels)


def halving_pool() -> Callable:
    return ops.MaxPool(3, 2, "valid")


class MaxPool3(nn.Cell):
    """Maxima over 3×3 pixels, stride 1, same size out, of values that are zero or more."""

    def __init__(self):
        super().__init__()
        self.pool = ops.MaxPool(3, 1, "valid")
        self.pad = ops.Pad(((0, 0), (0, 0), (1, 1), (1, 1)))

    def construct(self, x):
        return self.pool(self.pad(x))


class InceptionV3(nn.Cell):
    """Images (n, 3, 299, 299), (pixel − 128) / 128 → features (n, 2048)."""

    def __init__(self, tensors: Tensors):
        super().__init__()
        stem = [
            halving("Conv2d_1a_3x3", 32),
            ("Conv2d_2a_3x3", 32, (3, 3), 1, (0, 0)),
            same("Conv2d_2b_3x3", 64, 3, 3),
        ]
        self.stem = Chain(tensors, "", 3, stem)
        self.pool = halving_pool()
        self.wider = Chain(tensors, "", 64, [one("Conv2d_3b_1x1", 80), ("Conv2d_4a_3x3", 192, (3, 3), 1, (0, 0))])
        mixed, channels = [], 192
        for letter, pooled in (("b", 32), ("c", 64), ("d", 64)):
            mixed.append(_a(tensors, f"Mixed_5{letter}", channels, pooled))
            channels = mixed[-1].channels
        mixed.append(_b(tensors, "Mixed_6a", channels))
        for letter, inner in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
            mixed.append(_c(tensors, f"Mixed_6{letter}", mixed[-1].channels, inner))
        mixed.append(_d(tensors, "Mixed_7a", mixed[-1].channels))
        mixed.append(_e(tensors, "Mixed_7b", mixed[-1].channels, AveragePool3(8)))
        mixed.append(_e(tensors, "Mixed_7c", mixed[-1].channels, MaxPool3()))
        self.mixed = nn.CellList(mixed)

    def maps(self, x):
        """What the last layer of each scale puts out: 147, 71, 35, 17 and 8 pixels a side."""
        found = [self.stem(x)]
        x = self.wider(self.pool(found[0]))
        found.append(x)
        x = self.pool(x)
        for i, each in enumerate(self.mixed):
            x = each(x)
            if i in (2, 7, 10):
                found.append(x)
        return found

    def construct(self, x):
        return mean_over_pixels(self.maps(x)[-1])


def classifier(tensors: Tensors) -> tuple[np.ndarray, np.ndarray]:
    """Weights (2048, 1008) and biases (1008,) that make logits out of features.

    The biases are zero: so the authors of the Inception Score (arXiv:1606.03498) computed it.
    """
    taken(tensors, "fc.bias", (CLASSES,))
    return taken(tensors, "fc.weight", (CLASSES, FEATURES)).T, np.zeros(CLASSES)
