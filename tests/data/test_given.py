"""What a user has in memory as a source: arrays and objects; what is wrong with them is said at once, or by index."""

import numpy as np
import pytest

from ganfleet.data import Loader, as_source, open_source
from ganfleet.errors import ConfigError, DataError
from ganfleet.size import Size
from ganfleet.testing import FakeImages

PIXELS = np.random.Generator(np.random.Philox(3)).integers(0, 256, (12, 3, 8, 8), dtype=np.uint8)
LABELS = np.arange(12) % 5


class Listed:
    """The least that can be a source."""

    def __init__(self, samples):
        self.samples, self.read = samples, []

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        self.read.append(index)
        return self.samples[index]


class Uncountable(Listed):
    def __init__(self):
        super().__init__([])

    def __len__(self):
        return -1


class Vanishing(Listed):
    def __init__(self):
        super().__init__(list(PIXELS))

    def at(self, resolution):
        return None


def listed(pixels=PIXELS, labels=LABELS):
    return [{"image": image, "label": int(label)} for image, label in zip(pixels, labels, strict=True)]


@pytest.mark.parametrize(
    "given",
    [PIXELS, {"image": PIXELS}, Listed(list(PIXELS)), Listed([{"image": image} for image in PIXELS])],
    ids=["array", "dict", "images", "dicts"],
)
def test_images_are_given_back_as_they_are(given):
    source = as_source(given, 8)
    assert (len(source), source.channels, source.classes, source.names, source.resolution) == (12, 3, 0, ("image",), 8)
    assert all((source[i]["image"] == PIXELS[i]).all() and set(source[i]) == {"image"} for i in range(12))


def test_images_that_are_not_square_are_taken_and_reduced():
    wide = np.random.Generator(np.random.Philox(4)).integers(0, 256, (12, 1, 8, 12), dtype=np.uint8)
    source = as_source(wide, Size(8, 12))
    assert (source[3]["image"] == wide[3]).all()
    halved = wide[3].reshape(1, 4, 2, 6, 2).astype(float).mean(axis=(2, 4))
    assert np.abs(source.at(Size(4, 6))[3]["image"] - halved).max() <= 0.5
    assert as_source(FakeImages(), Size(8, 12))[0]["image"].shape == (1, 8, 12)
    for wrong, told in ((Size(12, 8), "needs images of 12x8 pixels"), (8, "needs images of 8x8 pixels")):
        with pytest.raises(ConfigError, match=told):
            as_source(wide, wrong)
    with pytest.raises(ConfigError, match="move the last axis to the front"):
        as_source(wide.transpose(0, 2, 3, 1), Size(8, 12))


@pytest.mark.parametrize("given", [{"image": PIXELS, "label": LABELS}, Listed(listed())], ids=["dict", "object"])
def test_labels_say_how_many_classes_there_are(given):
    source = as_source(given, 8)
    assert source.classes == 5 and source.names == ("image",)
    assert [int(source[i]["label"]) for i in range(12)] == LABELS.tolist()
    assert source[0]["label"].dtype == np.int32 and source[0]["label"].shape == ()


def test_an_object_that_knows_its_classes_is_not_read_through():
    given = Listed(listed())
    given.classes = 7
    assert as_source(given, 8).classes == 7
    assert set(given.read) == {0}


def test_what_turns_into_an_array_counts_as_one():
    class Foreign:  # a tensor of another library
        def __array__(self, dtype=None, copy=None):
            return PIXELS[0]

    assert (as_source(Listed([{"image": Foreign()}]), 8)[0]["image"] == PIXELS[0]).all()


@pytest.mark.parametrize("classes, expected", [(7, 7), (["cat", "dog", "owl", "fox", "cow"], 5), (None, 5)])
def test_an_object_may_say_its_classes_by_number_or_by_name(classes, expected):
    given = Listed(listed())
    given.classes = classes
    assert as_source(given, 8).classes == expected


@pytest.mark.parametrize("classes", [-1, "10", 2.5, True])
def test_classes_that_are_no_number_are_refused(classes):
    given = Listed(listed())
    given.classes = classes
    with pytest.raises(ConfigError, match="has classes = "):
        as_source(given, 8)


