"""Strategies of other packages: the one of docs/new-strategy.md, installed; broken ones; and what a strategy owes."""

import re
import runpy
import sys

import pytest
from commands import ganfleet, one_error
from fleets import REPOSITORY
from installed import PLUGINS, install

from ganfleet import strategies, testing
from ganfleet.errors import ConfigError

PLUGIN = PLUGINS / "lsgan"
PAGE = (REPOSITORY / "docs" / "new-strategy.md").read_text()
SLOW = ("test_any_fleet_trains_it_to_the_same_bits", "test_it_goes_on_where_it_was_stopped")
BROKEN = {
    "no_module": ("nowhere:GAN", "no module 'nowhere'"),
    "no_import": ("raises:GAN", "importing 'raises' failed: RuntimeError: no licence"),
    "no_class": ("has_none:GAN", "module 'has_none' has no class 'GAN'"),
    "no_strategy": ("has_none:Path", "'has_none:Path' is not a subclass of ganfleet.strategies.base.Strategy"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Where pip has installed the package of docs/new-strategy.md."""
    return install("lsgan", tmp_path_factory.mktemp("lsgan"))


@pytest.fixture
def installed(site, monkeypatch):
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop("lsgan", None)


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """A package whose entry points are all wrong."""
    package = tmp_path / "bad_gans-0.3.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-gans\nVersion: 0.3\n")
    points = "".join(f"{name} = {target}\n" for name, (target, _) in BROKEN.items())
    (package / "entry_points.txt").write_text(f"[ganfleet.strategies]\n{points}")
    (tmp_path / "raises.py").write_text("raise RuntimeError('no licence')")
    (tmp_path / "has_none.py").write_text("from pathlib import Path")
    monkeypatch.syspath_prepend(tmp_path)


# ── The package of docs/new-strategy.md


@pytest.mark.parametrize("name", ["lsgan.py", "pyproject.toml", "test_lsgan.py"])
def test_the_page_shows_the_files_as_they_are(name):
    [shown] = re.findall(rf"`{name}`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert shown == (PLUGIN / name).read_text()


def test_an_installed_strategy_is_listed_and_planned_by_its_name(installed, tmp_path):
    listed = {each.name: each for each in strategies.listed()}
    assert listed["lsgan"].origin == "lsgan 1.0"
    assert listed["lsgan"].summary == "D says 1 to real images and 0 to fake ones; G wants D to say 1."
    (tmp_path / "c.yaml").write_text("strategy: {name: lsgan, resolution: 8, latent: 4, width: 2}")
    planned = ganfleet("plan", "--config", str(tmp_path / "c.yaml"))
    assert planned.code == 0, planned.output
    # G: 4·16 + 16, 4·2·16 + 2, 2·1·16 + 1; D: 1·2·16 + 2, 2·4·16 + 4, 16 + 1.
    assert f" {16 * 4 + 16 + 128 + 2 + 32 + 1} " in planned.output
    assert f" {32 + 2 + 128 + 4 + 16 + 1} " in planned.output


PAGES_TESTS = re.findall(r"def (test_\w+)", (PLUGIN / "test_lsgan.py").read_text())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in PAGES_TESTS]
)
def test_the_pages_own_tests_pass_on_what_is_installed(installed, name):
    runpy.run_path(str(PLUGIN / "test_lsgan.py"))[name]()
    assert not sys.modules["lsgan"].__file__.startswith(str(PLUGIN))


# ── Broken packages


def test_broken_packages_are_warnings_with_their_cause_and_hide_no_other(broken, installed):
    ended = ganfleet("strategies")
    assert ended.code == 0 and "Traceback" not in ended.output
    for name, (_, cause) in BROKEN.items():
        assert f"ganfleet: warning: strategy '{name}' of bad-gans 0.3 is broken: {cause}" in ended.output
    assert ended.output.count("warning:") == ended.output.count("broken, see below") == len(BROKEN)
    for name in ("lsgan", *strategies.BUILTIN):
        assert f"│ {name} " in ended.output


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_strategy_that_is_asked_for_is_one_error_with_its_cause(broken, tmp_path, name):
    (tmp_path / "c.yaml").write_text(f"strategy: {{name: {name}}}")
    message = one_error(ganfleet("plan", "--config", str(tmp_path / "c.yaml")), 2)
    assert f"c.yaml:1: strategy.name: strategy '{name}' of bad-gans 0.3 is broken: {BROKEN[name][1]}" in message


# ── What a strategy owes the engine

HEAD = """\
import numpy as np
from mindspore import nn as ms_nn
from ganfleet import nn
from ganfleet.strategies.base import Phase, Player, Strategy

def net():
    return ms_nn.SequentialCell(nn.Dense(16, 1))

class Wrong(Strategy):
    def players(self, stage):
        return {"D": Player(net(), nn.SGD(0.1))}
    def phases(self, stage):
        return [Phase("D", self.loss)]
    def draw(self, rng, n, clock):
        return {"z": rng.standard_normal((n, 1))}
    def loss(self, nets, real, noise):
        score = nets.D(real["image"].reshape(-1, 16)) + noise["z"]
        return score.mean(), {}
"""

WRONG = {
    "two networks with one name": (
        """\
    def players(self, stage):
        return {"D": Player({"net": net()}, nn.SGD(0.1)), "G": Player({"net": net()}, nn.SGD(0.1))}
""",
        "players 'D' and 'G' both have a network named 'net': rename one",
    ),
    "players that are a list": (
        "    def players(self, stage):\n        return [Player(net(), nn.SGD(0.1))]\n",
        "the strategy's players() must return a dict of Player by name, not a list of Player",
    ),
    "a network that is none": (
        "    def players(self, stage):\n        return {'D': Player(net, nn.SGD(0.1))}\n",
        "network 'D' of player 'D' must be a Cell, not a function",
    ),
    "an unknown player": (
        "    def phases(self, stage):\n        return [Phase('D', self.loss), Phase('C', self.loss, every=9)]\n",
        "phase 'C' updates player 'C', which players() does not have: it has D",
    ),
    "a phase that is never due": (
        "    def phases(self, stage):\n        return [Phase('D', self.loss, every=0)]\n",
        "phase 'D' is never due: its every is 0, and must be 1 or more",
    ),
    "two phases with one name": (
        "    def phases(self, stage):\n        return [Phase('D', self.loss), Phase('D', self.loss, every=2)]\n",
        "two phases are named 'D': give one of them another name=",
    ),
    "no phases": (
        "    def phases(self, stage):\n        pass\n",
        "the strategy's phases() must return a list of Phase, not None",
    ),
    "a draw of another length": (
        "    def draw(self, rng, n, clock):\n        return {'z': rng.standard_normal((n + 1, 1))}\n",
        "draw() gave 'z' with shape (3, 1) for a lane of 2 samples (phase 'D'): its first dimension must be the number",
    ),
    "a draw that is no dict": (
        "    def draw(self, rng, n, clock):\n        return rng.standard_normal((n, 1))\n",
        "the strategy's draw() must return a dict of arrays, not a ndarray (phase 'D')",
    ),
    "a loss per sample": (
        "    def loss(self, nets, real, noise):\n        return nets.D(real['image'].reshape(-1, 16)), {}\n",
        "the loss of phase 'D' has shape (2, 1), and must be a scalar: take its mean()",
    ),
    "a loss without stats": (
        "    def loss(self, nets, real, noise):\n        return nets.D(real['image'].reshape(-1, 16)).mean()\n",
        "the loss of phase 'D' must return a scalar tensor and a dict of stats",
    ),
    "a stat that is a number": (
        "    def loss(self, nets, real, noise):\n"
        "        return nets.D(real['image'].reshape(-1, 16)).mean(), {'margin': 1.0}\n",
        "the loss of phase 'D' must return a scalar tensor and a dict of stats",
    ),
}


@pytest.fixture
def wrong(tmp_path, monkeypatch):
    """The strategy of HEAD with one method written anew."""

    def load(method):
        (tmp_path / "wrong_gan.py").write_text(f"{HEAD}\n{method}")
        return strategies.find("wrong_gan:Wrong")

    monkeypatch.syspath_prepend(tmp_path)
    yield load
    sys.modules.pop("wrong_gan", None)


@pytest.mark.parametrize("case", WRONG)
def test_a_strategy_that_gives_something_wrong_is_one_error_that_names_it(wrong, case):
    method, told = WRONG[case]
    with pytest.raises(ConfigError) as raised:
        testing.simulate(wrong(method), steps=1, options={"resolution": 4})
    assert str(raised.value).startswith(told)


def test_an_unknown_player_ends_a_plan_and_a_run_with_2(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    method, told = WRONG["an unknown player"]
    wrong(method)
    (tmp_path / "c.yaml").write_text(
        "strategy: {name: 'wrong_gan:Wrong', resolution: 4}\n"
        "train: {steps: 1, batch_size: 4, lanes: 2}\nlog: {samples: 1}\n"
    )
    for verb in ("plan", "train"):
        assert told in one_error(ganfleet(verb, "--config", "c.yaml"), 2)
