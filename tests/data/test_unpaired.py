"""Two domains that are no pairs: A in order, B by chance, the same for every fleet; and what is wrong, by name."""

import numpy as np
import pytest
from PIL import Image

from ganfleet.data import Loader, open_source
from ganfleet.data.order import index_at
from ganfleet.errors import ConfigError, DataError
from ganfleet.size import Size

LANES, BATCH, SEED = 4, 8, 5


@pytest.fixture
def domains(tmp_path):
    """Seven images of A, 10 + i everywhere, and eleven of B, 100 + i; of 8x8 pixels."""
    for name, count, first in [("trainA", 7, 10), ("trainB", 11, 100), ("testA", 2, 60), ("testB", 3, 160)]:
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("RGB", (8, 8), (first + i,) * 3).save(tmp_path / name / f"{i:02}.png")
    return tmp_path


@pytest.fixture
def ramps(tmp_path):
    """One image in each domain, 12x12, whose pixel at (y, x) is 16 y + x: a cut tells where it comes from."""
    ramp = (16 * np.arange(12)[:, None] + np.arange(12)).astype(np.uint8)
    for name in ("A", "B"):
        (tmp_path / name).mkdir()
        Image.fromarray(ramp).save(tmp_path / name / "ramp.png")
    return tmp_path / "A", tmp_path / "B"


def read(source, steps, owned=range(LANES), position=0):
    """(steps, owned lanes, samples of a lane) of the grey values of A and of B, and the bad images met."""
    with Loader(source, batch_size=BATCH, lanes=LANES, owned=owned, seed=SEED, position=position) as loader:
        batches = [loader.next() for _ in range(steps)]
    values = [
        np.array([[np.rint((lane[name][:, 0, 0, 0] + 1) * 127.5) for lane in batch.lanes] for batch in batches], int)
        for name in ("image_a", "image_b")
    ]
    return *values, [bad for batch in batches for bad in batch.bad]


def test_a_comes_in_order_and_b_by_chance_over_as_many_samples_as_the_larger_has(domains):
    source = open_source("unpaired", path=domains, resolution=8)
    assert len(source) == 11
    a, b, bad = read(source, 22)  # 16 epochs
    expected = [10 + index_at(position, 11, SEED) % 7 for position in range(22 * BATCH)]
    assert a.ravel().tolist() == expected
    assert set(b.ravel()) == set(range(100, 111))
    epochs = b.ravel().reshape(16, 11)
    assert len({tuple(epoch) for epoch in epochs}) == 16
    assert any(len(set(epoch)) < 11 for epoch in epochs)
    assert not bad


def test_ranks_and_resumed_runs_read_what_one_rank_reads(ramps):
    a, b = ramps
    source = open_source("unpaired", path=a, path_b=b, resolution=4, load_size=12, flip=True)
    whole = read(source, 6)
    for owned in (range(2), range(2, 4)):
        for values, share in zip(whole[:2], read(source, 6, owned), strict=False):
            np.testing.assert_array_equal(share, values[:, list(owned)])
    for values, rest in zip(whole[:2], read(source, 3, position=3 * BATCH), strict=False):
        np.testing.assert_array_equal(rest, values[3:])


def test_samples_are_cut_anywhere_and_mirrored_half_of_the_time(ramps):
    a, b = ramps
    source = open_source("unpaired", path=a, path_b=b, resolution=4, load_size=12, flip=True)
    square = 16 * np.arange(4)[:, None] + np.arange(4)
    corners = {"image_a": [], "image_b": []}
    mirrored = 0
    for seed in range(400):
        sample = source.sample(0, np.random.default_rng(seed))
        for name, image in sample.items():
            assert image.shape == (3, 4, 4) and image.dtype == np.uint8
            cut = image[0].astype(int)
            if cut[0, 0] > cut[0, 3]:
                cut, mirrored = cut[:, ::-1], mirrored + 1
            np.testing.assert_array_equal(cut - cut[0, 0], square)
            corners[name].append(divmod(cut[0, 0], 16))
    assert 340 <= mirrored <= 460
    for found in corners.values():
        assert set(found) == {(y, x) for y in range(9) for x in range(9)}
    assert corners["image_a"] != corners["image_b"]


def test_samples_that_are_not_square_are_cut_anywhere_too(ramps):
    a, b = ramps
    source = open_source("unpaired", path=a, path_b=b, resolution=Size(4, 8), load_size=12)
    expected = 16 * np.arange(4)[:, None] + np.arange(8)
    corners = set()
    for seed in range(400):
        cut = source.sample(0, np.random.default_rng(seed))["image_a"][0].astype(int)
        np.testing.assert_array_equal(cut - cut[0, 0], expected)
        corners.add(divmod(cut[0, 0], 16))
    assert corners == {(y, x) for y in range(9) for x in range(5)}
    np.testing.assert_array_equal(source[0]["image_b"][0], 16 * 4 + 2 + expected)
    with pytest.raises(ConfigError, match=r"data\.load_size is 12, and must be 8x16 or more"):
        open_source("unpaired", path=a, path_b=b, resolution=Size(8, 16), load_size=12)