def test_floats_reach_training_as_they_are_and_bytes_scaled_to_them():
    floats = PIXELS / 127.5 - 1
    batches = []
    for given in (floats, PIXELS):
        with Loader(as_source(given, 8), batch_size=4, lanes=2, owned=[0, 1], seed=1) as loader:
            batches.append(np.stack([lane["image"] for lane in loader.next().lanes]))
    assert batches[0].dtype == np.float32
    np.testing.assert_allclose(batches[0], batches[1], atol=1e-6)


def test_lower_resolutions_are_means_over_blocks():
    means = PIXELS.astype(float).reshape(12, 3, 4, 2, 4, 2).mean(axis=(3, 5))
    assert np.abs(as_source(PIXELS, 8).at(4)[5]["image"] - means[5]).max() <= 0.5
    halved = as_source(PIXELS / 255.0, 8).at(4)[5]["image"]
    assert halved.dtype == np.float32
    np.testing.assert_allclose(halved, means[5] / 255, rtol=1e-6)


def test_what_is_no_image_is_passed_on():
    points = np.linspace(-9, 9, 24).reshape(12, 2)
    source = as_source({"image": PIXELS, "caption": points}, 8)
    assert source.names == ("image", "caption")
    assert source[3]["caption"].dtype == np.float32
    np.testing.assert_allclose(source.at(4)[3]["caption"], points[3], rtol=1e-6)
    assert as_source({"x": points}, 8).channels == 1


def test_a_source_stays_itself_and_is_reduced_where_it_is_larger():
    embedded = open_source(resolution=32)
    assert as_source(embedded, 32) is embedded
    assert as_source(embedded, 8)[0]["image"].shape == (1, 8, 8)


def test_an_object_with_a_resolution_of_its_own_is_asked_for_it():
    source = as_source(FakeImages(channels=3, classes=4), 16)
    assert (source.channels, source.classes, source[1]["image"].shape) == (3, 4, (3, 16, 16))
    assert source.at(4)[1]["image"].shape == (3, 4, 4)


@pytest.mark.parametrize(
    "given, message",
    [
        (3, "is of type int: give a Source, numpy arrays, or an object with __len__ and __getitem__"),
        (np.zeros((0, 1, 8, 8), np.uint8), "is empty"),
        (Listed([]), "is empty"),
        ({}, "give numpy arrays by name"),
        ({"image": PIXELS, "label": 3}, "has no array label"),
        ({"image": PIXELS, "label": LABELS[1:]}, r"different numbers of rows: \{'image': 12, 'label': 11\}"),
        (np.zeros((4, 1, 16, 16), np.uint8), r"is \(1, 16, 16\), and strategy\.resolution 8 needs images of 8x8"),
        (np.zeros((4, 1, 8, 9), np.uint8), r"is \(1, 8, 9\), and strategy\.resolution 8"),
        (np.zeros((4, 8, 8, 3), np.uint8), r"images are \(channels, height, width\), so move the last axis"),
        (np.zeros((4, 8, 8), np.uint8), r"give it an axis for its channels, \(1, 8, 8\)"),
        (
            {"image_a": PIXELS, "image_b": PIXELS[:, :1]},
            r"different numbers of channels: \{'image_a': 3, 'image_b': 1\}",
        ),
        (
            np.zeros((4, 2, 8, 8), np.uint8),
            r"'image' of the source given has 2 channels: give 1 \(grey\), 3 \(RGB",
        ),
        (Uncountable(), r"has no len\(\): ValueError"),
        (Vanishing(), r"what at\(8\) of the source given returned is of type NoneType"),
        ("photos", "is of type str"),
    ],
)
def test_what_cannot_be_a_source_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        as_source(given, 8)


