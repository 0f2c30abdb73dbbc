"""What the README shows must work as it stands there, with the repository and without it."""

import json
import re
import runpy

import pytest
from commands import ganfleet
from fleets import REPOSITORY

from ganfleet import recipes
from ganfleet.plugins import STRATEGIES

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def code(text):
    return [content for language, content in FENCED.findall(text) if language == "python"]


@pytest.mark.slow
def test_the_strategy_in_the_readme_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [named] = re.findall(r"`(strategy: \{name: \"my_gan:LSGAN\".*?\})`", README, re.DOTALL)
    (tmp_path / "my_gan.py").write_text(code(README)[1])
    (tmp_path / "my.yaml").write_text(
        f"{named}\ntrain: {{steps: 2, batch_size: 8, lanes: 2}}\nlog: {{every_steps: 1}}\n"
    )
    small = ["strategy.resolution=8", "strategy.ngf=4", "strategy.ndf=4", "log.samples=4", "run.name=mine"]
    ended = ganfleet("train", "--config", "my.yaml", *small)
    assert ended.code == 0, ended.output
    lines = [json.loads(line) for line in (tmp_path / "runs" / "mine" / "log.jsonl").read_text().splitlines()]
    # An untrained D scores near 0, so (real − 1)² + fake² and (fake − 1)² are near 1.
    assert abs(lines[0]["Loss/D"] - 1) < 0.5 and abs(lines[0]["Loss/G"] - 1) < 0.5


@pytest.mark.slow
def test_the_python_example_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text(code(README)[0])
    ran = runpy.run_path("example.py")
    assert ran["run"].parent.name == "runs" and ran["images"].shape == (3, 1, 8, 8)


def test_the_commands_of_the_readme_need_no_repository():
    named = re.findall(r"--config +(\S+)", README)
    assert len(named) > 6
    assert [name for name in named if name not in recipes.names()] == []
    assert [line for line in README.splitlines() if re.search("(configs|launch)/", line)] == []


def test_the_first_screen_of_the_readme_shows_a_picture_the_two_commands_and_what_no_card_has_run():
    first = " ".join(README.splitlines()[:24])
    wanted = ["![", "make train", "make test", "Nothing has been run on a card"]
    assert [each for each in wanted if each not in first] == []


def test_the_readme_names_every_strategy():
    rows = re.findall(r"^\| (`.*?) \|", README, re.MULTILINE)
    named = re.findall(r"`(\w+)`", " ".join(rows))
    assert sorted(named) == sorted(STRATEGIES.builtin)
