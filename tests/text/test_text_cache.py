"""Features of captions are computed once, by all processes together; what is damaged is computed again."""

import fcntl
import threading

import numpy as np
import pytest

from ganfleet.errors import ConfigError, StorageError
from ganfleet.text import cache


class Letters:
    """An encoder whose tokens are letters, and which counts what it is asked for."""

    sha256 = "0" * 64

    def __init__(self):
        self.asked = []

    def encode(self, captions, tokens):
        self.asked += captions
        features, mask = np.zeros((len(captions), tokens, 2), np.float32), np.zeros((len(captions), tokens), np.float32)
        for i, caption in enumerate(captions):
            for j, letter in enumerate(caption[:tokens]):
                features[i, j], mask[i, j] = (ord(letter), 1 / 3), 1
        return features, mask


CAPTIONS = ["cat", "a", "red car", "dog"]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(cache, "PART", 2)


def test_a_caption_gets_its_features_back_to_float16_and_zeros_behind_them(tmp_path):
    found = cache.Embeddings(Letters(), CAPTIONS, 5, tmp_path)
    features, mask = found[0]
    assert features.dtype == mask.dtype == np.float32 and features.shape == (5, 2)
    assert features[:, 0].tolist() == [99, 97, 116, 0, 0] and mask.tolist() == [1, 1, 1, 0, 0]
    assert features[0, 1] == np.float16(1 / 3) == cache.rounded(np.float32([1 / 3]))[0]
    assert found[2][1].sum() == 5  # cut
    assert found[3][0][0, 0] == ord("d")


def test_captions_are_encoded_once_whoever_asks(tmp_path):
    first, second = Letters(), Letters()
    cache.Embeddings(first, CAPTIONS, 5, tmp_path)
    again = cache.Embeddings(second, CAPTIONS, 5, tmp_path)
    assert first.asked == CAPTIONS and second.asked == []
    assert again[3][0][0, 0] == ord("d")
    for changed in ({"tokens": 4}, {"captions": CAPTIONS[::-1]}):
        other = Letters()
        cache.Embeddings(other, **({"captions": CAPTIONS, "tokens": 5, "root": tmp_path} | changed))
        assert len(other.asked) == 4


def test_a_damaged_part_is_encoded_again_and_no_other(tmp_path):
    cache.Embeddings(Letters(), CAPTIONS, 5, tmp_path)
    [values] = tmp_path.glob("text-*/1/values.npy")
    values.write_bytes(values.read_bytes()[:-2] + b"\x01\x02")
    again = Letters()
    assert cache.Embeddings(again, CAPTIONS, 5, tmp_path)[3][0][2, 0] == ord("g")
    assert again.asked == CAPTIONS[2:]


def test_a_process_makes_the_parts_that_no_other_one_is_at_and_waits_for_those(tmp_path):
    cache.Embeddings(Letters(), CAPTIONS, 5, tmp_path)
    [folder] = tmp_path.glob("text-*")
    for part in (0, 1):
        (folder / str(part)).rename(tmp_path / f"kept{part}")
    here, done = Letters(), threading.Event()

    def ask():
        cache.Embeddings(here, CAPTIONS, 5, tmp_path)
        done.set()

    with (folder / "0.lock").open("w") as lock:  # another process is at part 0
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=ask)
        waiting.start()
        while not (folder / "1" / "sha256").exists():
            assert waiting.is_alive()
        assert not done.wait(0.1)
        (tmp_path / "kept0").rename(folder / "0")  # which it now has made
    waiting.join()
    assert done.is_set() and here.asked == CAPTIONS[2:]


def test_a_place_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot store features of captions in .*data\.cache"):
        cache.Embeddings(Letters(), CAPTIONS, 5, tmp_path / "file")
    with pytest.raises(ConfigError, match="this user has no home"):
        cache.Embeddings(Letters(), CAPTIONS, 5, cache.Path("~/nowhere"))
