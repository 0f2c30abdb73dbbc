"""Images too large for a network at once: tiles cover all of them, and are blended where they overlap."""

import numpy as np
import pytest

from ganfleet.engine.tiles import Tiles
from ganfleet.engine.translate import Translator
from ganfleet.strategies.translation import Translation

SMALL = Tiles(pixels=40 * 40, side=32, overlap=8)


def noise(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("size", [(40, 40), (41, 40), (16, 128), (100, 76), (33, 200), (65, 65)])
def test_what_works_pixel_by_pixel_gives_the_same_in_tiles(size):
    image, seen = noise(3, *size), []

    def function(tile):
        seen.append(tile.shape)
        return 2 * tile - 1

    np.testing.assert_allclose(SMALL.apply(function, image, multiple=1), 2 * image - 1, atol=2e-6)
    assert len(set(seen)) == 1, "one size, so that one graph is enough"
    assert (len(seen) == 1) == (size == (40, 40))
    assert max(seen[0][1:]) <= (32 if len(seen) > 1 else 40)


def test_tiles_overlap_and_a_seam_between_two_fades():
    """Tile n gives n everywhere: along a row, a step is never larger than a part of the overlap."""
    counted = iter(range(100))
    made = SMALL.apply(lambda tile: np.full_like(tile, next(counted)), noise(1, 32, 104), multiple=4)
    row = made[0, 16]
    assert row[0] == 0 and row[-1] == 3 and (np.diff(row) > -1e-6).all()
    assert np.diff(row).max() <= 1 / 6
    assert (made == row).all()


def test_tiles_begin_at_multiples_of_what_a_network_halves_by():
    place = np.arange(96, dtype=np.float32).reshape(1, 1, 96) * np.ones((1, 96, 1), np.float32)
    begins = []

    def function(tile):
        begins.append(int(tile[0, 0, 0]))
        return tile

    np.testing.assert_allclose(SMALL.apply(function, place, multiple=8), place, atol=1e-4)
    assert {begin % 8 for begin in begins} == {0} and max(begins) == 96 - 32


def test_a_translator_cuts_what_is_too_large_and_mirrors_what_does_not_fit():
    shapes = []

    def graph(function):
        return lambda inputs: function(None, inputs)

    def negative(nets, inputs):
        shapes.append(inputs["image_a"].shape)
        return -inputs["image_a"]

    offered = {"A2B": Translation(negative, multiple=8, smallest=16, reads="image_a")}
    translator = Translator(offered, "A2B", 3, graph, SMALL)
    for size in ((13, 9), (37, 30), (61, 99)):
        image = noise(3, *size)
        np.testing.assert_allclose(translator(image), -image, atol=2e-6)
    assert shapes[:2] == [(1, 3, 16, 16), (1, 3, 40, 32)] and set(shapes[2:]) == {(1, 3, 32, 32)}
