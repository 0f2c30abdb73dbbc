"""The cache of reduced images: the bits of decoding in full, made once, never trusted when damaged."""

import os
import shutil
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganfleet.data import cache, open_source
from ganfleet.errors import ConfigError, DataError, StorageError
from ganfleet.size import Size
from ganfleet.store import publish

FULL, COUNT = 32, cache.CHUNK + 6  # images for two threads


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Noise of many sizes, one image with transparency, and one damaged, as PNG and JPEG."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.Generator(np.random.Philox(1))
    for i in range(COUNT):
        height, width = rng.integers(FULL, 50, 2)
        pixels = rng.integers(0, 256, (height, width, 3 + (i == 7)), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / (f"{i:03d}.png" if i % 2 else f"{i:03d}.jpg"))
    (folder / "003.png").write_bytes(b"damaged")
    return folder


def opened(noise, kept, **options):
    return open_source(**{"source": "folder", "path": noise, "resolution": FULL, "cache": str(kept), **options})


def images(source):
    """Every image that can be read, by index."""
    found = {}
    for i in range(len(source)):
        try:
            found[i] = source[i]["image"]
        except DataError:
            continue
    return found


def equal(a, b):
    return a.keys() == b.keys() and all((a[i] == b[i]).all() for i in a)


def folder_of(kept: Path) -> Path:
    [folder] = [path for path in kept.iterdir() if path.is_dir()]
    return folder


def refuse_to_read(*_):
    raise AssertionError("an image file was read")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", ["crop", "fit", "stretch"])
def test_every_lower_resolution_has_the_bits_of_decoding_in_full(noise, tmp_path, resize, channels):
    plain = open_source("folder", path=noise, resolution=FULL, resize=resize, channels=channels, cache="none")
    kept = opened(noise, tmp_path, resize=resize, channels=channels)
    for resolution in (4, 8, 16, 32):
        assert equal(images(kept.at(resolution)), images(plain.at(resolution)))
    assert len(images(kept.at(4))) == COUNT - 1


def test_images_that_are_not_square_are_cached_too(noise, tmp_path):
    sizes = {"resolution": Size(24, 32), "channels": 1}
    kept, plain = opened(noise, tmp_path, **sizes), opened(noise, "none", **sizes)
    for size in (Size(12, 16), Size(6, 8)):
        assert equal(images(kept.at(size)), images(plain.at(size)))
        assert kept.at(size)[0]["image"].shape == (1, *size)
    assert {path.name for path in folder_of(tmp_path).iterdir()} == {"checksums.npy", "12x16.u8", "6x8.u8"}


def test_files_are_read_once_for_all_resolutions(noise, tmp_path, monkeypatch):
    opened(noise, tmp_path).at(8)
    source = opened(noise, tmp_path)
    monkeypatch.setattr(Path, "read_bytes", refuse_to_read)
    for resolution in (4, 8, 16):
        assert source.at(resolution)[0]["image"].shape == (3, resolution, resolution)


def test_full_resolution_needs_no_cache(noise, tmp_path):
    opened(noise, tmp_path / "kept").at(FULL)[0]
    assert not (tmp_path / "kept").exists()


def test_a_bad_image_gives_the_same_error_as_without(noise, tmp_path):
    kept, plain = opened(noise, tmp_path).at(8), open_source("folder", path=noise, resolution=FULL, cache="none").at(8)
    with pytest.raises(DataError) as with_cache:
        kept[3]
    with pytest.raises(DataError) as without:
        plain[3]
    assert str(with_cache.value) == str(without.value) and "003.png cannot be decoded" in str(without.value)


def test_labels_stay_with_their_images(photos, tmp_path):
    source = open_source("folder", path=photos, resolution=8, classes="subfolder", cache=str(tmp_path / "kept")).at(4)
    assert [(int(source[i]["image"][0, 0, 0]), int(source[i]["label"])) for i in (0, 5)] == [(10, 0), (0, 1)]


def test_a_zip_is_cached_too(photos, tmp_path, monkeypatch):
    archive = shutil.make_archive(photos, "zip", photos)
    open_source("zip", path=archive, resolution=8, cache=str(tmp_path / "kept")).at(4)
    source = open_source("zip", path=archive, resolution=8, cache=str(tmp_path / "kept"))
    monkeypatch.setattr("ganfleet.data.files.decode", refuse_to_read)
    with pytest.raises(DataError, match="an image file was read"):
        source[0]
    assert source.at(4)[0]["image"][:, 0, 0].tolist() == [10, 100, 200]


