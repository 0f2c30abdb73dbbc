"""An affine transform of images as arXiv:2006.06676 does it: between two low-pass filters, at twice the resolution.

Each is a linear map of the image, so that its derivatives of any order are exact. Images go on beyond their border as
in a mirror, without end. Enlarged and mirrored rows repeat after 4·side − 4 pixels, so one such period is kept.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

# The low-pass filter of the wavelet sym6 (Daubechies, Ten Lectures on Wavelets, 1992, table 6.3), of sum 1.
SYM6 = np.array(
    [
        *(0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633),
        *(0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252),
        *(-0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148),
    ]
)
SYM6 = SYM6 / SYM6.sum()
REACH = len(SYM6) // 2  # pixels beyond the border, at twice the resolution, that the second filter reads


def warp(image, inverse):
    """(n, c, h, w) → the same shape. ``inverse`` (n, 3, 3) takes (x, y, 1) of a pixel of the result to where it comes
    from; both are measured in pixels from the middle of the image, x to the right and y down.
    """
    n, c, h, w = image.shape
    enlarged = _along_both(image, enlarging(w), enlarging(h))  # (n, columns, rows, c)
    columns, rows = enlarged.shape[1], enlarged.shape[2]
    x, y = positions(inverse, h, w)
    left, top = ops.floor(x), ops.floor(y)
    right_share, lower_share = (x - left).reshape(-1, 1), (y - top).reshape(-1, 1)
    first = ops.arange(n).reshape(n, 1) * (columns * rows)
    left, right = wrapped(left, columns) * rows + first, wrapped(left + 1, columns) * rows + first
    top, lower = wrapped(top, rows), wrapped(top + 1, rows)
    pixels = enlarged.reshape(-1, c)
    upper_row = _between(pixels, left + top, right + top, right_share)
    lower_row = _between(pixels, left + lower, right + lower, right_share)
    found = upper_row + (lower_row - upper_row) * lower_share
    found = found.reshape(n, *sampled(w, h), c).transpose(0, 3, 2, 1)
    return _along_both(found, reducing(w), reducing(h)).transpose(0, 3, 2, 1)


def positions(inverse, h, w):
    """Where in the enlarged image each of the pixels comes from that the second filter reads, columns first: x and y,
    (n, columns · rows).
    """
    n = inverse.shape[0]
    found = ops.matmul(inverse[:, :2].reshape(2 * n, 3), grid(h, w)).reshape(n, 2, -1)
    return 2 * found[:, 0] + (w - 1), 2 * found[:, 1] + (h - 1)


def wrapped(position, period):
    """A whole number as an index into the period."""
    return (position - period * ops.floor(position / period)).astype(ms.int32)


def _between(pixels, a, b, share):
    """The rows of ``pixels`` (m, c) that ``a`` and ``b`` number, mixed with ``share`` of the second."""
    first = ops.gather(pixels, a.reshape(-1), 0)
    return first + (ops.gather(pixels, b.reshape(-1), 0) - first) * share


def _along_both(x, along_w, along_h):
    """(n, c, h, w) times (w, w') and (h, h') → (n, w', h', c)."""
    n, c, h, w = x.shape
    x = ops.matmul(x.reshape(-1, w), along_w).reshape(n, c, h, -1).transpose(0, 3, 1, 2)
    x = ops.matmul(x.reshape(-1, h), along_h).reshape(n, x.shape[1], c, -1)
    return x.transpose(0, 1, 3, 2)


@ops.constexpr
def enlarging(side):
    """(side, 4·side − 4): a period of a mirrored row with zeros between its pixels, filtered; pixel i is then at 2i."""
    period = 4 * side - 4
    matrix = np.zeros((side, period))
    for at in range(period):
        for tap, weight in enumerate(SYM6):
            pixel, between = divmod(at + REACH - 1 - tap, 2)
            if not between:
                pixel %= 2 * side - 2
                matrix[min(pixel, 2 * side - 2 - pixel), at] += 2 * weight
    return Tensor(matrix.astype(np.float32))


@ops.constexpr
def reducing(side):
    """(2·side + 2·REACH, side): the filter the other way round, at every second pixel."""
    matrix = np.zeros((2 * side + 2 * REACH, side))
    for at in range(side):
        matrix[2 * at + 1 : 2 * at + 1 + len(SYM6), at] = SYM6
    return Tensor(matrix.astype(np.float32))


@ops.constexpr
def sampled(w, h):
    return 2 * w + 2 * REACH, 2 * h + 2 * REACH


@ops.constexpr
def grid(h, w):
    """(3, columns · rows): x, y and 1 of each pixel that ``reducing`` reads, from the middle of the result."""
    x, y = ((np.arange(2 * side + 2 * REACH) - REACH) / 2 - (side - 1) / 2 for side in (w, h))
    x, y = np.meshgrid(x, y, indexing="ij")
    return Tensor(np.stack([x.ravel(), y.ravel(), np.ones(x.size)]).astype(np.float32))
