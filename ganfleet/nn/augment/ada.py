"""Adaptive discriminator augmentation (arXiv:2006.06676): the pipeline "bgc" and the rule by which its p moves."""

import math

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ganfleet.nn.augment.colour import of_colours
from ganfleet.nn.augment.warp import warp
from ganfleet.nn.buffer import Buffer
from ganfleet.size import Size

SHIFT = 0.125  # of a side: the most by whole pixels, and the standard deviation otherwise
SCALE = 0.2  # standard deviations of log2
ANISOTROPY = 0.2
BRIGHTNESS = 0.2
CONTRAST = 0.5
SATURATION = 1.0

GEOMETRY = 8  # transforms of each kind: matrices are multiplied in pairs, so colour's five are filled up
COLOURS = 5
# In the order of ``geometry``, these have another probability, so that one of the two happens with p.
ROTATIONS = np.array([0, 0, 0, 0, 1, 0, 1, 0, *[0] * COLOURS], bool)


class BGC(nn.Cell):
    """Pixel blitting, geometric and colour transforms, each with probability p: B.1 and figures 24 to 26 of the paper.

    An image that none of them changes comes back bit for bit. One that is moved or turned in any way is filtered, as
    in the original, and goes on beyond its border as in a mirror.
    """

    def draw(self, rng: np.random.Generator, n: int, size: Size) -> np.ndarray:
        """(n, K): for each transform a number of U(0, 1) to be compared with p, then its matrix."""
        gates = rng.random((n, GEOMETRY + COLOURS), dtype=np.float32)
        matrices = geometry(rng, n, size), colours(rng, n)
        return np.concatenate([gates, *(each.reshape(n, -1) for each in matrices)], 1).astype(np.float32)

    def settings(self, drawn, p):
        """For images that move at all, and that change colour at all, (n, 1, 1, 1); and by which matrices, (n, 3, 3)
        and (n, 4, 4).
        """
        n, transforms = drawn.shape[0], GEOMETRY + COLOURS
        either = 1 - ops.sqrt(ops.maximum(1 - p, 0.0))  # twice, it happens with p
        happens = drawn[:, :transforms] < ops.where(Tensor(ROTATIONS), either, p)
        moving, colouring = happens[:, :GEOMETRY], happens[:, GEOMETRY:]
        ends = transforms + 9 * GEOMETRY
        moves = drawn[:, transforms:ends].reshape(n, GEOMETRY, 3, 3)
        moves = ops.where(moving.reshape(n, GEOMETRY, 1, 1), moves, ops.eye(3, 3, ms.float32))
        changes = drawn[:, ends:].reshape(n, COLOURS, 4, 4)
        changes = ops.where(colouring.reshape(n, COLOURS, 1, 1), changes, ops.eye(4, 4, ms.float32))
        unchanged = ops.broadcast_to(ops.eye(4, 4, ms.float32), (n, GEOMETRY - COLOURS, 4, 4))
        return any_of(moving), product(moves), any_of(colouring), product(ops.concat((changes, unchanged), 1))

    def construct(self, image, settings):
        moves, inverse, colours, matrix = settings
        image = ops.where(moves, warp(image, inverse), image)
        return ops.where(colours, of_colours(coloured, image, matrix), image)


def any_of(happens):
    """(n, transforms) → (n, 1, 1, 1)."""
    return (happens.astype(ms.float32).sum(1) > 0).reshape(-1, 1, 1, 1)


def product(matrices):
    """(n, 8, k, k) → (n, k, k), from left to right."""
    n, side = matrices.shape[0], matrices.shape[-1]
    for _ in range(3):
        pairs = matrices.reshape(-1, 2, side, side)
        matrices = ops.bmm(pairs[:, 0], pairs[:, 1])
    return matrices.reshape(n, side, side)


def coloured(image, matrix):
    """``matrix`` (n, 4, 4) times each pixel (red, green, blue, 1), or (grey, grey, grey, 1), and of that the mean."""
    n, c, h, w = image.shape
    if c == 1:
        factor = matrix[:, :3, :3].sum(2).mean(1).reshape(n, 1, 1, 1)
        return image * factor + matrix[:, :3, 3].mean(1).reshape(n, 1, 1, 1)
    mixed = ops.bmm(matrix[:, :3, :3], image.reshape(n, c, h * w)) + matrix[:, :3, 3:]
    return mixed.reshape(n, c, h, w)


