"""What the README shows must work as it stands there."""

import json
import re

from commands import ganfleet
from fleets import REPOSITORY

README = (REPOSITORY / "README.md").read_text()


def test_the_strategy_in_the_readme_trains(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    [named] = re.findall(r"`(strategy: \{name: \"my_gan:LSGAN\".*?\})`", README, re.DOTALL)
    (tmp_path / "my_gan.py").write_text(code)
    (tmp_path / "my.yaml").write_text(
        f"{named}\ntrain: {{steps: 2, batch_size: 8, lanes: 2}}\nlog: {{every_steps: 1}}\n"
    )
    small = ["strategy.resolution=8", "strategy.ngf=4", "strategy.ndf=4", "log.samples=4", "run.name=mine"]
    ended = ganfleet("train", "--config", "my.yaml", *small)
    assert ended.code == 0, ended.output
    lines = [json.loads(line) for line in (tmp_path / "runs" / "mine" / "log.jsonl").read_text().splitlines()]
    # An untrained D scores near 0, so (real − 1)² + fake² and (fake − 1)² are near 1.
    assert abs(lines[0]["Loss/D"] - 1) < 0.5 and abs(lines[0]["Loss/G"] - 1) < 0.5


def test_every_page_and_config_the_readme_names_exists():
    names = re.findall(r"\]\((?!http)([^)#]+)\)", README) + re.findall(r"configs/\w+\.yaml", README)
    assert len(names) > 8
    assert [name for name in names if not (REPOSITORY / name).exists()] == []