@pytest.mark.parametrize(
    "first, message",
    [
        ({"image": PIXELS[0].astype(float)}, r"'image' is float32 from 1 to 252: give uint8, or floats in \[-1, 1\]"),
        ({"image": PIXELS[0].astype(int)}, "'image' is int64 from"),
        ({"image": np.full((3, 8, 8), np.nan)}, "'image' is float32 from nan"),
        ({"image": PIXELS[0], "label": "1"}, "is a dict of 'image': ndarray, 'label': str: give an array, or a dict"),
        ({"image": PIXELS[0], "label": np.array([1])}, r"its label is array\(\[1\].*must be one integer from 0"),
        ({"image": PIXELS[0], "label": np.int64(-1)}, "must be one integer from 0"),
        ({"image": PIXELS[0], "label": np.float32(1)}, "must be one integer from 0"),
        ({"image": PIXELS[0], "label": np.int64(2**32)}, "must be one integer from 0"),
        ({"image": PIXELS[0].astype(str)}, "'image' is of type <U3: give numbers"),
        ((PIXELS[0], 1), "is of type tuple: give an array, or a dict of arrays"),
    ],
)
def test_a_first_sample_that_training_cannot_use_is_refused_at_once(first, message):
    with pytest.raises(DataError, match=f"sample 0 of the source given.*{message}"):
        as_source(Listed([first, *listed()]), 8)


def test_later_samples_that_are_unlike_the_first_are_named_and_replaced():
    samples = listed()
    samples[3] = {"image": PIXELS[3][:, :4], "label": np.int64(0)}
    samples[5] = {"image": PIXELS[5] / 255, "label": np.int64(0)}
    samples[7] = {"image": PIXELS[7]}
    given = Listed(samples)
    del samples[9:]
    source = as_source(given, 8)
    for index, message in [
        (3, r"sample 3 of the source given is .*uint8\(3, 4, 8\)"),
        (5, r"sample 5 .*float32\(3, 8, 8\).* and the first one .*uint8\(3, 8, 8\)"),
        (7, "sample 7"),
        (9, "sample 9 of the source given cannot be had: IndexError"),
    ]:
        with pytest.raises(DataError, match=message):
            source[index]
    with Loader(source, batch_size=9, lanes=1, owned=[0], seed=1) as loader:
        batches = [loader.next() for _ in range(4)]
    assert {index for batch in batches for index, _ in batch.bad} == {3, 5, 7}
    seen = {image.tobytes() for batch in batches for image in np.rint((batch.lanes[0]["image"] + 1) * 127.5)}
    assert len(seen) == 6


def test_a_label_beyond_the_classes_is_named():
    given = Listed(listed())
    given.classes = 3
    with pytest.raises(DataError, match=r"sample 3 .*its label is .*3.* must be one integer from 0 below 3"):
        as_source(given, 8)[3]


def test_every_bit_of_arrays_is_in_their_digest():
    digest = as_source({"image": PIXELS, "label": LABELS}, 8).digest()
    assert digest == as_source({"image": PIXELS.copy(), "label": LABELS.copy()}, 8).digest()
    flipped = PIXELS.copy()
    flipped[-1, -1, -1, -1] ^= 1
    others = [{"image": flipped, "label": LABELS}, {"image": PIXELS, "label": LABELS[::-1]}, {"image": PIXELS}]
    assert len({digest, *(as_source(other, 8).digest() for other in others)}) == 4


def test_a_large_array_is_sampled_for_its_digest(monkeypatch):
    digest = as_source(PIXELS, 8).digest()
    monkeypatch.setattr("ganfleet.data.sources.ROWS", 4)
    assert as_source(PIXELS, 8).digest() == digest
    monkeypatch.setattr("ganfleet.data.sources.WHOLE", 100)
    sampled = as_source(PIXELS, 8).digest()
    changed = PIXELS.copy()
    changed[1] = 0  # rows 0, 3, 6 and 9 stand for all
    assert as_source(changed, 8).digest() == sampled != digest
    changed[3] = 0
    assert as_source(changed, 8).digest() != sampled
    assert as_source(PIXELS[:10], 8).digest() != sampled


def test_an_object_can_say_itself_what_its_data_are():
    given = Listed(listed())
    assert as_source(given, 8).digest() != as_source(Listed(listed()[1:]), 8).digest()
    given.digest, given.notes = lambda: "mine", lambda: ["three are missing"]
    given.prepare = given.read.extend
    source = as_source(given, 8)
    source.prepare([4])
    assert source.notes() == ["three are missing"]
    assert source.digest() == "mine" and given.read[-1] == 4
