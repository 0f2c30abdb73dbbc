"""``ganfleet pairs``: the same latents through two checkpoints, as files that the source ``paired`` reads."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import ganfleet, one_error
from fleets import BIN, one_at_a_time, run
from PIL import Image
from stored import save_start_of

from ganfleet import load
from ganfleet.data import open_source
from ganfleet.errors import StorageError
from ganfleet.observe.grid import picture_of

STYLES = "resolution: 8, start_resolution: 8, latent: 4, mapping_layers: 1, fmap_base: 32, mbstd_group: 1"
TRAIN = "train: {{batch_size: 1, lanes: 1, seed: {seed}}}\n"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Holds checkpoints of two StyleGANs, ``a`` and ``b``, and of networks with other latents and other noise."""
    directory = tmp_path_factory.mktemp("pairs")
    for name, strategy in {
        "a": f"stylegan, {STYLES}",
        "b": f"stylegan, {STYLES}",
        "other": f"stylegan, {STYLES.replace('latent: 4', 'latent: 6')}",
        "noisy": f"stylegan, {STYLES}, noise: 0.5",
        "gan": "gan, resolution: 8, latent: 4, hidden: [4]",
    }.items():
        yaml = f"strategy: {{name: {strategy}}}\n" + TRAIN.format(seed=ord(name[0]))
        save_start_of(yaml, directory / name, channels=3, scale=3)
    return directory


@pytest.fixture(autouse=True)
def there(directory, monkeypatch):
    monkeypatch.chdir(directory)


def pairs(out, *arguments, a="a", b="b", count=3):
    return ganfleet("pairs", "--a", a, "--b", b, "--count", str(count), "--out", str(out), *map(str, arguments))


def pixels(path):
    return np.asarray(Image.open(path))


@pytest.fixture(scope="module")
def drawn(directory):
    """A folder of three pairs, truncated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        ended = pairs("drawn", "--psi", "0.5")
        assert ended.code == 0 and "drew 3 pairs into drawn" in ended.output, ended.output
    return directory / "drawn"


def test_files_of_one_name_are_what_both_make_of_one_seed(drawn):
    names = [f"seed-{seed:06d}.png" for seed in range(3)]
    for folder, path in (("trainA", "a"), ("trainB", "b")):
        assert sorted(file.name for file in (drawn / folder).iterdir()) == names
        with load(path) as loaded:
            images = loaded.sample(range(3), truncation=0.5)
        for name, image in zip(names, images, strict=True):
            np.testing.assert_array_equal(pixels(drawn / folder / name), picture_of(image))
    assert np.abs(pixels(drawn / "trainA" / names[0]).astype(int) - pixels(drawn / "trainB" / names[0])).max() > 10
    facts = json.loads((drawn / "pairs.json").read_text())
    assert facts["seeds"] == [0, 2] and facts["options"] == {"truncation": "0.5"} and facts["class"] is None
    assert facts["a"]["checkpoint"].startswith("a/") and facts["a"]["weights"] != facts["b"]["weights"]
    assert len(open_source("paired", path=drawn, resolution=8)) == 3


def test_a_call_that_was_stopped_goes_on_and_a_larger_count_adds_pairs(drawn):
    names = ["trainA/seed-000001.png", "trainB/seed-000001.png", "trainA/seed-000002.png", "trainB/seed-000000.png"]
    before = {name: (drawn / name).read_bytes() for name in names}
    (drawn / names[0]).unlink()
    (drawn / names[2]).write_bytes(b"kept")
    (drawn / names[3]).write_bytes(before[names[3]][:-1])  # as after a copy to a full disk
    ended = pairs("drawn", "--psi", "0.5", count=5)
    assert ended.code == 0 and "drew 4 pairs into drawn, 1 were there already" in ended.output
    assert (drawn / names[2]).read_bytes() == b"kept"
    drawn_again = [*names[:2], names[3]]
    assert [(drawn / name).read_bytes() for name in drawn_again] == [before[name] for name in drawn_again]
    assert len(list((drawn / "trainB").iterdir())) == 5
    assert json.loads((drawn / "pairs.json").read_text())["seeds"] == [0, 4]


def test_a_folder_says_which_pairs_are_there_and_not_which_were_asked_for(drawn, monkeypatch):
    def full(*_):
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("ganfleet.engine.pairs.save_picture", full)
        assert one_error(pairs("drawn", "truncation=.5", count=9), 74)
    assert json.loads((drawn / "pairs.json").read_text())["seeds"] == [0, 4]


def test_a_seed_that_no_stream_has_is_refused(drawn):
    error = one_error(pairs("large", "--seed", str(2**63 - 2), count=4), 2)
    assert f"{2**63 + 1} is no seed" in error and not Path("large").exists()


def test_what_is_there_and_was_made_otherwise_is_refused_and_stays(drawn):
    for given, message in (({"b": "a"}, "were made with --b b/"), ({"a": "b"}, "were made with --a a/")):
        assert message in one_error(pairs("drawn", "--psi", "0.5", **given), 2)
    message = one_error(pairs("drawn", "--psi", "0.6"), 2)
    assert "were made with options truncation=0.5, not truncation=0.6: choose another folder" in message
    Path("full").mkdir()
    Path("full", "mine.txt").touch()
    assert "--out full is not empty, and has no pairs.json" in one_error(pairs("full"), 2)
    assert [file.name for file in Path("full").iterdir()] == ["mine.txt"]
    assert "--out full/mine.txt is a file" in one_error(pairs("full/mine.txt"), 2)


@pytest.mark.parametrize(
    ("b", "message"),
    [
        ("other", "of different 'z': a has one of shape (4,) and other has one of shape (6,)"),
        ("noisy", "of different 'noise0'"),
        ("gan", "of different 'z_mixed': a has one of shape (4,) and gan has none"),
    ],
)
def test_checkpoints_that_take_other_latents_are_refused(b, message):
    assert message in one_error(pairs("no", b=b), 2)
    assert not Path("no").exists()


def test_options_of_neither_are_refused():
    assert "unknown option truncate: did you mean truncation?" in one_error(pairs("no", "truncate=0.5"), 2)
    assert "--psi and truncation= say the same" in one_error(pairs("no", "--psi", "0.5", "truncation=0.5"), 2)
    assert not Path("no").exists()


@pytest.mark.slow
@one_at_a_time
def test_a_fleet_of_two_writes_what_one_process_writes(drawn):
    words = ["--a", "a", "--b", "b", "--count", "3", "--out", "fleet", "--workers", "2", "--psi", "0.5"]
    ended = run([str(BIN / "ganfleet"), "pairs", *words], Path.cwd())
    assert ended.code == 0, ended.output
    for seed in (0, 1):
        for folder in ("trainA", "trainB"):
            name = f"{folder}/seed-{seed:06d}.png"
            assert Path("fleet", name).read_bytes() == (drawn / name).read_bytes()