def test_square_samples_are_cut_where_older_releases_cut_them(ramps):
    a, b = ramps
    source = open_source("unpaired", path=a, path_b=b, resolution=4, load_size=12)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        sample = source.sample(0, np.random.default_rng(seed))
        rng.integers(1)  # which image of B
        corners = [tuple(rng.integers(9, size=2)) for _ in range(2)]
        assert [divmod(int(sample[name][0, 0, 0]), 16) for name in ("image_a", "image_b")] == corners


def test_without_flip_and_load_size_samples_are_the_images(ramps):
    a, b = ramps
    source = open_source("unpaired", path=a, path_b=b, resolution=12)
    for seed in range(20):
        image = source.sample(0, np.random.default_rng(seed))["image_a"]
        np.testing.assert_array_equal(image[0], 16 * np.arange(12)[:, None] + np.arange(12))


def test_figures_are_made_of_the_middle_of_both_in_order(ramps, domains):
    a, b = ramps
    middle = open_source("unpaired", path=a, path_b=b, resolution=4, load_size=12, flip=True)[0]
    assert middle["image_a"][0, 0, 0] == middle["image_b"][0, 0, 0] == 16 * 4 + 4
    source = open_source("unpaired", path=domains, resolution=8)
    assert [source[i]["image_a"][0, 0, 0] for i in (0, 6, 7)] == [10, 16, 10]
    assert [source[i]["image_b"][0, 0, 0] for i in (0, 10)] == [100, 110]


def test_a_bad_image_of_either_domain_is_named_once_and_replaced_alike(domains):
    (domains / "trainA" / "03.png").write_bytes(b"no image")
    (domains / "trainB" / "05.png").write_bytes(b"no image")
    source = open_source("unpaired", path=domains, resolution=8)
    a, b, bad = read(source, 30)
    assert 13 not in a and 105 not in b
    numbers = dict(bad)
    assert set(numbers) == {3, 7 + 5}
    assert "trainA/03.png cannot be decoded" in numbers[3] and "trainB/05.png cannot be decoded" in numbers[12]
    for owned in (range(2), range(2, 4)):
        share = read(source, 30, owned)
        np.testing.assert_array_equal(share[0], a[:, list(owned)])
        np.testing.assert_array_equal(share[1], b[:, list(owned)])


def test_the_held_out_split_is_another_pair_of_folders(domains):
    source = open_source("unpaired", path=domains, split="test", resolution=8)
    assert len(source) == 3
    assert (source[0]["image_a"][0, 0, 0], source[2]["image_b"][0, 0, 0]) == (60, 162)


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        ({"path": "nowhere"}, ["data.path", "nowhere has no folders trainA and trainB", "data.path_b"]),
        ({"path": "half"}, ["data.path", "nothing at half/trainB"]),
        ({"path": "empty"}, ["data.path", "no images", "empty/trainB"]),
        ({"path": "trainA", "path_b": "void"}, ["data.path_b", "no images", "void"]),
        ({"path": "trainA", "path_b": "gone"}, ["data.path_b", "nothing at gone"]),
        ({"path": "trainA", "path_b": "trainB", "split": "test"}, ["data.split", "data.path_b"]),
        ({"path": ".", "load_size": 7}, ["data.load_size is 7", "8x8"]),
        ({"path": ".", "load_size": 9}, ["trainA/00.png", "too few for resolution 9", "data.upscale"]),
    ],
)
def test_what_is_wrong_is_named(options, messages, domains, monkeypatch):
    monkeypatch.chdir(domains)
    for folder in ("half/trainA", "empty/trainA", "empty/trainB", "void"):
        (domains / folder).mkdir(parents=True)
    for folder in ("half", "empty"):
        Image.new("RGB", (8, 8)).save(domains / folder / "trainA" / "0.png")
    with pytest.raises(ConfigError) as error:
        open_source("unpaired", **options, resolution=8)
    for message in messages:
        assert message in str(error.value)


def test_one_other_file_in_either_domain_is_another_digest(domains):
    digests = []
    for other in (None, "trainA/00.png", "trainB/00.png"):
        if other:
            (domains / other).rename(domains / other.replace("00", "99"))
        digests.append(open_source("unpaired", path=domains, resolution=8).digest())
    assert len(set(digests)) == 3


def test_a_domain_of_pointers_alone_is_one_error_that_names_a_file(domains):
    for path in (domains / "trainA").iterdir():
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    (domains / "trainB" / "notes.txt").touch()
    source = open_source("unpaired", path=domains, resolution=8)
    assert source.notes() == [f"{domains / 'trainB'}: 1 file is no image that ganfleet reads: 1 .txt"]
    with pytest.raises(DataError, match=r"trainA/\d+\.png cannot be decoded: it is a pointer of Git LFS"):
        read(source, 1)
