"""What the README shows must work as it stands there, and its Chinese sister must say the same."""

import json
import re
import runpy

import pytest
from commands import ganfleet
from fleets import REPOSITORY

from ganfleet.plugins import STRATEGIES

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
CHINESE = (REPOSITORY / "README.zh-CN.md").read_text(encoding="utf-8")
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


def test_every_config_the_readme_names_exists():
    names = re.findall(r"configs/\w+\.yaml", README)
    assert len(names) > 4
    assert [name for name in names if not (REPOSITORY / name).exists()] == []


def test_the_readme_names_every_strategy():
    named = re.findall(r"`(\w+)`", " ".join(row for row in rows(README) if row.startswith("`")))
    assert sorted(named) == sorted(STRATEGIES.builtin)


# ── The Chinese README


def headings(text):
    return [len(marks) for marks in re.findall(r"^(#+) ", FENCED.sub("", text), re.MULTILINE)]


def blocks(text):
    """The fenced blocks, without their comments."""
    return [(language, re.sub(r" *#.*$", "", code, flags=re.MULTILINE)) for language, code in FENCED.findall(text)]


def links(text):
    return sorted({*re.findall(r"\]\(([^)]+)\)", text)} - {"README.md", "README.zh-CN.md"})


def rows(text):
    """The first cells of all tables."""
    return [row for row in re.findall(r"^\| (.*?) \|", text, re.MULTILINE) if row.startswith(("`", "["))]


@pytest.mark.parametrize("part", [headings, blocks, links, rows])
def test_the_chinese_readme_has_the_same(part):
    assert part(CHINESE) == part(README)
