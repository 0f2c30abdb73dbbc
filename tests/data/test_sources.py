"""Sources: what is in them, in which order, under which labels, and what is said of damaged ones."""

import gzip
import os
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganfleet.data import Source, SourceOptions, open_source
from ganfleet.errors import ConfigError, DataError
from ganfleet.plugins import SOURCES
from ganfleet.size import Size


def reds(source):
    """The first pixel's red of every image; the ``photos`` fixture has 10 i."""
    return [int(source[i]["image"][0, 0, 0]) for i in range(len(source))]


def labels(source):
    return [int(source[i]["label"]) for i in range(len(source))]


CATS_THEN_DOGS = [10, 30, 50, 70, 90, 0, 20, 40, 60, 80]


class TestEmbedded:
    def test_has_200_images_of_each_of_ten_classes(self):
        source = open_source("embedded", resolution=32)
        assert (len(source), source.channels, source.classes) == (2000, 1, 10)
        assert np.bincount(labels(source)).tolist() == [200] * 10

    def test_has_a_black_border_of_two_pixels_at_32(self):
        source = open_source(resolution=32)
        images = np.stack([source[i]["image"] for i in range(len(source))])
        assert images.shape == (2000, 1, 32, 32) and images.dtype == np.uint8
        inner = images[:, :, 2:30, 2:30]
        assert images.sum() == inner.sum() and inner[:, :, 0].any()

    def test_can_be_had_in_three_equal_channels(self):
        grey, rgb = open_source(resolution=32), open_source(resolution=32, channels=3)
        assert rgb.channels == 3
        assert (rgb[5]["image"] == grey[5]["image"]).all() and rgb[5]["image"].shape == (3, 32, 32)

    def test_is_not_enlarged_unless_asked(self):
        with pytest.raises(ConfigError, match="32x32 pixels, too few for resolution 64"):
            open_source(resolution=64)
        assert open_source(resolution=64, upscale=True)[0]["image"].shape == (1, 64, 64)


