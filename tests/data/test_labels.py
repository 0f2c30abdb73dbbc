"""Classes: by NVlabs' dataset.json, in a folder and in a ZIP file, or by folders in the order that people count in."""

import json
import shutil
import zipfile

import pytest
from PIL import Image

from ganfleet.data import as_source, open_source
from ganfleet.data.labels import described, natural
from ganfleet.errors import ConfigError, DataError

NAMES = [f"{i // 3:05d}/img{i:08d}.png" for i in range(6)]
CLASSES = [0, 1, 2, 0, 1, 2]


@pytest.fixture
def shards(tmp_path):
    """Six images in two folders, as NVlabs' dataset_tool cuts them; the folders are no classes."""
    for i, name in enumerate(NAMES):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * i, 0, 0)).save(path)
    return tmp_path / "set"


def write(folder, content, name="dataset.json"):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def opened(folder, kind="folder", **options):
    path = folder if kind == "folder" else shutil.make_archive(str(folder), "zip", folder)
    return open_source(kind, path=path, resolution=8, **options)


def labels(source):
    return [int(source[i]["label"]) for i in range(len(source))]


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("classes", [None, "dataset.json", "subfolder"])
def test_the_labels_of_dataset_json_are_the_classes(shards, kind, classes):
    write(shards, {"labels": [list(pair) for pair in zip(reversed(NAMES), reversed(CLASSES), strict=True)]})
    source = opened(shards, kind, classes=classes)
    assert labels(source) == CLASSES and (source.classes, len(source)) == (3, 6)
    assert any("dataset.json" in note and "classes" in note for note in source.notes())
    assert not any("no image" in note for note in source.notes())


def test_a_folder_around_everything_in_a_zip_may_hold_the_labels(shards):
    write(shards, {"labels": dict(zip(NAMES, CLASSES, strict=True))})
    archive = shutil.make_archive(str(shards), "zip", shards.parent, "set")
    assert labels(open_source("zip", path=archive, resolution=8)) == CLASSES


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_without_labels_there_are_no_classes(shards, kind):
    write(shards, {"labels": None})
    assert opened(shards, kind).classes == 0
    assert opened(shards, kind, classes="subfolder").classes == 2
    with pytest.raises(ConfigError, match=r"data\.classes is dataset\.json, and there is no such file with labels"):
        opened(shards, kind, classes="dataset.json")


def test_none_takes_no_classes_whatever_is_there(shards):
    write(shards, "no JSON at all")
    assert opened(shards, classes="none").classes == 0


def test_names_may_be_written_in_the_way_of_windows_and_of_macos(shards):
    (shards / NAMES[0]).rename(shards / "00000" / "e\u0301té.png")
    names = ["00000\\\u00e9te\u0301.png", *(f"./{name}" for name in NAMES[1:])]
    write(shards, "\ufeff" + json.dumps({"labels": list(zip(names, [5, *CLASSES[1:]], strict=True))}))
    assert labels(opened(shards)) == [5, 1, 2, 0, 1, 2]
    assert opened(shards).classes == 6


def first(*entry):
    return {"labels": [[NAMES[0], *entry], *([name, 0] for name in NAMES[1:])]}


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize(
    "content, told",
    [
        (first([0.5, 1.0]), rf"{NAMES[0]} has a list of numbers, \[0.5, 1.0\]"),
        (first([1, 2]), r"has several labels, \[1, 2\]"),
        (first(1, 2), r"has several labels, \[1, 2\]"),
        (first(0.5), "has a label that is no class, 0.5"),
        (first("cat"), 'has a label that is no class, "cat"'),
        (first(True), "has a label that is no class, true"),
        (first(-1), "has a label that is no class, -1"),
        (first(2**31), "has a label that is no class, 2147483648"),
        (first(None), "has no label, null"),
        ({"labels": [[NAMES[0], 1], *([name, 0] for name in NAMES)]}, "has several labels, 1 and 0"),
        ({"labels": [[name, 0] for name in NAMES[2:]]}, rf"has no label for {NAMES[0]} and 1 more"),
        ({"labels": [[name, 0] for name in [*NAMES, "a.png"]]}, r"has a label for what is no image here: a\.png"),
        ({"labels": 3}, "is 3, not a list"),
        ({"labels": [7]}, r"a label is 7, not \[name, class\]"),
        ('{"labels": [["', "cannot be read"),
    ],
)
def test_labels_that_are_no_classes_are_refused_with_a_way_out(shards, kind, content, told):
    write(shards, content)
    with pytest.raises(DataError, match=told) as refused:
        opened(shards, kind)
    assert "dataset.json" in str(refused.value) and "data.classes to none" in str(refused.value)
    assert opened(shards, kind, classes="none").classes == 0


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("content", [[], {"images": 3}, {"labels": None}])
def test_a_file_of_that_name_without_labels_is_told(shards, kind, content):
    write(shards, content)
    source = opened(shards, kind)
    assert source.classes == 0
    assert any('dataset.json has no "labels", so images have no classes' in note for note in source.notes())
    assert not any("no classes" in note for note in opened(shards, kind, classes="none").notes())


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_class_folders_count_as_people_do(tmp_path, kind):
    for number in range(12):
        (tmp_path / "set" / str(number)).mkdir(parents=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "set" / str(number) / "a.png")
    source = opened(tmp_path / "set", kind, classes="subfolder")
    assert source.class_names == tuple(map(str, range(12)))
    assert [int(source[i]["image"][0, 0, 0]) for i in range(12)] == labels(source)


