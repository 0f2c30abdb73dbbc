"""Plug-ins of every kind: found by name, never fatal to others, and never imported because a checkpoint says so."""

import json
import re
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from commands import ganfleet
from installed import forget, install

from ganfleet.config import Config, from_resolved
from ganfleet.data import open_section
from ganfleet.engine import run
from ganfleet.errors import ConfigError
from ganfleet.plugins import CALLBACKS, METRICS, OPTIMIZERS, SOURCES, STRATEGIES
from ganfleet.store import checkpoint

REGISTRIES = (STRATEGIES, SOURCES, METRICS, CALLBACKS, OPTIMIZERS)
NAMES = {
    STRATEGIES.group: ("shade", "Shade"),
    SOURCES.group: ("squares", "Squares"),
    METRICS.group: ("mean_pixel", "MeanPixel"),
    CALLBACKS.group: ("diary", "Diary"),
    OPTIMIZERS.group: ("sign_sgd", "SignSGD"),
}
every = pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)


@pytest.fixture(autouse=True)
def path_as_before(monkeypatch):
    """``find`` lets the working directory be searched."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return install("everything", tmp_path_factory.mktemp("everything"))


@pytest.fixture
def everything(site, monkeypatch):
    """The package of tests/plugins/everything, which has one of each kind."""
    monkeypatch.syspath_prepend(site)
    yield
    forget("everything")


def offer(folder: Path, name: str, entry_points: str) -> None:
    """An installed package ``name`` with these entry points and nothing else."""
    package = folder / f"{name.replace('-', '_')}-0.3.dist-info"
    package.mkdir()
    (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.3\n")
    (package / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """A package with three broken entry points in every group, and one whose entry points cannot be read."""
    lines = []
    for registry in REGISTRIES:
        lines += [f"[{registry.group}]", "gone = nowhere:X", "leaves = leaves:X", "odd = collections:OrderedDict.items"]
    offer(tmp_path, "bad-things", "\n".join(lines))
    offer(tmp_path, "worse-things", f"[{STRATEGIES.group}]\nno equals sign\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit('no licence')")
    monkeypatch.syspath_prepend(tmp_path)


@every
def test_what_ganfleet_brings_is_found_by_name(registry):
    for name in registry.builtin:
        assert isinstance(registry.find(name), type)
    assert [each.name for each in registry.listed() if each.problem is None] == list(registry.builtin)


@every
def test_what_a_package_brings_is_found_by_name(registry, everything):
    name, class_name = NAMES[registry.group]
    assert registry.names() == sorted([*registry.builtin, name])
    assert registry.find(name).__name__ == class_name
    assert registry.find(name, trusted=False) is registry.find(name)
    [listed] = [each for each in registry.listed() if each.name == name]
    assert listed.origin == "everything 2.0" and listed.problem is None
    assert listed.summary == registry.find(name).__doc__.splitlines()[0]


@every
def test_a_misspelt_name_is_told_what_it_was_meant_to_be(registry, everything):
    name, _ = NAMES[registry.group]
    known = ", ".join(registry.names())
    message = f"unknown {registry.kind} {name + 'x'!r}, did you mean {name}? (known: {known}, or package.module:Class)"
    with pytest.raises(ConfigError, match=re.escape(message)):
        registry.find(name + "x")


@every
def test_broken_plug_ins_are_listed_with_their_cause_and_hide_no_other(registry, everything, broken):
    listed = {each.name: each for each in registry.listed()}
    name, _ = NAMES[registry.group]
    assert {name for name, each in listed.items() if each.problem} == {"gone", "leaves", "odd", "?"}
    assert {*registry.builtin, name} <= listed.keys()
    prefix = f"{registry.kind} 'gone' of bad-things 0.3 is broken: "
    assert (
        listed["gone"].problem
        == f"{prefix}no module 'nowhere' for {registry.kind} 'nowhere:X': install it, or correct the name"
    )
    assert listed["leaves"].problem.endswith("is broken: importing 'leaves' failed: SystemExit: no licence")
    assert listed["odd"].problem.startswith(f"{registry.kind} 'odd' of bad-things 0.3 is broken: ")
    assert listed["?"].problem.startswith("the entry points of worse-things 0.3 cannot be read: ")
    with pytest.raises(ConfigError, match="'gone' of bad-things"):
        registry.find("gone")


def test_ganfleet_strategies_warns_of_broken_ones_and_lists_the_rest(everything, broken):
    ended = ganfleet("strategies")
    assert ended.code == 0 and "Traceback" not in ended.output
    assert ended.output.count("ganfleet: warning: ") == 4
    assert "│ shade " in ended.output and "│ dcgan " in ended.output


def test_classes_of_another_kind_are_refused(tmp_path, monkeypatch):
    (tmp_path / "kinds.py").write_text("class Empty:\n    class Inner:\n        slots = update = None\nnumber = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    for registry, target, message in [
        (STRATEGIES, "kinds:Empty", "'kinds:Empty' is not a subclass of ganfleet.strategies.base.Strategy"),
        (METRICS, "kinds:Empty", "'kinds:Empty' is not a subclass of ganfleet.metrics.Metric"),
        (CALLBACKS, "kinds:Empty", "'kinds:Empty' is not a subclass of ganfleet.engine.callbacks.Callback"),
        (SOURCES, "kinds:Empty", "'kinds:Empty' is no source: it has no Options and no open"),
        (OPTIMIZERS, "kinds:Empty", "'kinds:Empty' is no optimizer: it has no slots and no update"),
        (OPTIMIZERS, "kinds:number", "'kinds:number' is no class"),
        (OPTIMIZERS, "kinds:Empty.Outer", rf"has no class 'Empty.Outer' \({tmp_path}/kinds.py\)"),
    ]:
        with pytest.raises(ConfigError, match=message):
            registry.find(target)
    assert OPTIMIZERS.find("kinds:Empty.Inner").__name__ == "Inner"


# ── Trust


@every
def test_what_only_a_checkpoint_names_is_not_imported(registry, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=f"names the {registry.kind} 'evil:X'.*cannot have code imported"):
        registry.find("evil:X", trusted=False)
    for name in registry.builtin:
        assert registry.find(name, trusted=False) is registry.find(name)


def test_the_working_directory_is_searched_last_and_only_for_what_the_user_names(tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("class X: pass")
    (tmp_path / "mine.py").write_text("import queue\nclass X:\n    slots = update = queue.Queue")
    code = f"""
