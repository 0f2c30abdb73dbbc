"""Recipes: the configs that come with ganfleet, by name, wherever it is installed."""

import json
import re

import pytest
from commands import TINY, ganfleet, one_error
from fleets import REPOSITORY

from ganfleet import recipes
from ganfleet.config import Config

NAMES = sorted(path.stem for path in (REPOSITORY / "configs").glob("*.yaml"))


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_config_of_the_repository_is_listed_with_what_it_trains():
    ended = ganfleet("configs")
    assert ended.code == 0
    assert re.findall(r"^(\w+)", ended.output, re.MULTILINE) == NAMES
    assert re.search(r"^dcgan_fashion +DCGAN \(arXiv:1511\.06434\) on the", ended.output, re.MULTILINE)
    assert max(map(len, ended.output.splitlines())) <= 80


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_a_config_and_names_its_paper(name):
    assert "arXiv:" in recipes.summary(name)
    assert Config.load(name) == Config.load(REPOSITORY / "configs" / f"{name}.yaml")


def test_a_file_comes_before_the_recipe_of_its_name(directory):
    def planned(config):
        ended = ganfleet("plan", "--json", "--config", config)
        assert ended.code == 0, ended.output
        return json.loads(ended.output)["stages"][0]["resolution"]

    assert planned("gan_fashion") == planned("gan_fashion.yaml") == Config.load("gan_fashion").strategy.resolution
    (directory / "gan_fashion.yaml").write_text(TINY)
    assert planned("gan_fashion.yaml") == 8


def test_a_name_that_is_neither_is_told_with_the_names_there_are(directory):
    message = one_error(ganfleet("plan", "--config", "gan_fashon"), 2)
    assert "gan_fashon: no such file" in message and "did you mean gan_fashion?" in message
    assert all(name in message for name in NAMES)
    for path in ("configs/gan_fashion.yaml", str(directory / "gan_fashion")):
        assert f"{path}: cannot read the config: No such file" in one_error(ganfleet("plan", "--config", path), 2)


def test_a_copied_recipe_is_the_recipe_and_no_file_is_overwritten(directory):
    assert ganfleet("configs", "copy", "gan_fashion").output == (
        "gan_fashion.yaml: start it with ganfleet train --config gan_fashion.yaml\n"
    )
    assert Config.load("gan_fashion.yaml") == Config.load(REPOSITORY / "configs" / "gan_fashion.yaml")
    (directory / "gan_fashion.yaml").write_text("mine")
    assert "is there already" in one_error(ganfleet("configs", "copy", "gan_fashion"), 2)
    assert (directory / "gan_fashion.yaml").read_text() == "mine"
    assert "there is no folder no/such" in one_error(
        ganfleet("configs", "copy", "gan_fashion", "--out", "no/such/x.yaml"), 2
    )
    assert "did you mean gan_fashion?" in one_error(ganfleet("configs", "copy", "gan_fashon"), 2)