class TestFolder:
    def test_is_sorted_by_path_whatever_the_file_system_says(self, photos):
        source = open_source("folder", path=photos, resolution=8)
        assert reds(source) == CATS_THEN_DOGS
        assert source.describe(0) == str(photos / "cats" / "1.png")
        assert (source.classes, source.channels) == (0, 3) and set(source[0]) == {"image"}

    def test_takes_a_class_from_each_top_level_subfolder(self, photos):
        (photos / "cats" / "old").mkdir()
        shutil.move(photos / "cats" / "9.png", photos / "cats" / "old" / "9.png")
        source = open_source("folder", path=photos, resolution=8, classes="subfolder")
        assert source.classes == 2 and labels(source) == [0] * 5 + [1] * 5
        assert source[0]["label"].dtype == np.int32

    def test_leaves_out_hidden_files_and_other_kinds(self, photos):
        (photos / "cats" / "._1.png").write_bytes(b"left by another system")
        (photos / "notes.txt").write_text("cats and dogs")
        (photos / "upper.JPG").write_bytes(b"")
        assert len(open_source("folder", path=photos, resolution=8)) == 11

    def test_refuses_an_image_without_a_class(self, photos):
        shutil.copy(photos / "cats" / "1.png", photos / "loose.png")
        with pytest.raises(ConfigError, match=r"loose\.png is in no subfolder"):
            open_source("folder", path=photos, resolution=8, classes="subfolder")

    def test_names_a_truncated_file(self, photos):
        victim = photos / "cats" / "3.png"
        noise = np.random.Generator(np.random.Philox(0)).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(victim)
        victim.write_bytes(victim.read_bytes()[:5000])
        source = open_source("folder", path=photos, resolution=8)
        with pytest.raises(DataError, match=r"cats/3\.png cannot be decoded: .*truncated"):
            source[1]

    def test_names_a_file_that_went_away(self, photos):
        source = open_source("folder", path=photos, resolution=8)
        (photos / "cats" / "1.png").unlink()
        with pytest.raises(DataError, match=r"cats/1\.png"):
            source[0]

    def test_refuses_at_once_when_images_are_too_small(self, photos):
        with pytest.raises(ConfigError, match=r"cats/1\.png has 8x8 pixels, too few for resolution 16"):
            open_source("folder", path=photos, resolution=16)

    def test_counts_each_real_folder_and_file_once_however_links_run(self, photos):
        for name, target in [("a", "."), ("b", "."), ("dogs/up", ".."), ("cats/0.png", "../dogs/0.png"), ("z", "cats")]:
            (photos / name).symlink_to(target)
        source = open_source("folder", path=photos, resolution=8, classes="subfolder")
        assert reds(source) == CATS_THEN_DOGS and source.classes == 2
        assert source.notes() == [f"{photos}: left out: links to what is there under another name (5)"]

    def test_follows_links_to_what_is_elsewhere_once(self, photos, tmp_path):
        (tmp_path / "all").mkdir()
        for name, target in [("x", photos / "cats"), ("y", photos), ("one.png", photos / "dogs" / "2.png")]:
            (tmp_path / "all" / name).symlink_to(target)
        (photos / "loop").symlink_to(tmp_path / "all")
        source = open_source("folder", path=tmp_path / "all", resolution=8)
        assert sorted(reds(source)) == sorted(CATS_THEN_DOGS)
        assert [source.describe(i).split("all/")[1] for i in (0, 5)] == ["x/1.png", "y/dogs/0.png"]

    def test_a_link_into_a_hidden_store_is_an_image(self, photos, tmp_path):
        (photos / "cats").rename(photos / ".store")
        (photos / "cats").mkdir()
        for path in (photos / ".store").iterdir():
            (photos / "cats" / path.name).symlink_to(path)
        assert reds(open_source("folder", path=photos, resolution=8)) == CATS_THEN_DOGS

    def test_never_reads_a_pipe(self, photos, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        (photos / "pipe.png").symlink_to(tmp_path / "pipe")
        os.mkfifo(photos / "cats" / "pipe.png")
        source = open_source("folder", path=photos, resolution=8)
        assert len(source) == 10 and source.notes() == [f"{photos}: left out: pipes, sockets or devices (2)"]

    def test_names_a_link_that_leads_nowhere(self, photos):
        (photos / "cats" / "0.png").symlink_to("gone.png")
        (photos / "cats" / "2.png").symlink_to("2.png")
        source = open_source("folder", path=photos, resolution=8)
        assert len(source) == 12
        for index, name in ((0, "0"), (2, "2")):
            with pytest.raises(DataError, match=rf"cats/{name}\.png cannot be decoded"):
                source[index]

    def test_a_name_that_is_no_utf8_is_written_with_escapes(self, photos):
        Path(os.fsdecode(os.fsencode(photos / "cats") + b"/\xc4\xe3\n.png")).write_bytes(b"damaged")
        source = open_source("folder", path=photos, resolution=8)
        with pytest.raises(DataError, match=r"cats/\\xc4\\xe3\\n\.png cannot be decoded") as refused:
            source[5]
        str(refused.value).encode()

    def test_says_what_other_files_it_leaves_out(self, photos):
        for name in ("a.heic", "b.HEIC", "cats/c.txt", "README", ".hidden", "cats/.d/e.txt"):
            (photos / name).parent.mkdir(exist_ok=True)
            (photos / name).touch()
        source = open_source("folder", path=photos, resolution=8)
        told = "4 files are no images that ganfleet reads: 2 .heic, 1 .txt, 1 without a suffix"
        assert source.notes() == [f"{photos}: {told}"]

    def test_opens_although_the_first_image_is_damaged(self, photos):
        (photos / "cats" / "1.png").write_bytes(b"")
        assert len(open_source("folder", path=photos, resolution=8)) == 10


class TestZip:
    @pytest.fixture
    def archive(self, photos):
        return shutil.make_archive(photos, "zip", photos)

    def test_gives_what_the_folder_gives(self, photos, archive):
        folder = open_source("folder", path=photos, resolution=4, classes="subfolder")
        packed = open_source("zip", path=archive, resolution=4, classes="subfolder")
        assert reds(packed) == reds(folder) == CATS_THEN_DOGS
        assert labels(packed) == labels(folder) and packed.classes == 2
        assert packed.describe(0) == f"{archive}:cats/1.png"

    def test_a_folder_around_everything_is_no_class(self, photos):
        wrapped = shutil.make_archive(photos, "zip", photos.parent, "photos")
        packed = open_source("zip", path=wrapped, resolution=8, classes="subfolder")
        assert packed.classes == 2 and labels(packed) == [0] * 5 + [1] * 5

    def test_many_threads_read_it_at_once(self, archive):
        source = open_source("zip", path=archive, resolution=8)
        with ThreadPoolExecutor(8) as pool:
            read = pool.map(lambda i: int(source[i % 10]["image"][0, 0, 0]), range(400))
            assert list(read) == CATS_THEN_DOGS * 40

    def test_names_a_damaged_member(self, photos, archive):
        member = zipfile.ZipFile(archive).getinfo("cats/3.png")
        data = bytearray(Path(archive).read_bytes())
        data[member.header_offset + 30 + len(member.filename) + 10] ^= 1  # after the header of 30 bytes and the name
        Path(archive).write_bytes(data)
        source = open_source("zip", path=archive, resolution=8)
        assert len(source[0]["image"]) == 3
        with pytest.raises(DataError, match=r"photos\.zip:cats/3\.png cannot be decoded"):
            source[1]

    def test_refuses_what_is_no_zip(self, tmp_path):
        (tmp_path / "a.zip").write_text("no archive")
        with pytest.raises(DataError, match=r"a\.zip cannot be read as a ZIP file"):
            open_source("zip", path=tmp_path / "a.zip", resolution=8)

    def test_links_in_an_archive_are_left_out(self, archive):
        with zipfile.ZipFile(archive, "a") as added:
            link = zipfile.ZipInfo("cats/link.png")
            link.create_system, link.external_attr = 3, 0o120777 << 16
            added.writestr(link, "1.png")
        source = open_source("zip", path=archive, resolution=8)
        assert len(source) == 10 and "another name (1)" in source.notes()[0]

    def test_refuses_an_archive_without_images(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("notes.txt", "nothing to see")
        with pytest.raises(ConfigError, match=r"no images .*, only 1 \.txt: choose"):
            open_source("zip", path=tmp_path / "a.zip", resolution=8)


class TestIdx:
    IMAGES = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)
    HEADER = bytes.fromhex("00000803 00000003 00000004 00000004")
    LABELS = bytes.fromhex("00000801 00000003 020009")

    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "train-images-idx3-ubyte"
        path.write_bytes(self.HEADER + self.IMAGES.tobytes())
        return path

    def test_gives_the_pixels_of_the_file(self, path):
        source = open_source("idx", path=path, resolution=4)
        assert (len(source), source.channels, source.classes) == (3, 1, 0)
        assert (np.stack([source[i]["image"][0] for i in range(3)]) == self.IMAGES).all()

    @pytest.mark.parametrize("packed", [False, True])
    def test_finds_the_labels_beside_it(self, path, packed):
        name = "train-labels-idx1-ubyte" + (".gz" if packed else "")
        path.with_name(name).write_bytes(gzip.compress(self.LABELS) if packed else self.LABELS)
        source = open_source("idx", path=path, resolution=4)
        assert labels(source) == [2, 0, 9] and source.classes == 10

    def test_takes_labels_from_elsewhere(self, path, tmp_path):
        (tmp_path / "other").write_bytes(self.LABELS)
        assert labels(open_source("idx", path=path, resolution=4, labels=tmp_path / "other")) == [2, 0, 9]

    def test_reads_gzip(self, path):
        path.write_bytes(gzip.compress(path.read_bytes()))
        assert (open_source("idx", path=path, resolution=4)[2]["image"] == self.IMAGES[2]).all()

    def test_fit_adds_a_black_border(self, path):
        padded = open_source("idx", path=path, resolution=6, resize="fit")[1]["image"][0]
        assert (padded == np.pad(self.IMAGES[1], 1)).all()

    @pytest.mark.parametrize(
        "damage, message",
        [
            (lambda data: data[:-1], "63 bytes long where its header says 64"),
            (lambda data: data + b"x", "65 bytes long"),
            (lambda data: b"", "starts with nothing"),
            (lambda data: data[:6], "6 bytes long"),
            (lambda data: b"\0\0\x0d\3" + data[4:], "starts with 00000d03, which must be 00000803"),
            (lambda data: gzip.compress(data)[:-9], "cannot be read"),
            (lambda data: gzip.compress(data)[:20] + b"????" + gzip.compress(data)[24:], "cannot be read"),
        ],
        ids=["truncated", "too long", "empty", "header cut", "floats", "gzip truncated", "gzip damaged"],
    )
    def test_refuses_a_damaged_file(self, path, damage, message):
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(DataError, match=message) as refused:
            open_source("idx", path=path, resolution=4)
        assert str(path) in str(refused.value)

    def test_what_is_no_regular_file_is_not_waited_for(self, path, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ConfigError, match="is no regular file"):
            open_source("idx", path=tmp_path / "pipe", resolution=4)
        with pytest.raises(ConfigError, match="there is no file at"):
            open_source("idx", path=path, resolution=4, labels=tmp_path / "pipe")
        with pytest.raises(ConfigError, match="neither a folder nor a regular file"):
            open_source("zip", path=tmp_path / "pipe", resolution=4)

    def test_refuses_labels_for_another_number_of_images(self, path):
        path.with_name("train-labels-idx1-ubyte").write_bytes(bytes.fromhex("00000801 00000002 0001"))
        with pytest.raises(DataError, match="2 labels for the 3 images"):
            open_source("idx", path=path, resolution=4)


class Squares(Source):
    """Knows numbers only."""

    Options = SourceOptions

    @classmethod
    def open(cls, options, resolution):
        return [np.zeros((1, resolution, resolution), np.uint8)]


class TestEverySource:
    def test_of_a_stranger_that_knows_squares_only_is_told_apart_from_a_fault(self):
        assert len(open_source("test_sources:Squares", resolution=8)) == 1
        with pytest.raises(ConfigError, match=r"test_sources:Squares makes square images only, .* is 8x12: give one"):
            open_source("test_sources:Squares", resolution=Size(8, 12))

    def test_at_a_lower_resolution_gives_means_of_the_pixels_of_the_full_one(self, photos):
        for source in (open_source(resolution=32), open_source("folder", path=photos, resolution=8)):
            full = source[3]["image"].astype(float)
            halved = full.reshape(full.shape[0], full.shape[1] // 2, 2, -1, 2).mean(axis=(2, 4))
            view = source.at(source.resolution // 2)
            assert view.resolution == source.resolution // 2 and len(view) == len(source)
            assert np.abs(view[3]["image"] - halved).max() <= 0.5
            assert (view.at(source.resolution)[3]["image"] == full).all()

    def test_at_refuses_what_does_not_divide(self):
        with pytest.raises(ConfigError, match="resolution 32 cannot be had at 12"):
            open_source(resolution=32).at(12)

    def test_both_sides_are_divided_by_the_same_number(self):
        source = open_source(resolution=Size(8, 16), resize="fit")
        full = source[3]["image"].astype(float)
        assert full.shape == (1, 8, 16)
        halved = full.reshape(1, 4, 2, 8, 2).mean(axis=(2, 4))
        assert np.abs(source.at(Size(4, 8))[3]["image"] - halved).max() <= 0.5
        for other in (4, Size(4, 4), Size(8, 4), Size(3, 6)):
            with pytest.raises(ConfigError, match=f"resolution 8x16 cannot be had at {other}"):
                source.at(other)

    @pytest.mark.parametrize("kind", ["folder", "zip", "idx"])
    def test_refuses_a_path_where_there_is_nothing(self, kind, tmp_path):
        with pytest.raises(ConfigError, match=r"data\.path: there is nothing at .*/gone"):
            open_source(kind, path=tmp_path / "gone", resolution=8)

    def test_refuses_an_empty_folder(self, tmp_path):
        with pytest.raises(ConfigError, match="no images"):
            open_source("folder", path=tmp_path, resolution=8)

    @pytest.mark.parametrize(
        "options, key",
        [
            ({"source": "folder"}, "path"),
            ({"path": "somewhere"}, "path"),
            ({"channels": 2}, "channels"),
            ({"resize": "shrink"}, "resize"),
            ({"classes": "subfolder"}, "classes"),
            ({"labels": "somewhere"}, "labels"),
        ],
    )
    def test_refuses_options_that_do_not_go_together(self, options, key):
        with pytest.raises(ConfigError, match=rf"data\.source \w+: data\.{key}: "):
            open_source(**options, resolution=8)

    def test_refuses_a_name_that_there_is_not(self):
        with pytest.raises(ConfigError, match="unknown source 'fodler', did you mean folder"):
            open_source("fodler", resolution=8)

    def test_takes_the_options_of_a_source_by_their_names(self):
        for name in SOURCES.builtin:
            assert issubclass(SOURCES.find(name), Source) and issubclass(SOURCES.find(name).Options, SourceOptions)


class TestDigest:
    """What ranks compare before they begin, to see that all have the same data."""

    def test_is_of_the_names_and_not_of_the_place(self, photos, tmp_path):
        moved = shutil.copytree(photos, tmp_path / "elsewhere")
        digest = open_source("folder", path=photos, resolution=8).digest()
        assert open_source("folder", path=moved, resolution=8).digest() == digest
        assert open_source("folder", path=moved, resolution=8).at(4).digest() == digest
        (moved / "cats" / "3.png").rename(moved / "cats" / "30.png")
        assert open_source("folder", path=moved, resolution=8).digest() != digest

    def test_is_another_where_one_file_is_missing_or_labels_or_channels_differ(self, photos):
        digests = {
            open_source("folder", path=photos, resolution=8, **options).digest()
            for options in ({}, {"classes": "subfolder"}, {"channels": 1})
        }
        (photos / "cats" / "3.png").unlink()
        digests.add(open_source("folder", path=photos, resolution=8).digest())
        assert len(digests) == 4

    def test_of_a_zip_is_that_of_its_folder(self, photos):
        archive = shutil.make_archive(photos, "zip", photos)
        assert (
            open_source("zip", path=archive, resolution=8).digest()
            == open_source("folder", path=photos, resolution=8).digest()
        )

    def test_covers_the_pixels_and_labels_of_arrays(self, tmp_path):
        path, digests = tmp_path / "images", set()
        for last in (0, 1):
            path.write_bytes(TestIdx.HEADER + TestIdx.IMAGES.tobytes()[:-1] + bytes([last]))
            digests.add(open_source("idx", path=path, resolution=4).digest())
        for last in (1, 2):
            (tmp_path / "labels").write_bytes(TestIdx.LABELS[:-1] + bytes([last]))
            digests.add(open_source("idx", path=path, resolution=4).digest())
        assert len(digests) == 4
        assert open_source(resolution=32).digest() == open_source(resolution=32).digest()


def test_preparing_does_the_decoding_that_a_lower_resolution_needs(photos, tmp_path, monkeypatch):
    source = open_source("folder", path=photos, resolution=16, upscale=True, cache=str(tmp_path / "kept"))
    source.prepare([16])
    assert not (tmp_path / "kept").exists()
    source.prepare([4, 8, 16])
    monkeypatch.setattr("ganfleet.data.files.decode", lambda *_: pytest.fail("an image was decoded"))
    assert reds(source.at(8)) == CATS_THEN_DOGS
