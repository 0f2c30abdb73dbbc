"""Pairs: both images of one are cut at one place and mirrored together, whatever the fleet; what is wrong, by name."""

import numpy as np
import pytest
from PIL import Image

from ganfleet.data import Loader, open_source
from ganfleet.errors import ConfigError
from ganfleet.size import Size

LANES, BATCH, SEED = 4, 8, 5
RAMP = (16 * np.arange(12)[:, None] + np.arange(12)).astype(np.uint8)  # 16 y + x: a cut tells where it comes from


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def pairs(tmp_path):
    """Six pairs of 12x12 pixels: in A a ramp, in B 255 less; the last in a folder below, of B as another kind."""
    for i in range(6):
        name = f"sub/{i}" if i == 5 else f"{i}"
        save(tmp_path / "trainA" / f"{name}.png", RAMP)
        save(tmp_path / "trainB" / f"{name}.{'bmp' if i == 5 else 'png'}", 255 - RAMP)
    for folder in ("testA", "testB"):
        save(tmp_path / folder / "0.png", np.full((12, 12), 100 + ord(folder[-1]), np.uint8))
    return tmp_path


@pytest.fixture
def halves(tmp_path):
    """Five images of 24x12 pixels, ramps on the left and what is left of 255 on the right, in train; one in val."""
    for i in range(5):
        save(tmp_path / "train" / f"{i}.png", np.concatenate([RAMP, 255 - RAMP], 1))
    save(tmp_path / "val" / "0.png", np.zeros((12, 24), np.uint8))
    return tmp_path


def assert_pair(sample, mirrored=None):
    """The corner of a sample of 4x4 pixels; both its images come from there."""
    a, b = (sample[name].astype(int) for name in ("image_a", "image_b"))
    assert a.shape == b.shape == (3, 4, 4)
    np.testing.assert_array_equal(b, 255 - a)
    is_mirrored = a[0, 0, 0] > a[0, 0, 3]
    cut = a[:, :, ::-1] if is_mirrored else a
    np.testing.assert_array_equal(cut - cut[0, 0, 0], np.broadcast_to(RAMP[:4, :4], (3, 4, 4)))
    return divmod(cut[0, 0, 0], 16), is_mirrored


@pytest.mark.parametrize("layout", ["folders", "side_by_side"])
def test_both_images_of_a_pair_are_cut_at_one_place_and_mirrored_together(layout, pairs, halves):
    source = open_source("paired", path=pairs, layout=layout, resolution=4, load_size=12, flip=True)
    assert len(source) == (6 if layout == "folders" else 5)
    found = [assert_pair(source.sample(i % 5, np.random.default_rng(i))) for i in range(600)]
    assert {corner for corner, _ in found} == {(y, x) for y in range(9) for x in range(9)}
    assert 240 <= sum(mirrored for _, mirrored in found) <= 360
    assert assert_pair(source[0]) == ((4, 4), False)


def test_ranks_and_resumed_runs_read_what_one_rank_reads(pairs):
    source = open_source("paired", path=pairs, resolution=4, load_size=12, flip=True)

    def read(steps, owned=range(LANES), position=0):
        with Loader(source, batch_size=BATCH, lanes=LANES, owned=owned, seed=SEED, position=position) as loader:
            return np.array([[lane["image_a"] for lane in loader.next().lanes] for _ in range(steps)])

    whole = read(6)
    assert len({image.tobytes() for image in whole.reshape(-1, 3, 4, 4)}) > 30
    for owned in (range(2), range(2, 4)):
        np.testing.assert_array_equal(read(6, owned), whole[:, list(owned)])
    np.testing.assert_array_equal(read(3, position=3 * BATCH), whole[3:])


@pytest.mark.parametrize("layout", ["folders", "side_by_side"])
def test_the_direction_exchanges_the_two_and_is_another_digest(layout, pairs, halves):
    there, back = (open_source("paired", path=pairs, layout=layout, resolution=12, direction=d) for d in ("A2B", "B2A"))
    np.testing.assert_array_equal(there[0]["image_a"], back[0]["image_b"])
    np.testing.assert_array_equal(there[0]["image_b"], back[0]["image_a"])
    assert there[0]["image_a"][0, 0, 1] == 1
    assert there.digest() != back.digest()


def test_images_are_scaled_as_pairs_and_shrink_with_the_stage(pairs):
    source = open_source("paired", path=pairs, resolution=6).at(3)
    expected = RAMP.astype(float).reshape(3, 4, 3, 4).mean((1, 3))
    assert np.abs(source[1]["image_a"][0] - expected).max() <= 1
    wide = open_source("paired", path=pairs, resolution=Size(4, 8), load_size=12)
    assert wide.sample(0, np.random.default_rng(0))["image_b"].shape == (3, 4, 8)


