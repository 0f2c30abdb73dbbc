"""Augmentations against NumPy, SciPy and JAX: what they do to an image, and derivatives of what they do."""

import math
from functools import cache

import jax.numpy as jnp
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from reference import assert_close, assert_exact_to_second_order, normal, rng
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ganfleet.nn.augment import BGC, Adaptive, DiffAugment
from ganfleet.nn.augment.ada import COLOURS, GEOMETRY, colours, geometry
from ganfleet.nn.augment.warp import SYM6
from ganfleet.size import Size

SIZE = Size(6, 8)
TRANSFORMS = GEOMETRY + COLOURS
N = TRANSFORMS + 2  # a row for each transform alone, one for none, one for all together
P = 0.3
GREY = np.ones(3) / math.sqrt(3)


def one_at_a_time():
    """Draws of BGC, of which row i has only transform i happen, the last but one none, and the last all."""
    drawn = BGC().draw(rng(3), N, SIZE)
    drawn[:, :TRANSFORMS] = 1 - np.eye(N, TRANSFORMS)
    drawn[-1, :TRANSFORMS] = 0
    return drawn


def matrices(row):
    """The inverses of the geometric transforms, and the matrices of colour, in the order in which they happen."""
    geometric, of_colour = np.split(one_at_a_time()[row, TRANSFORMS:].astype(np.float64), [9 * GEOMETRY])
    return geometric.reshape(-1, 3, 3), of_colour.reshape(-1, 4, 4)[::-1]


class Applied(nn.Cell):
    def __init__(self, pipeline):
        super().__init__()
        self.pipeline = pipeline

    @ms.jit
    def construct(self, x, drawn, p):
        return self.pipeline(x, self.pipeline.settings(drawn, p))


class Fixed(nn.Cell):
    def __init__(self, pipeline, drawn, p=1.0):
        super().__init__()
        self.pipeline, self.drawn, self.p = pipeline, ms.Tensor(drawn), ms.Tensor(np.float32(p))

    def construct(self, x):
        return self.pipeline(x, self.pipeline.settings(self.drawn, self.p))


BGC_GRAPH = Applied(BGC())  # one, so that it is compiled once for each number of channels


def applied(x, drawn, p):
    return BGC_GRAPH(ms.Tensor(x), ms.Tensor(drawn), ms.Tensor(np.float32(p))).asnumpy()


# ── An independent warp: pad, insert zeros, filter, look up, filter, drop, each by SciPy


