"""``ganfleet data fashion-mnist``, from files made here: no network."""

import gzip
import os
import shutil
import subprocess

import numpy as np
import pytest
from commands import ganfleet, one_error

from ganfleet.data import fashion_mnist, open_source


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Its four files with 20 and 10 images."""
    monkeypatch.setattr(fashion_mnist, "SPLITS", {"train": 20, "t10k": 10})
    folder = tmp_path / "source"
    folder.mkdir()
    for split, count in fashion_mnist.SPLITS.items():
        images = np.arange(count, dtype=np.uint8).repeat(28 * 28)
        write(folder / f"{split}-images-idx3-ubyte.gz", [count, 28, 28], images)
        write(folder / f"{split}-labels-idx1-ubyte.gz", [count], np.arange(count, dtype=np.uint8) % 10)
    return folder


def write(path, shape, values):
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + values.tobytes()))


def test_a_folder_is_copied_whole_and_can_be_trained_on(source, tmp_path):
    out = tmp_path / "out"
    assert ganfleet("data", "fashion-mnist", "--out", str(out), "--from", str(source)).code == 0
    assert {path.name for path in out.iterdir()} == {path.name for path in source.iterdir()} | {"LICENSE"}
    assert "Zalando" in (out / "LICENSE").read_text()
    opened = open_source("idx", path=out / "train-images-idx3-ubyte.gz", resolution=28)
    assert (len(opened), opened.classes, int(opened[13]["image"][0, 0, 0]), int(opened[13]["label"])) == (20, 10, 13, 3)


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")
def test_debians_package_is_unpacked(source, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(source, tree / "usr/share/datasets/fashion-mnist")
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        "Package: dataset-fashion-mnist\nVersion: 1\nArchitecture: all\n"
        "Maintainer: Nobody <nobody@example.org>\nDescription: images\n"
    )
    deb = tmp_path / "f.deb"
    subprocess.run(["dpkg-deb", "--build", str(tree), str(deb)], check=True, capture_output=True)
    assert ganfleet("data", "fashion-mnist", "--out", str(tmp_path / "out"), "--from", str(deb)).code == 0
    assert len(list((tmp_path / "out").iterdir())) == 5
    deb.write_bytes(deb.read_bytes()[:-100])
    ended = ganfleet("data", "fashion-mnist", "--out", str(tmp_path / "again"), "--from", str(deb))
    assert "cannot unpack" in one_error(ended, 65)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda folder: (folder / "t10k-labels-idx1-ubyte.gz").unlink(), "there is no t10k-labels-idx1-ubyte.gz"),
        (lambda folder: os.truncate(folder / "t10k-images-idx3-ubyte.gz", 40), "cannot be read"),
        (
            lambda folder: write(folder / "train-images-idx3-ubyte.gz", [5, 2, 2], np.zeros(20, np.uint8)),
            "it has [5, 2, 2] where [20, 28, 28] are due",
        ),
        (
            lambda folder: write(folder / "train-labels-idx1-ubyte.gz", [20], np.zeros(20, np.uint8)),
            "it has [20] where [2, 2, 2, 2, 2, 2, 2, 2, 2, 2] are due",
        ),
    ],
    ids=["missing", "truncated", "other shape", "other labels"],
)
def test_what_is_not_fashion_mnist_is_refused_and_leaves_nothing(source, tmp_path, damage, message):
    damage(source)
    ended = ganfleet("data", "fashion-mnist", "--out", str(tmp_path / "sets" / "out"), "--from", str(source))
    assert message in one_error(ended, 65)
    assert not list((tmp_path / "sets").iterdir())


def test_without_apt_it_says_what_else_will_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    line = one_error(ganfleet("data", "fashion-mnist", "--out", str(tmp_path / "out")), 2)
    assert "there is no apt-get" in line and "--from" in line


def test_a_wrong_from_is_wrong_usage(tmp_path):
    ended = ganfleet("data", "fashion-mnist", "--out", str(tmp_path / "out"), "--from", str(tmp_path / "nothing"))
    assert "there is nothing at" in one_error(ended, 2)
