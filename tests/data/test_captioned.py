"""Images with captions: from metadata.jsonl, as ganfleet's own data sets have it, and from files beside the images."""

import json
from pathlib import Path

import encoders_float64 as float64
import numpy as np
import pytest
from PIL import Image

from ganfleet.data import open_source
from ganfleet.errors import ConfigError, DataError

pytest.importorskip("tokenizers")
TEXTS = {"a/1.png": "a red car", "a/2.png": "blue heart", "b/1.png": "a red car", "b/3.png": "a cat on a white heart"}


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(TEXTS):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * i, 0, 0)).save(path)
    return tmp_path / "set"


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder")
    float64.write_encoder(path, float64.BERT, float64.bert_shapes())
    return str(path)


def beside(folder):
    for name, text in TEXTS.items():
        (folder / name).with_suffix(".txt").write_text(f"{text}\n")


def rows(folder, **more):
    for inner in "ab":
        names = [name for name in TEXTS if name.startswith(inner)]
        lines = [json.dumps({"file": name[2:], "name": TEXTS[name], "category": "things"} | more) for name in names]
        (folder / inner / "metadata.jsonl").write_text("\n".join(lines))


def opened(folder, encoder, tokens=6, **options):
    cache = str(folder.parent / "cache")
    return open_source("captioned", path=folder, resolution=8, encoder=encoder, tokens=tokens, cache=cache, **options)


def captions(source):
    return [source.caption(i) for i in range(len(source))]


@pytest.mark.parametrize("write", [beside, rows], ids=["txt", "metadata.jsonl"])
def test_a_sample_has_its_captions_features(write, folder, encoder):
    write(folder)
    source = opened(folder, encoder)
    assert captions(source) == list(TEXTS.values())
    assert (source.text.tokens, source.text.features, source.classes) == (6, 8, 0)
    tensors = float64.write_encoder(Path(encoder), float64.BERT, float64.bert_shapes())  # the same ones again
    sample = source[1]
    assert set(sample) == {"image", "text", "text_mask"} and sample["image"].shape == (3, 8, 8)
    expected = float64.bert(tensors, [2, 8, 9, 3])
    np.testing.assert_allclose(sample["text"][:4], expected, rtol=2e-3, atol=2e-3)  # which float16 is good for
    assert sample["text_mask"].tolist() == [1, 1, 1, 1, 0, 0] and not sample["text"][4:].any()
    assert np.array_equal(source[0]["text"], source[2]["text"])


def test_a_template_makes_captions_of_a_rows_keys_and_its_folder(folder, encoder):
    rows(folder)
    source = opened(folder, encoder, template="{category}: {name} in {folder}")
    assert captions(source)[1:3] == ["things: blue heart in a", "things: a red car in b"]
    with pytest.raises(ConfigError, match=r"data\.template asks for colour, which .*metadata\.jsonl:1 does not have"):
        opened(folder, encoder, template="{colour}")


def test_images_of_a_tenth_of_the_things_are_held_out_and_can_be_read(folder, encoder):
    rows(folder)
    things = {name: f"thing {i % 2}" for i, name in enumerate(TEXTS)}
    for inner in "ab":
        lines = [json.dumps({"file": n[2:], "name": TEXTS[n], "of": things[n]}) for n in TEXTS if n.startswith(inner)]
        (folder / inner / "metadata.jsonl").write_text("\n".join(lines))
    parts = [opened(folder, encoder, hold_out=0.1, hold_out_by="of", split=split) for split in (None, "train", "test")]
    assert captions(parts[0]) == captions(parts[1]) and parts[0].digest() == parts[1].digest()
    found = [[part.describe(i).removeprefix(f"{folder}/") for i in range(len(part))] for part in parts[1:]]
    assert sorted(found[0] + found[1]) == sorted(TEXTS)
    assert [len({things[name] for name in names}) for names in found] == [1, 1]
    for part, names in zip(parts[1:], found, strict=True):
        assert captions(part) == [TEXTS[name] for name in names]
        assert part[0]["image"][0, 0, 0] == 10 * list(TEXTS).index(names[0])
    with pytest.raises(ConfigError, match=r"data\.hold_out_by is colour, which .*metadata\.jsonl:1 does not have"):
        opened(folder, encoder, hold_out=0.1, hold_out_by="colour")
    with pytest.raises(ConfigError, match=r"data\.split chooses among .*: set data\.hold_out"):
        opened(folder, encoder, split="test")