def warped(images, inverse):
    """(k, h, w) float64, all by the same ``inverse`` (3, 3)."""
    h, w = images.shape[1:]
    margin = 5 * max(h, w)
    wide = np.pad(images, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    doubled = np.zeros((len(images), 2 * wide.shape[1], 2 * wide.shape[2]))
    doubled[:, ::2, ::2] = wide
    for axis in (1, 2):  # a convolution whose result at 0 has the taps -5 to 6
        doubled = ndimage.convolve1d(doubled, 2 * SYM6, axis, mode="constant", origin=-1)
    # The original measures positions from the middle of the doubled image, and half a pixel aside.
    ys, xs = (np.arange(2 * side + 12) - (2 * side + 11) / 2 for side in (h, w))
    grid = np.stack([*np.meshgrid(xs, ys), np.ones((len(ys), len(xs)))])
    here = (grid[:2] + 0.5) / 2
    there = np.einsum("ij,jyx->iyx", inverse, np.stack([*here, grid[2]]))[:2] * 2 - 0.5
    middle = (np.array(doubled.shape[:0:-1]) - 1) / 2
    at = (there + middle[:, None, None])[::-1]
    found = np.stack([ndimage.map_coordinates(each, at, order=1, mode="constant") for each in doubled])
    for axis in (1, 2):
        found = ndimage.correlate1d(found, SYM6, axis, mode="constant")
    # The correlation is centred on tap 6, and the original begins with the first tap at pixel 1.
    return found[:, 7:-5:2, 7:-5:2]


@cache
def linear_map(row):
    """What the geometry of ``row`` does to h·w pixels, as a matrix."""
    h, w = SIZE
    inverses = matrices(row)[0]
    happening = range(GEOMETRY) if row == N - 1 else [row] if row < GEOMETRY else []
    if not happening:
        return np.eye(h * w)
    inverse = np.eye(3)
    for i in happening:
        inverse = inverse @ inverses[i]
    return warped(np.eye(h * w).reshape(-1, h, w), inverse).reshape(h * w, -1).T


def recoloured(x, row):
    """Colours (3, …) as the colour transforms of ``row`` change them, by what each of them is."""
    brightness, contrast, flip, hue, saturation = matrices(row)[1]
    last = row == N - 1
    if last or row == TRANSFORMS - 1:
        x = x + brightness[0, 3]
    if last or row == TRANSFORMS - 2:
        x = x * contrast[0, 0]
    if (last or row == TRANSFORMS - 3) and flip[0, 1]:
        x = x - 2 * x.mean(0)
    if last or row == TRANSFORMS - 4:
        turn = Rotation.from_matrix(hue[:3, :3]).as_rotvec()
        x = jnp.einsum("ij,j...->i...", Rotation.from_rotvec(GREY * (turn @ GREY)).as_matrix(), x)
    if last or row == TRANSFORMS - 5:
        grey = x.mean(0)
        x = grey + (x - grey) * (saturation[0, 0] - saturation[0, 1])
    return x


def reference(params, x):
    """All rows of ``one_at_a_time`` in jax.numpy."""
    _, c, h, w = x.shape
    rows = []
    for row in range(N):
        moved = (x[row].reshape(c, -1) @ linear_map(row).T).reshape(c, h, w)
        rows.append(jnp.concatenate([recoloured(moved[:3], row), moved[3:]]))
    return jnp.stack(rows)


def test_each_transform_and_all_together_are_exact_to_second_order():
    """On images with alpha, which moves and keeps its colour."""
    assert_exact_to_second_order(Fixed(BGC(), one_at_a_time(), P), reference, normal(N, 4, *SIZE))


def test_grey_images_get_the_mean_of_what_three_equal_colours_get():
    x = normal(N, 1, *SIZE)
    expected = reference(None, np.repeat(x, 3, 1).astype(np.float64)).mean(1, keepdims=True)
    assert_close(applied(x, one_at_a_time(), P), expected, 1e-5)


@pytest.mark.parametrize("channels", [1, 4])
def test_nothing_changes_a_bit_where_nothing_happens(channels):
    x = normal(N, channels, *SIZE)
    drawn = BGC().draw(rng(5), N, SIZE)
    np.testing.assert_array_equal(applied(x, drawn, 0.0), x)
    assert (applied(x, drawn, 1.0) != x).any((1, 2, 3)).all()


def test_the_filter_is_an_orthonormal_wavelet_with_six_vanishing_moments():
    taps = SYM6 * math.sqrt(2)
    products = [taps[: 12 - 2 * i] @ taps[2 * i :] for i in range(6)]
    np.testing.assert_allclose(products, [1, 0, 0, 0, 0, 0], atol=1e-10)
    alternating = taps * (-1.0) ** np.arange(12)
    for power in range(6):
        assert abs(alternating @ (np.arange(12.0) / 12) ** power) < 1e-8


# ── What is drawn


def test_geometry_has_the_published_distributions():
    flip, quarter, pixels, scale, before, anisotropy, after, fraction = geometry(rng(1), 20000, Size(64, 32)).swapaxes(
        0, 1
    )
    eye = np.eye(3)
    assert set(flip[:, 0, 0]) == {-1, 1} and abs(flip[:, 0, 0].mean()) < 0.03
    assert np.bincount(np.rint(np.degrees(angle(quarter)) / 90).astype(int) % 4, minlength=4).min() > 4800
    np.testing.assert_allclose(np.degrees(angle(quarter)) % 90 % 89.9999, 0, atol=1e-3)
    assert set(pixels[:, 0, 2]) == set(range(-4, 5)) and set(pixels[:, 1, 2]) == set(range(-8, 9))
    zoom = np.log2(scale[:, 0, 0])
    assert (scale[:, 0, 0] == scale[:, 1, 1]).all() and abs(zoom.std() - 0.2) < 0.005 and abs(zoom.mean()) < 0.005
    stretch = np.log2(anisotropy[:, 0, 0])
    np.testing.assert_allclose(anisotropy[:, 0, 0] * anisotropy[:, 1, 1], 1)
    assert abs(stretch.std() - 0.2) < 0.005
    for turn in (before, after):
        assert np.abs(np.histogram(angle(turn), 8, (-math.pi, math.pi))[0] - 2500).max() < 200
    np.testing.assert_allclose(fraction[:, :2, 2].std(0) / [32, 64], 0.125, rtol=0.03)
    for linear in (flip, quarter, scale, before, anisotropy, after):
        np.testing.assert_array_equal(linear[:, :2, 2], 0)
    for move in (pixels, fraction):
        np.testing.assert_array_equal(move[:, :2, :2], np.broadcast_to(eye[:2, :2], (20000, 2, 2)))


def angle(turns):
    squares = turns[:, :2, :2] @ turns[:, :2, :2].swapaxes(1, 2)
    np.testing.assert_allclose(squares, np.broadcast_to(np.eye(2), squares.shape), atol=1e-12)
    return np.arctan2(turns[:, 1, 0], turns[:, 0, 0])


def test_colours_have_the_published_distributions():
    saturation, hue, flip, contrast, brightness = colours(rng(1), 20000).swapaxes(0, 1)
    assert abs(brightness[:, 0, 3].std() - 0.2) < 0.005
    assert abs(np.log2(contrast[:, 0, 0]).std() - 0.5) < 0.01
    assert abs((flip[:, 0, 1] != 0).mean() - 0.5) < 0.02
    turns = Rotation.from_matrix(hue[:, :3, :3]).as_rotvec() @ GREY
    assert np.abs(np.histogram(turns, 8, (-math.pi, math.pi))[0] - 2500).max() < 200
    np.testing.assert_allclose(hue[:, :3, :3] @ GREY, np.broadcast_to(GREY, (20000, 3)), atol=1e-12)
    assert abs(np.log2(saturation[:, 0, 0] - saturation[:, 0, 1]).std() - 1) < 0.02


def test_one_of_the_two_rotations_happens_with_p():
    drawn = np.zeros((20000, TRANSFORMS + 9 * GEOMETRY + 16 * COLOURS), np.float32)
    drawn[:, :TRANSFORMS] = rng(7).random((20000, TRANSFORMS))
    turn = np.eye(3)[[1, 0, 2]]
    inverses = np.broadcast_to(np.eye(3), (20000, GEOMETRY, 3, 3)).copy()
    inverses[:, [4, 6]] = turn * [[-1], [1], [1]]
    drawn[:, TRANSFORMS : TRANSFORMS + 9 * GEOMETRY] = inverses.reshape(20000, -1)
    _, product, _, _ = Settings(BGC())(ms.Tensor(drawn), ms.Tensor(np.float32(0.6)))
    turned = (product.asnumpy()[:, :2, :2] != np.eye(2)).any((1, 2))
    assert abs(turned.mean() - 0.6) < 0.02


class Settings(nn.Cell):
    def __init__(self, pipeline):
        super().__init__()
        self.pipeline = pipeline

    @ms.jit
    def construct(self, drawn, p):
        return self.pipeline.settings(drawn, p)


# ── How p moves


def test_p_follows_the_mean_sign_of_the_last_batches_and_never_falls_below_0():
    """Three batches to a move of 0.25: up, down, down to the floor, and up from there."""
    cell = Adaptive(initial=0.2, target=0.6, every=3, step=0.25)
    signs = [1, 1, 0.5, 0.5, 0.6, 0.6, -1, -1, -1, -1, 1, 1, 0.9, 0.8, 0.9]
    moved, value, p = Moved(cell), cell.state.value.value(), []
    for sign in signs:
        value = moved(value, ms.Tensor(np.float32([sign] * 3)))
        p.append(float(value.asnumpy()[0]))
    np.testing.assert_allclose(p, [0.2, 0.2, 0.45, 0.45, 0.45, 0.2, 0.2, 0.2, 0, 0, 0, 0, 0, 0, 0.25], atol=1e-6)


class Moved(nn.Cell):
    def __init__(self, cell):
        super().__init__()
        self.move = cell.state.move

    @ms.jit
    def construct(self, value, mean):
        return self.move(value, mean)


# ── DiffAugment


DRAWN = DiffAugment().draw(rng(2), 12, SIZE)


def diffaugmented(params, x, drawn=DRAWN):
    """What DiffAugment makes of images of 6x8 with what it has ``drawn``, in jax.numpy."""
    made = []
    for image, row in zip(x, drawn.astype(np.float64), strict=True):
        image = image + row[0]
        grey = image.mean(0, keepdims=True)
        image = grey + (image - grey) * row[1]
        image = image.mean() + (image - image.mean()) * row[2]
        (down, right), (top, left) = row[3:5].astype(int), row[5:].astype(int)
        wide = jnp.pad(image, ((0, 0), (9, 9), (9, 9)))
        image = wide[:, 9 - down : 15 - down, 9 - right : 17 - right]
        keep = np.ones((6, 8))
        keep[max(top, 0) : max(top + 3, 0), max(left, 0) : max(left + 4, 0)] = 0
        made.append(image * keep)
    return jnp.stack(made)


def test_diffaugment_is_exact_to_second_order():
    assert_exact_to_second_order(Fixed(DiffAugment(), DRAWN), diffaugmented, normal(12, 3, *SIZE))


def test_diffaugment_draws_what_its_authors_draw():
    brightness, saturation, contrast, down, right, top, left = DiffAugment().draw(rng(1), 5000, Size(32, 24)).T
    for drawn, low, high in ((brightness, -0.5, 0.5), (saturation, 0, 2), (contrast, 0.5, 1.5)):
        assert low <= drawn.min() < low + 0.01 and high - 0.01 < drawn.max() <= high
    assert set(down) == set(range(-4, 5)) and set(right) == set(range(-3, 4))
    assert set(top) == set(range(-8, 25)) and set(left) == set(range(-6, 19))  # where half a side begins: centred on
    # any pixel, or for halves of even length on the border after the last


@pytest.mark.parametrize("policy, own", [("color", slice(0, 3)), ("translation", slice(3, 5)), ("cutout", slice(5, 7))])
def test_a_policy_does_only_what_it_names(policy, own):
    x, drawn = normal(12, 3, *SIZE), DRAWN.copy()
    made = Applied(DiffAugment((policy,)))(ms.Tensor(x), ms.Tensor(drawn), ms.Tensor(np.float32(0))).asnumpy()
    only = np.tile(np.float32([0, 1, 1, 0, 0, 99, 99]), (12, 1))
    only[:, own] = drawn[:, own]
    assert_close(made, diffaugmented(None, x.astype(np.float64), only), 1e-5)
