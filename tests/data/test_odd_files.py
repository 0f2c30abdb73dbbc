"""One directory of 200 odd files: whatever reads it counts what was planted, and leaves nothing out in silence."""

import json
from collections import Counter

import pytest
from commands import TINY, ganfleet, one_error
from odd_files import TOTAL, plant

from ganfleet.errors import printable


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd") / "odd"
    return root, plant(root)


@pytest.fixture(scope="module")
def checked(planted):
    root, _ = planted
    ended = ganfleet("data", "check", str(root), "--resolution", "16", "--json")
    return ended, json.loads(ended.output[: ended.output.rindex("}") + 1])


@pytest.fixture(scope="module")
def config(planted, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "odd.yaml"
    root, _ = planted
    data = f"{{source: folder, path: '{root}', classes: subfolder, bad_budget: 100}}"
    path.write_text(TINY.replace("{source: embedded}", data))
    return str(path)


def test_there_are_200(planted):
    _, there = planted
    assert there.files + there.hidden + there.links + there.pipes == TOTAL


def test_data_check_counts_what_was_planted(planted, checked):
    _, there = planted
    _, told = checked
    assert (told["images"], told["usable"]) == (there.images, there.usable)
    assert told["several_frames"] == there.several_frames
    for name in ("formats", "modes", "sizes"):
        assert Counter(told[name]) == getattr(there, name)
    assert Counter(told["other_files"]) == there.others
    assert sorted(told["left_out"].values()) == sorted([there.links, there.pipes])
    assert told["classes_from"] == "subfolders"
    assert [(each["name"], each["images"]) for each in told["classes"]] == [
        (str(folder), there.classes[str(folder)]) for folder in range(12)
    ]
    assert sorted(map(sorted, told["duplicates"])) == sorted(map(sorted, there.duplicates))
    assert told["resolutions"][0]["too_small"] == there.sizes["8x8"] > 0


def test_data_check_names_every_damaged_file_and_why(planted, checked):
    _, there = planted
    _, told = checked
    reasons = {each["name"]: each["reason"] for each in told["damaged"]}
    assert reasons.keys() == set(map(printable, there.damaged))
    for name, part in there.damaged.items():
        assert reasons[printable(name)] and part in reasons[printable(name)], name


def test_data_check_ends_with_65_and_what_cannot_be_used(planted, checked):
    _, there = planted
    ended, _ = checked
    assert f"{len(there.damaged)} damaged; {there.sizes['8x8']} too small for 16x16" in one_error(ended, 65)


def test_plan_says_once_what_is_left_out(planted, config):
    root, there = planted
    ended = ganfleet("plan", "--config", config, "--json")
    images = json.loads(ended.output)["images"]
    assert images["count"] == there.images and images["class_names"] == [str(i) for i in range(12)]
    others = sum(there.others.values())
    [note] = [note for note in images["notes"] if "no images" in note]
    told = f"{root}: {others} files are no images that ganfleet reads: 2 .heic, 2 without a suffix, 1 ."
    assert note.startswith(told)
    [note] = [note for note in images["notes"] if "left out" in note]
    assert f"links to what is there under another name ({there.links})" in note


def test_a_run_names_each_damaged_file_once_and_goes_on(planted, config, tmp_path):
    _, there = planted
    ended = ganfleet("train", "--config", config, f"run.dir={tmp_path}", "train.steps=14", "run.name=odd")
    assert ended.code == 0, ended.output
    lines = ended.output.splitlines()
    assert lines.count("classes: 0 0, 1 1, 2 2, 3 3, 4 4, 5 5, 6 6, 7 7, 8 8, 9 9, 10 10, 11 11") == 1
    assert sum("files are no images that ganfleet reads" in line for line in lines) == 1
    for name in map(printable, there.damaged):
        assert sum(f"/{name} cannot be decoded" in line for line in lines) == 1, name
    state = json.loads(next((tmp_path / "odd" / "checkpoints").glob("*/state.json")).read_text())
    assert state["facts"]["source"]["class_names"] == [str(i) for i in range(12)]