def test_a_split_and_two_folders_of_any_name(pairs, halves):
    assert open_source("paired", path=pairs, split="test", resolution=12)[0]["image_b"][0, 0, 0] == 100 + ord("B")
    named = open_source("paired", path=pairs / "testA", path_b=pairs / "testB", resolution=12)
    assert named[0]["image_a"][0, 0, 0] == 100 + ord("A")
    val = open_source("paired", path=halves, layout="side_by_side", split="val", resolution=12)
    plain = open_source("paired", path=halves / "val", layout="side_by_side", resolution=12)
    assert len(val) == len(plain) == 1


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({}, ["data.path: there is no partner of 3, 4 of A and no partner of new of B"]),
        (
            {"path": "trainA", "path_b": "testB"},
            ["data.path_b: there is no partner of 1, 2, 3, 4, new2 and 1 more of A"],
        ),
        ({"path": "nowhere"}, ["data.path", "nowhere has no folders trainA and trainB"]),
        ({"path": "trainA", "path_b": "gone"}, ["data.path_b: there is nothing at gone"]),
        ({"path": "void", "path_b": "trainB"}, ["data.path: there are no images"]),
        ({"path": "trainA", "path_b": "trainA"}, ["data.path and data.path_b are one folder"]),
        ({"path": "double", "path_b": "trainB"}, ["double/0.bmp and double/0.png have one name"]),
        (
            {"path": "testA", "path_b": "large"},
            ["testA/0.png has 12x12 pixels", "large/0.png 14x12", "must have one size"],
        ),
        ({"path": "odd", "layout": "side_by_side"}, ["odd/0.png is 13 pixels wide", "even width"]),
        ({"path": "halves", "layout": "side_by_side", "path_b": "testB"}, ["data.path_b", "data.layout"]),
        ({"path": "halves", "layout": "side_by_side", "split": "test"}, ["nothing at halves/test"]),
        ({"path": "testA", "path_b": "testB", "load_size": 11}, ["data.load_size is 11", "12x12"]),
        ({"path": "testA", "path_b": "testB", "split": "test"}, ["data.split"]),
        ({"path": "testA", "path_b": "testB", "load_size": 14}, ["testA/0.png", "too few for resolution 14"]),
    ],
)
def test_what_is_wrong_is_named(options, messages, pairs, monkeypatch):
    monkeypatch.chdir(pairs)
    for name in ("3.png", "4.png", "sub/5.bmp"):
        (pairs / "trainB" / name).unlink()
    (pairs / "trainA" / "sub" / "5.png").unlink()
    save(pairs / "trainB" / "new.png", RAMP)
    if "path_b" in options:
        save(pairs / "trainA" / "new2.png", RAMP)
        save(pairs / "trainA" / "new3.png", RAMP)
    (pairs / "void").mkdir()
    for name in ("0.png", "0.bmp"):
        save(pairs / "double" / name, RAMP)
    save(pairs / "large" / "0.png", np.zeros((14, 12), np.uint8))
    save(pairs / "odd" / "0.png", np.zeros((12, 13), np.uint8))
    save(pairs / "halves" / "0.png", np.zeros((12, 24), np.uint8))
    with pytest.raises(ConfigError) as error:
        open_source("paired", **{"path": "."} | options, resolution=12)
    for message in messages:
        assert message in str(error.value)


def test_names_that_differ_in_how_accents_are_composed_are_one(tmp_path):
    """Archives made on macOS have them decomposed."""
    save(tmp_path / "trainA" / "\u00e9.png", RAMP)
    save(tmp_path / "trainB" / "e\u0301.png", RAMP)
    assert len(open_source("paired", path=tmp_path, resolution=12)) == 1


def test_a_pair_that_is_damaged_or_of_two_sizes_is_replaced_and_named(pairs):
    (pairs / "trainB" / "1.png").write_bytes(b"no image")
    save(pairs / "trainB" / "2.png", np.zeros((12, 14), np.uint8))
    source = open_source("paired", path=pairs, resolution=12)
    with Loader(source, batch_size=BATCH, lanes=LANES, owned=range(LANES), seed=SEED) as loader:
        bad = dict(bad for _ in range(3) for bad in loader.next().bad)
    assert set(bad) == {1, 2}
    assert "trainB/1.png cannot be decoded" in bad[1] and "trainB/2.png 12x14: the images of a pair" in bad[2]