class Adaptive(nn.Cell):
    """p, which goes up while D is too sure of real images, and down while it is not (section 3.1).

    ``r`` is the mean of sign(D(real)) over the fleet and the last ``every`` batches. After these, p moves by ``step``:
    up where r is above ``target``, down where it is below, and never below 0. A run that begins with the weights of
    another does not take its p over.
    """

    def __init__(self, initial: float, target: float, every: int, step: float):
        super().__init__()
        # p, the sum of r over the batches since it moved, and their number: one buffer, because they move together.
        self.state = Buffer((3,), (initial, 0.0, 0.0), move=Heuristic(target, every, step), carried=False)

    def p(self):
        return self.state.value[0]

    def add(self, scores):
        """Count D's ``scores`` of real images, above 0 where it takes them for real; their mean sign."""
        sign = ops.sign(scores).mean()
        self.state.add(ops.broadcast_to(sign.reshape(1), (3,)))
        return sign


class Heuristic(nn.Cell):
    def __init__(self, target: float, every: int, step: float):
        super().__init__()
        self.target, self.every, self.step = target, every, step

    def construct(self, value, mean):
        total, batches = value[1] + mean[1], value[2] + 1
        due = batches >= self.every
        p = value[0] + ops.where(due, ops.sign(total / batches - self.target) * self.step, 0.0)
        zero = ops.zeros_like(total)
        after = ops.maximum(p, 0.0), ops.where(due, zero, total), ops.where(due, zero, batches)
        return ops.concat((after[0].reshape(1), after[1].reshape(1), after[2].reshape(1)))


# ── What happens, drawn on the host in float64


def geometry(rng: np.random.Generator, n: int, size: Size) -> np.ndarray:
    """(n, GEOMETRY, 3, 3): the inverse of each transform. The product of all, in this order, is the inverse of all.

    Flip, turns by 90°, whole pixels, scale, turn, other scales of x and y, turn, fractions of pixels.
    """
    sides = np.array([size.width, size.height])
    flip, quarters = 1 - 2 * rng.integers(0, 2, n), rng.integers(0, 4, n)
    pixels = np.round(rng.uniform(-SHIFT, SHIFT, (n, 2)) * sides)
    scale, anisotropy = np.exp2([[-SCALE], [-ANISOTROPY]] * rng.standard_normal((2, n)))
    before, after = rng.uniform(-math.pi, math.pi, (2, n))
    fractions = SHIFT * rng.standard_normal((n, 2)) * sides
    inverses = [
        *(scaled(flip, np.ones(n)), rotated(-math.pi / 2 * quarters), moved(-pixels), scaled(scale, scale)),
        *(rotated(-before), scaled(anisotropy, 1 / anisotropy), rotated(-after), moved(-fractions)),
    ]
    return np.stack(inverses, 1)


def colours(rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, COLOURS, 4, 4): saturation, hue, luma flip, contrast and brightness, the last of which happens first."""
    eye = np.broadcast_to(np.eye(4), (n, 4, 4))
    grey = np.zeros((4, 4))
    grey[:3, :3] = 1 / 3  # the projection on the axis of greys
    saturation = np.exp2(SATURATION * rng.standard_normal((n, 1, 1)))
    angle = rng.uniform(-math.pi, math.pi, (n, 1, 1))
    contrast = np.exp2(CONTRAST * rng.standard_normal((n, 1, 1)))
    brightness = BRIGHTNESS * rng.standard_normal(n)
    colour = np.diag([1.0, 1.0, 1.0, 0.0])
    across = np.zeros((4, 4))
    across[:3, :3] = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    last = eye - colour
    # Rodrigues' rotation about the axis of greys.
    hue = grey + np.cos(angle) * (colour - grey) + np.sin(angle) * across + last
    added = eye.copy()
    added[:, :3, 3] = brightness[:, None]
    flip = eye - 2 * grey * rng.integers(0, 2, (n, 1, 1))
    return np.stack([grey + saturation * (colour - grey) + last, hue, flip, contrast * colour + last, added], 1)


def scaled(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    matrix = np.zeros((len(x), 3, 3))
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 2, 2] = x, y, 1
    return matrix


def rotated(angle: np.ndarray) -> np.ndarray:
    matrix = np.zeros((len(angle), 3, 3))
    matrix[:, 0, 0] = matrix[:, 1, 1] = np.cos(angle)
    matrix[:, 1, 0], matrix[:, 0, 1], matrix[:, 2, 2] = np.sin(angle), -np.sin(angle), 1
    return matrix


def moved(by: np.ndarray) -> np.ndarray:
    matrix = np.broadcast_to(np.eye(3), (len(by), 3, 3)).copy()
    matrix[:, :2, 2] = by
    return matrix