def test_changed_files_or_options_make_another_cache(photos, tmp_path):
    def red(**options):
        options = {"resolution": 8, "cache": str(tmp_path / "kept")} | options
        return int(open_source("folder", path=photos, **options).at(4)[0]["image"][0, 0, 0])

    assert red() == 10
    assert red(resize="stretch") == 10
    status = (photos / "cats" / "1.png").stat()
    Image.new("RGB", (8, 8), (77, 100, 200)).save(photos / "cats" / "1.png")
    os.utime(photos / "cats" / "1.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert red() == 77
    Image.new("RGB", (8, 8), (66, 0, 0)).save(photos / "cats" / "0.png")
    assert red() == 66
    assert sum(path.is_dir() for path in (tmp_path / "kept").iterdir()) == 4


def test_a_flipped_bit_is_noticed_and_the_file_decoded(noise, tmp_path):
    expected = images(open_source("folder", path=noise, resolution=FULL, cache="none").at(8))
    opened(noise, tmp_path).at(8)
    for name in ("8.u8", "checksums.npy"):
        file = folder_of(tmp_path) / name
        data = bytearray(file.read_bytes())
        for place in range(200, len(data), 100):
            data[place] ^= 1
        file.write_bytes(data)
        assert equal(images(opened(noise, tmp_path).at(8)), expected)


@pytest.mark.parametrize("name", ["16.u8", "checksums.npy"])
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", None], ids=["cut", "empty", "missing"])
def test_an_incomplete_cache_is_made_anew(noise, tmp_path, name, damage):
    expected = images(opened(noise, tmp_path).at(16))
    file = folder_of(tmp_path) / name
    whole = file.read_bytes()
    if damage:
        file.write_bytes(damage(whole))
    else:
        file.unlink()
    assert equal(images(opened(noise, tmp_path).at(16)), expected)
    assert file.read_bytes() == whole


def test_what_a_killed_process_left_is_not_used(noise, tmp_path):
    """Killed in its last write: all is there but the name."""
    opened(noise, tmp_path / "kept").at(8)
    folder = folder_of(tmp_path / "kept")
    (folder / "8.u8").write_bytes(bytes((folder / "8.u8").stat().st_size))
    zero = zlib.crc32(bytes(3 * 8 * 8))
    np.save(folder / "checksums.npy", np.full((3, COUNT), zero))
    unfinished = publish.temporary(tmp_path / "kept").with_name(f".tmp-{publish._host()}-{2**22 + 1}-0")
    folder.rename(unfinished)
    publish._swept.clear()  # as in a new process
    assert images(opened(noise, tmp_path / "kept").at(8))[0].any()
    assert not unfinished.exists()


STARTED_TOGETHER = """
import sys, time
from ganfleet.data import files, open_source
decode, calls = files.decode, []
files.decode = lambda *args: calls.append(1) or decode(*args)
source = open_source("folder", path=sys.argv[1], resolution=32, cache=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
calls.clear()
view = source.at(8)
total = sum(int(view[i]["image"].sum(dtype=int)) for i in range(len(view)) if i != 3)
print(len(calls), total)
"""


def test_ranks_that_start_together_make_it_once(noise, tmp_path):
    command = [sys.executable, "-c", STARTED_TOGETHER, str(noise), str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    ranks = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for rank in ranks:
        assert rank.stdout.readline() == "ready\n"
    for rank in ranks:
        rank.stdin.write("go\n")
        rank.stdin.flush()
    ended = [rank.communicate(timeout=60) for rank in ranks]
    decoded, totals = zip(*(map(int, output.split()) for output, _ in ended), strict=True)
    assert sorted(decoded) == [0, 0, 0, COUNT]
    plain = open_source("folder", path=noise, resolution=FULL, cache="none").at(8)
    assert set(totals) == {sum(int(image.sum(dtype=int)) for image in images(plain).values())}
    assert sum(f"decoding {COUNT} images once" in errors for _, errors in ended) == 1


def test_many_threads_read_it_at_once(noise, tmp_path):
    view = opened(noise, tmp_path).at(16)
    expected = images(view)
    with ThreadPoolExecutor(8) as pool:
        read = pool.map(lambda i: (i, view[i]["image"]), list(expected) * 5)
        assert all((image == expected[i]).all() for i, image in read)


def test_a_full_disk_is_noticed_before_the_work(noise, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(StorageError, match=r"0\.0 GB are free.*data\.cache"):
        opened(noise, tmp_path).at(8)


def test_a_disk_that_fills_up_is_a_clear_error_and_leaves_nothing(noise, tmp_path, monkeypatch):
    writes = []

    def write_until_full(file, data, offset):
        writes.append(offset)
        if len(writes) > 100:
            raise OSError(28, "No space left on device")
        return len(data)

    monkeypatch.setattr(os, "pwrite", write_until_full)
    with pytest.raises(StorageError, match=r"No space left on device.*none"):
        opened(noise, tmp_path).at(8)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_a_place_that_cannot_be_written_is_a_clear_error(noise, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"data\.cache"):
        opened(noise, tmp_path / "file" / "kept").at(8)


def test_auto_is_the_users_cache_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/fast")
    assert cache.place("auto") == Path("/fast/ganfleet")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache.place("auto") == Path("/home/someone/.cache/ganfleet")
    assert cache.place("none") is None
    assert cache.place("~/kept") == Path("/home/someone/kept")


def test_a_user_without_a_home_is_asked_for_a_place_only_when_one_is_needed(noise, monkeypatch):
    """As in a container that runs with a user id of its own, and no passwd entry."""

    def no_entry(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_entry)
    source = opened(noise, "auto")
    assert len(images(source)) == COUNT - 1
    with pytest.raises(ConfigError, match=r"data\.cache: .* this user has no home: set data\.cache to a folder"):
        source.at(FULL // 2)
