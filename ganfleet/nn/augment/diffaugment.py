"""DiffAugment (arXiv:2006.10738): every image is changed, with the constants of its authors' code."""

import numpy as np
from mindspore import nn, ops

from ganfleet.nn.augment.colour import of_colours
from ganfleet.size import Size

POLICIES = ("color", "translation", "cutout")
SHIFT = 0.125  # of a side, at most
CUT = 0.5  # of a side


class DiffAugment(nn.Cell):
    """The policies named in ``policy``, always in the order of POLICIES.

    - ``color`` adds one number of U(-½, ½) to an image, multiplies its colours' distance from grey by U(0, 2), and its
      distance from its own mean by U(½, 3/2).
    - ``translation`` moves it by whole pixels, up to an eighth of each side, and leaves 0 behind.
    - ``cutout`` sets a rectangle of half of each side to 0; its centre may be anywhere, so part of it may be outside.
    """

    def __init__(self, policy: tuple[str, ...] = POLICIES):
        super().__init__()
        self.color, self.translation, self.cutout = (each in policy for each in POLICIES)

    def draw(self, rng: np.random.Generator, n: int, size: Size) -> np.ndarray:
        """(n, 7): what is added, the factors of saturation and contrast, the shift down and right, the first row and
        the first column of the cut.
        """
        columns = [rng.uniform(-0.5, 0.5, n), rng.uniform(0, 2, n), rng.uniform(0.5, 1.5, n)]
        columns += [rng.integers(-most, most + 1, n) for most in (rounded(side * SHIFT) for side in size)]
        for side in size:
            cut = rounded(side * CUT)
            columns.append(rng.integers(0, side + 1 - cut % 2, n) - cut // 2)
        return np.stack(columns, 1).astype(np.float32)

    def settings(self, drawn, p):
        return drawn

    def construct(self, image, settings):
        n, _, h, w = image.shape
        if self.color:
            image = of_colours(recoloured, image, settings[:, :3].reshape(n, 3, 1, 1))
        if self.translation:
            down, right = settings[:, 3].reshape(n, 1, 1, 1), settings[:, 4].reshape(n, 1, 1, 1)
            # Matrices of zeros and ones: each pixel of the product is one of the image, or 0.
            moved = ops.matmul(image, shifts(right, w).swapaxes(2, 3))
            image = ops.matmul(shifts(down, h), moved)
        if self.cutout:
            rows, columns = settings[:, 5].reshape(n, 1, 1, 1), settings[:, 6].reshape(n, 1, 1, 1)
            image = image * (1 - within(rows, h).reshape(n, 1, h, 1) * within(columns, w))
        return image


def recoloured(image, settings):
    """Brightness, saturation and contrast, (n, 3, 1, 1), one after the other."""
    image = image + settings[:, :1]
    grey = image.mean(1, keep_dims=True)
    image = (image - grey) * settings[:, 1:2] + grey
    mean = image.mean((1, 2, 3), keep_dims=True)
    return (image - mean) * settings[:, 2:] + mean


def shifts(by, side):
    """(n, 1, 1, 1) → (n, 1, side, side), of which row i has its one where i − ``by`` is, if that is a pixel."""
    pixels = ops.arange(side)
    return ops.equal(pixels.reshape(1, 1, side, 1) - by, pixels.reshape(1, 1, 1, side)).astype(by.dtype)


def within(first, side):
    """(n, 1, 1, 1) → (n, 1, 1, side): one where the cut that begins at ``first`` is, zero elsewhere."""
    pixels = ops.arange(side).reshape(1, 1, 1, side)
    inside = ops.logical_and(pixels >= first, pixels < first + cut_of(side))
    return inside.astype(first.dtype)


@ops.constexpr
def cut_of(side):
    return rounded(side * CUT)


def rounded(length: float) -> int:
    """Half up, as the authors round."""
    return int(length + 0.5)
