"""FID's Inception-v3 once more, in float64 numpy, block by block as pytorch-fid's names tell; it draws the weights it
needs, so that the shapes are its own."""

import numpy as np


def windows(x, kernel, stride, padding, fill=0.0):
    """For each place in the kernel, the pixels under it."""
    ends = [(0, 0), (0, 0), *((each, each) for each in padding)]
    x = np.pad(x, ends, constant_values=fill)
    sides = [(side - k) // stride + 1 for side, k in zip(x.shape[2:], kernel, strict=True)]
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows, columns = (
                slice(i, i + stride * (sides[0] - 1) + 1, stride),
                slice(j, j + stride * (sides[1] - 1) + 1, stride),
            )
            yield i, j, x[:, :, rows, columns]


class Reference:
    """``tensors`` are those that the last ``__call__`` asked for, ``shapes`` what its layers put out."""

    def __init__(self, seed=0, classes=1008):
        self.rng = np.random.default_rng(seed)
        self.tensors, self.shapes, self.classes = {}, {}, classes

    def tensor(self, name, draw):
        if name not in self.tensors:
            self.tensors[name] = draw().astype(np.float32)
        return self.tensors[name].astype(np.float64)

    def conv(self, name, x, out, kernel, stride=1, padding=(0, 0)):
        fan = x.shape[1] * kernel[0] * kernel[1]
        weight = self.tensor(
            f"{name}.conv.weight", lambda: self.rng.normal(0, np.sqrt(2 / fan), (out, x.shape[1], *kernel))
        )
        scale = self.tensor(f"{name}.bn.weight", lambda: self.rng.uniform(0.8, 1.2, out))
        shift = self.tensor(f"{name}.bn.bias", lambda: self.rng.normal(0, 0.1, out))
        mean = self.tensor(f"{name}.bn.running_mean", lambda: self.rng.normal(0, 0.1, out))
        variance = self.tensor(f"{name}.bn.running_var", lambda: self.rng.uniform(0.8, 1.2, out))
        y = sum(
            np.einsum("nchw,oc->nohw", part, weight[:, :, i, j], optimize=True)
            for i, j, part in windows(x, kernel, stride, padding)
        )
        affine = [each[:, None, None] for each in (mean, np.sqrt(variance + 1e-3), scale, shift)]
        y = np.maximum((y - affine[0]) / affine[1] * affine[2] + affine[3], 0)
        self.shapes[name] = y.shape[1:]
        return y

    def pooled(self, x, kind, stride=1, padding=0):
        if kind == "max":
            return np.max([part for *_, part in windows(x, (3, 3), stride, (padding, padding), -np.inf)], 0)
        ones = np.ones_like(x)  # of those that there are: the padding does not count
        sums, counts = (
            sum(part for *_, part in windows(each, (3, 3), stride, (padding, padding))) for each in (x, ones)
        )
        return sums / counts

    def a(self, name, x, pool):
        five = self.conv(f"{name}.branch5x5_1", x, 48, (1, 1))
        double = self.conv(f"{name}.branch3x3dbl_1", x, 64, (1, 1))
        double = self.conv(f"{name}.branch3x3dbl_2", double, 96, (3, 3), padding=(1, 1))
        return self.joined(
            name,
            self.conv(f"{name}.branch1x1", x, 64, (1, 1)),
            self.conv(f"{name}.branch5x5_2", five, 64, (5, 5), padding=(2, 2)),
            self.conv(f"{name}.branch3x3dbl_3", double, 96, (3, 3), padding=(1, 1)),
            self.conv(f"{name}.branch_pool", self.pooled(x, "mean", padding=1), pool, (1, 1)),
        )

    def b(self, name, x):
        double = self.conv(f"{name}.branch3x3dbl_1", x, 64, (1, 1))
        double = self.conv(f"{name}.branch3x3dbl_2", double, 96, (3, 3), padding=(1, 1))
        return self.joined(
            name,
            self.conv(f"{name}.branch3x3", x, 384, (3, 3), 2),
            self.conv(f"{name}.branch3x3dbl_3", double, 96, (3, 3), 2),
            self.pooled(x, "max", 2),
        )

    def c(self, name, x, c7):
        seven = self.conv(f"{name}.branch7x7_1", x, c7, (1, 1))
        seven = self.conv(f"{name}.branch7x7_2", seven, c7, (1, 7), padding=(0, 3))
        double = self.conv(f"{name}.branch7x7dbl_1", x, c7, (1, 1))
        double = self.conv(f"{name}.branch7x7dbl_2", double, c7, (7, 1), padding=(3, 0))
        double = self.conv(f"{name}.branch7x7dbl_3", double, c7, (1, 7), padding=(0, 3))
        double = self.conv(f"{name}.branch7x7dbl_4", double, c7, (7, 1), padding=(3, 0))
        return self.joined(
            name,
            self.conv(f"{name}.branch1x1", x, 192, (1, 1)),
            self.conv(f"{name}.branch7x7_3", seven, 192, (7, 1), padding=(3, 0)),
            self.conv(f"{name}.branch7x7dbl_5", double, 192, (1, 7), padding=(0, 3)),
            self.conv(f"{name}.branch_pool", self.pooled(x, "mean", padding=1), 192, (1, 1)),
        )

    def d(self, name, x):
        three = self.conv(f"{name}.branch3x3_1", x, 192, (1, 1))
        seven = self.conv(f"{name}.branch7x7x3_1", x, 192, (1, 1))
        seven = self.conv(f"{name}.branch7x7x3_2", seven, 192, (1, 7), padding=(0, 3))
        seven = self.conv(f"{name}.branch7x7x3_3", seven, 192, (7, 1), padding=(3, 0))
        return self.joined(
            name,
            self.conv(f"{name}.branch3x3_2", three, 320, (3, 3), 2),
            self.conv(f"{name}.branch7x7x3_4", seven, 192, (3, 3), 2),
            self.pooled(x, "max", 2),
        )

    def e(self, name, x, pool):
        three = self.conv(f"{name}.branch3x3_1", x, 384, (1, 1))
        double = self.conv(f"{name}.branch3x3dbl_1", x, 448, (1, 1))
        double = self.conv(f"{name}.branch3x3dbl_2", double, 384, (3, 3), padding=(1, 1))
        return self.joined(
            name,
            self.conv(f"{name}.branch1x1", x, 320, (1, 1)),
            self.conv(f"{name}.branch3x3_2a", three, 384, (1, 3), padding=(0, 1)),
            self.conv(f"{name}.branch3x3_2b", three, 384, (3, 1), padding=(1, 0)),
            self.conv(f"{name}.branch3x3dbl_3a", double, 384, (1, 3), padding=(0, 1)),
            self.conv(f"{name}.branch3x3dbl_3b", double, 384, (3, 1), padding=(1, 0)),
            self.conv(f"{name}.branch_pool", self.pooled(x, pool, padding=1), 192, (1, 1)),
        )

    def joined(self, name, *branches):
        y = np.concatenate(branches, 1)
        self.shapes[name] = y.shape[1:]
        return y

    def __call__(self, x):
        """Features (n, 2048)."""
        x = self.conv("Conv2d_1a_3x3", np.asarray(x, np.float64), 32, (3, 3), 2)
        x = self.conv("Conv2d_2a_3x3", x, 32, (3, 3))
        x = self.conv("Conv2d_2b_3x3", x, 64, (3, 3), padding=(1, 1))
        x = self.conv("Conv2d_3b_1x1", self.pooled(x, "max", 2), 80, (1, 1))
        x = self.conv("Conv2d_4a_3x3", x, 192, (3, 3))
        x = self.pooled(x, "max", 2)
        for name, pool in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = self.a(name, x, pool)
        x = self.b("Mixed_6a", x)
        for name, c7 in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            x = self.c(name, x, c7)
        x = self.d("Mixed_7a", x)
        x = self.e("Mixed_7b", x, "mean")
        x = self.e("Mixed_7c", x, "max")
        self.tensor("fc.weight", lambda: self.rng.normal(0, 0.02, (self.classes, x.shape[1])))
        self.tensor("fc.bias", lambda: self.rng.normal(0, 1, self.classes))
        return x.mean((2, 3))