import os, sys
from ganfleet.errors import ConfigError
from ganfleet.plugins import OPTIMIZERS
before = list(sys.path)
for name in ("mine:X", "adam"):
    try:
        OPTIMIZERS.find(name, trusted=False)
    except ConfigError:
        pass
assert sys.path == before and "mine" not in sys.modules
assert OPTIMIZERS.find("mine:X").slots.__module__ == "queue"
assert sys.path == [*before, {str(tmp_path)!r}]
try:
    OPTIMIZERS.find("queue:X")
except ConfigError as error:
    print(error)
"""
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text(code)
    ended = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(r"module 'queue' has no class 'X' \(.*/python3[^ ]*/queue\.py\)\n", ended.stdout)


def test_finding_what_is_there_imports_nothing():
    code = (
        "import sys; from ganfleet.plugins import STRATEGIES as s; s.names(); "
        "assert not {'mindspore', 'numpy'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ── The package of tests/plugins/everything


def test_a_config_checks_what_the_package_brings(everything):
    sections = {
        "strategy": {"name": "shade", "resolution": 8, "lr": 0.5},
        "data": {"source": "squares", "count": 5, "colour": "red"},
        "metrics": {"every_kimg": 1, "names": ["mean_pixel"]},
        "run": {"callbacks": ["diary"]},
    }
    config = Config.from_dict(sections)
    assert (config.strategy.lr, config.data.colour, config.data.workers) == (0.5, "red", 2)
    source = open_section(config.data, 8)
    assert (len(source), source.channels, source.classes) == (5, 3, 2)
    assert [int(source[i]["image"][0].sum(dtype=int)) for i in range(5)] == [255 * side**2 for side in range(1, 6)]
    assert (source.at(4)[1]["image"][0, :2, :2] == [[255, 0], [0, 0]]).all()
    with pytest.raises(ConfigError) as raised:
        Config.from_dict(sections | {"data": {"source": "squares", "count": 0, "color": "red"}})
    assert str(raised.value).splitlines()[1:] == [
        "in the dict given: data.count: must be greater than or equal to 1, got 0",
        "in the dict given: data.color: unknown key, did you mean colour?",
    ]


def test_a_checkpoint_may_name_what_is_installed(everything):
    resolved = Config.from_dict({"strategy": {"name": "shade"}, "data": {"source": "squares"}}).resolved()
    config = from_resolved(resolved)
    assert config.strategy.lr == 0.1 and config.data.count == 64
    resolved["strategy"]["optimizers"] = {"G": {"name": "evil:X"}}
    assert from_resolved(resolved).strategy.optimizers == {}


def test_the_optimizer_is_one(everything):
    optimizer = OPTIMIZERS.find("sign_sgd")(lr=0.5)
    weights, slots = optimizer.update(
        ms.Tensor(np.float32([3, -2, 0])), ms.Tensor(np.float32([1, 1, 1])), (), ms.Tensor(1.0), {"lr": ms.Tensor(0.5)}
    )
    assert weights.asnumpy().tolist() == [0.5, 1.5, 1.0] and slots == optimizer.slots() == ()


def test_all_of_it_runs_together(everything, tmp_path):
    """Weights move by steps of one length: after three steps of 0.5, each is a multiple of that from its start."""
    config = Config.from_dict(
        {
            "strategy": {"name": "shade", "resolution": 8, "optimizers": {"G": {"name": "sign_sgd", "lr": 0.5}}},
            "data": {"source": "squares", "count": 16, "colour": "red"},
            "train": {"steps": 3, "batch_size": 4, "lanes": 2},
            "metrics": {"names": ["mean_pixel"], "every_kimg": 0.008},
            "log": {"samples": 4, "every_steps": 1},
            "run": {"dir": str(tmp_path), "name": "all", "callbacks": ["diary"]},
        }
    )
    path = run.train(config)
    assert (path / "diary.txt").read_text() == "ended after step 3\n"
    lines = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "Metrics/mean_pixel" in line] == [2, 3]
    bias = checkpoint.load(path / "checkpoints" / "step-00000003").tensors["G.weights"]["G.0.bias"]
    assert set(np.abs(bias / 0.5).round(4)) <= {0, 1, 2, 3} and np.abs(bias).max() == 1.5