def test_natural_order():
    names = ["a10b2", "a2", "a10b", "B", "a", "10", "9", "01", "1", "a02"]
    assert sorted(names, key=natural) == ["01", "1", "9", "10", "B", "a", "a02", "a2", "a10b", "a10b2"]


def test_a_long_mapping_shows_its_ends():
    assert described(["cats", "dogs"]) == "0 cats, 1 dogs"
    assert described([f"n{i}" for i in range(1000)]).endswith("17 n17, …, 999 n999")


def test_classes_can_be_numbered_as_a_checkpoint_has_them(tmp_path):
    for name in ("2", "10", "1"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), (int(name), 0, 0)).save(tmp_path / name / "a.png")
    source = open_source("folder", path=tmp_path, resolution=8, classes="subfolder")
    of_0_1_0 = source.as_in_checkpoint(3, None)
    assert (source.class_names, of_0_1_0.class_names) == (("1", "2", "10"), ("1", "10", "2"))
    for each in (source, of_0_1_0, source.as_in_checkpoint(3, ["10", "1", "2"])):
        for i in range(3):
            sample = each.at(4)[i]
            assert each.class_names[int(sample["label"])] == str(sample["image"][0, 0, 0])
    assert source.as_in_checkpoint(3, ["1", "2", "11"]) is source
    without = source.as_in_checkpoint(0, None)
    plain = open_source("folder", path=tmp_path, resolution=8)
    assert (without.classes, set(without[0]), without.digest()) == (0, {"image"}, plain.digest())


def test_the_names_of_an_objects_classes_are_kept():
    class Owls:
        classes = ("barn", "snowy")

        def __len__(self):
            return 2

        def __getitem__(self, index):
            return {"image": open_source(resolution=8)[index]["image"], "label": index}

    assert as_source(Owls(), 8).class_names == ("barn", "snowy")


def test_windows_made_zips(tmp_path):
    """Backslashes, names in UTF-8 or code page 437 without a mark, folders as entries, and what macOS adds."""
    image = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(image)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in (r"cats\1.png", r"dogs\2.png", "dogs/été.png"):
            archive.writestr(name, image.read_bytes())
        archive.writestr("dogs\\", b"")
        archive.writestr("__MACOSX/dogs/._2.png", b"resource fork")
        archive.writestr("__MACOSX/dogs/2.png", b"resource fork")
        archive.writestr(r"dogs\Thumbs.db", b"previews")
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(unmarked(data))
    source = open_source("zip", path=tmp_path / "a.zip", resolution=8, classes="subfolder")
    assert source.class_names == ("cats", "dogs") and labels(source) == [0, 1, 1]
    assert {source.describe(i).split(":")[1] for i in range(3)} == {"cats/1.png", "dogs/2.png", "dogs/été.png"}
    assert all(source[i]["image"].shape == (3, 8, 8) for i in range(3))
    assert source.notes() == [f"{tmp_path / 'a.zip'}: 1 file is no image that ganfleet reads: 1 .db"]


def unmarked(data: bytes) -> bytes:
    """A ZIP file whose members do not say that their names are UTF-8: the flag is cleared in both of its places."""
    data = bytearray(data)
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset + 1] &= ~0x08
            at = data.find(signature, at + 4)
    return bytes(data)