def test_it_says_how_many_captions_are_cut(folder, encoder):
    beside(folder)
    assert opened(folder, encoder, tokens=5).notes() == ["1 of 4 captions have more than 5 tokens, and are cut"]
    assert opened(folder, encoder, tokens=8).notes() == []


def test_other_captions_or_another_length_are_other_data(folder, encoder):
    beside(folder)
    first = opened(folder, encoder).digest()
    assert opened(folder, encoder).digest() == first != opened(folder, encoder, tokens=7).digest()
    (folder / "a/1.txt").write_text("a blue car")
    assert opened(folder, encoder).digest() != first


def test_what_is_missing_or_damaged_is_one_error(folder, encoder):
    with pytest.raises(ConfigError, match=r"has no captions: add a metadata\.jsonl, or beside each image"):
        opened(folder, encoder)
    with pytest.raises(ConfigError, match=r"data\.captions is metadata\.jsonl"):
        opened(folder, encoder, captions="metadata.jsonl")
    beside(folder)
    with pytest.raises(ConfigError, match=r"data\.cache is none"):
        open_source("captioned", path=folder, resolution=8, encoder=encoder, cache="none")
    with pytest.raises(ConfigError, match=r"data\.classes goes with images that have classes"):
        opened(folder, encoder, classes="subfolder")
    (folder / "a/1.txt").unlink()
    with pytest.raises(DataError, match=r"has no caption for a/1\.png\. Add them, or take these images away"):
        opened(folder, encoder)
    rows(folder)
    (folder / "b/metadata.jsonl").write_text('{"file": "1.png", "name": "a"}\n{"name": "b"}')
    with pytest.raises(DataError, match=r"b/metadata\.jsonl:2 is no row like"):
        opened(folder, encoder)


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"file": "1.png", "text": 5}', "text is 5, and must be a string"),
        ('{"file": "1.png", "text": ["a"]}', r"""text is \["a"\], and must be a string"""),
        ('{"file": "1.png", "text": null}', "text is null, and must be a string"),
        ('{"file": "1.png"}', "has none of text, caption, name: add one of them"),
        ("[1]", "is no row like"),
        (r'{"file": "1.png", "text": "half of \ud83d"}', "has half of a character"),
    ],
)
def test_a_row_that_has_no_caption_is_named_with_its_line(line, message, folder, encoder):
    rows(folder)
    (folder / "b/metadata.jsonl").write_text(f'\n{{"file": "3.png", "text": "a cat"}}\r\n\n{line}')
    with pytest.raises(DataError, match=rf"b/metadata\.jsonl:4:? {message}"):
        opened(folder, encoder)


def test_what_is_left_out_of_captions_is_told(folder, encoder):
    """Rows of no image, a second row for one, an empty caption, a text beside no image; not a mark of byte order."""
    rows(folder)
    more = [
        '{"file": "9.png", "name": "a car"}',
        '{"file": "1.png", "name": "a heart"}',
        '{"file": "2.png", "name": " "}',
    ]
    path = folder / "a/metadata.jsonl"
    path.write_text("\ufeff" + "\n".join([path.read_text(), *more, more[1]]))
    (folder / "a/9.txt").write_text("alone")
    source = opened(folder, encoder, tokens=8)
    assert captions(source) == ["a heart", " ", *list(TEXTS.values())[2:]]
    told = source.notes()
    assert told[:3] == [
        "2 images have several rows in metadata.jsonl, of which the last one counts, such as a/1.png",
        f"1 row is of no image that is there, such as {folder}/a/metadata.jsonl:3",
        "1 caption is empty, such as that of a/2.png",
    ]
    assert told[3:] == [f"{folder}: 1 file is no image that ganfleet reads: 1 .txt"]
