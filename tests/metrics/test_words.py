"""R-precision: the judge knows words by the images of others alone, and by chance a caption is first in one of ten."""

import math

import numpy as np
import pytest

from ganfleet.metrics import words

COLOURS = ("red", "blue", "green", "yellow", "black", "white", "pink", "brown")
THINGS = ("car", "cat", "heart", "face", "flag", "tree", "house", "boat", "cup", "ball")
CAPTIONS = [f"A {colour} {thing}" for colour in COLOURS for thing in THINGS] * 5


def shown(captions, noise, seed=0):
    """Features that are sums of directions of the words, and of ``noise``."""
    draw = np.random.default_rng(7)
    directions = {word: draw.standard_normal(64) for word in ("a", *COLOURS, *THINGS)}
    rows = np.stack([sum(directions[word] for word in caption.lower().split()) for caption in captions])
    return rows + noise * np.random.default_rng(seed).standard_normal(rows.shape)


def test_rare_words_of_a_caption_count_more():
    rows = words.vectors(["a cat", "A dog!", "a cat, a cat", "a red dog"]).toarray()
    np.testing.assert_allclose((rows**2).sum(1), 1)
    a, cat, dog, red = (math.log(4 / count) + 1 for count in (4, 2, 2, 1))
    np.testing.assert_allclose(rows[0], np.array([a, cat, 0, 0]) / math.hypot(a, cat))
    np.testing.assert_allclose(rows[2], rows[0])
    np.testing.assert_allclose(rows[3], np.array([a, 0, dog, red]) / math.hypot(a, dog, red))


def test_what_shows_its_caption_ranks_first_and_what_shows_another_by_chance():
    judge = words.Judge(shown(CAPTIONS, 0.5), CAPTIONS, seed=3)
    drawn = shown(CAPTIONS, 0.5, seed=1)
    assert judge.first(drawn).mean() > 0.97
    assert 0.2 < judge.first(shown(CAPTIONS, 8.0, seed=1)).mean() < 0.6
    assert judge.first(np.roll(drawn, 137, 0)).mean() < 0.1
    assert judge.first(drawn, wrong=True).mean() == pytest.approx(0.1, abs=0.05)


def test_no_image_is_judged_by_a_map_that_has_seen_it():
    """Each image has a feature of its own, by which it could be told were it known."""
    captions = CAPTIONS[:80]
    assert words.Judge(np.eye(80), captions, seed=3).first(np.eye(80)).mean() < 0.5
