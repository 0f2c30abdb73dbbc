"""What the pages say must be so: examples run, commands and keys exist, links lead somewhere."""

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ganfleet as command
from fleets import REPOSITORY

import ganfleet
from ganfleet import cli, errors, recipes, testing
from ganfleet import config as configs
from ganfleet.plugins import SOURCES
from ganfleet.store import checkpoint, weights

PAGES = sorted(REPOSITORY.glob("*.md")) + sorted((REPOSITORY / "docs").rglob("*.md"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLE = re.compile(r"`([\w.]+\.(?:py|yaml))`[^`\n]*:\n\n```\w+\n(.*?)```", re.DOTALL)


def page(name):
    return (REPOSITORY / "docs" / name).read_text(encoding="utf-8")


def names(paths):
    return [str(path.relative_to(REPOSITORY)) for path in paths]


def examples(text, folder):
    """Write the files that a page shows into ``folder``; their names in the page's order."""
    found = EXAMPLE.findall(text)
    for name, content in found:
        (folder / name).write_text(content, encoding="utf-8")
    return [name for name, _ in found]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory whose modules can be imported, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


# ── Examples


@pytest.mark.slow
def test_the_examples_of_the_python_page_run_in_its_order(folder):
    files = examples(page("python.md"), folder)
    assert files == ["train_arrays.py", "draw_images.py", "stop_early.py", "own_loop.py"]
    assert len(files) == len(re.findall("```python", page("python.md")))
    for name in files:
        runpy.run_path(name, run_name="__main__")  # each says by its own asserts what came of it


@pytest.mark.slow
def test_a_run_uses_the_plugins_of_the_plugin_page(folder):
    files = examples(page("plugins.md"), folder)
    assert files == ["rings.py", "ink.py", "table.py", "lion.py", "rings.yaml"]
    ended = command("train", "--config", "rings.yaml")
    assert ended.code == 0, ended.output
    rows = [row.split(",") for row in (folder / "runs" / "rings" / "metrics.csv").read_text().splitlines()]
    assert [row[:2] for row in rows] == [["0.016", "ink"], ["0.032", "ink"]]
    # A generator that knows nothing draws grey, 127.5; a ring of this width covers about a fifth of the image.
    assert 40 < float(rows[0][2]) < 127.5
    [last] = checkpoint.within(folder / "runs" / "rings")
    stored = checkpoint.load(last).tensors["D.optimizer"]
    assert {name.partition("/")[0] for name in stored} == {"updates", "m"}


@pytest.fixture
def lecam(folder):
    """The class of the strategy page's second example, and its options."""
    assert examples(page("new-strategy.md"), folder) == ["lsgan.py", "test_lsgan.py", "lecam.py"]
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((4, 1, 3, 3), dtype=np.float32)
    weights.write(folder / "f.safetensors", {"0.weight": kernel, "0.bias": np.zeros(4, np.float32)})
    options = {"resolution": 8, "latent": 4, "width": 2, "features": str(folder / "f.safetensors"), "decay_kimg": 0.016}
    return runpy.run_path("lecam.py", run_name="lecam")["LeCamLSGAN"], options


@pytest.mark.slow
def test_the_second_strategy_of_its_page_does_what_the_page_says(lecam, folder):
    strategy, options = lecam
    once = testing.simulate(strategy, 1, 1, options=options)
    moved = once.snapshot.tensors["D.buffers"]["anchors.real.value"]
    np.testing.assert_allclose(moved, 1 + 0.01 * (once.stats[0]["scores/real"] - 1), rtol=1e-6)
    assert once.snapshot.facts["frozen"] == {"F": weights.sha256(weights.read(options["features"]))}
    assert not [component for component in once.snapshot.tensors if component.startswith("F")]
    checkpoint.save(folder / "run", once.snapshot, 1, keep=1)
    with ganfleet.load(folder / "run", strategy="lecam:LeCamLSGAN") as loaded:
        shown = loaded.figure("tries", seeds="0-1")
        assert shown.columns == 3 and shown.row_labels == ["seed 0", "seed 1"]
        assert np.array_equal(shown.images[0::3], loaded.sample([0, 1]))
        assert np.array_equal(shown.images[2::3], loaded.sample([0, 1], tries=16))


@pytest.mark.slow
def test_the_second_strategy_trains_to_the_same_bits_on_any_fleet(lecam):
    strategy, options = lecam
    testing.assert_fleet_invisible(strategy, world_sizes=(1, 4), options=options)


# ── Chinese pages

PAIRS = [(REPOSITORY / "README.md", REPOSITORY / "README.zh-CN.md")]
PAIRS += [(path.parent.parent / path.name, path) for path in sorted((REPOSITORY / "docs" / "zh").glob("*.md"))]


def headings(path):
    """The levels of all headings, in order."""
    return [len(marks) for marks in re.findall(r"^(#+) ", FENCED.sub("", read(path)), re.MULTILINE)]


def blocks(path):
    """The fenced blocks, those in lists too, without their comments."""
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```", read(path), re.MULTILINE | re.DOTALL)
    return [(language, re.sub(r" *#.*$", "", block, flags=re.MULTILINE)) for language, block in found]


def rows(path):
    """The code and the numbers of each row of a table."""
    found = re.findall(r"^\|(.*)\|$", FENCED.sub("", read(path)), re.MULTILINE)
    bare = [re.sub(r"\]\([^)]*\)", "]", row) for row in found]
    return [sorted(re.findall(r"`[^`]+`|\d+(?:[.,]\d+)*", row)) for row in bare]


def pages(path):
    """What the page links to. A Chinese page stands for the one that it translates."""
    targets = re.findall(r"\]\(([^)#]+)", FENCED.sub("", read(path)))
    found = {target if "://" in target else str((path.parent / target).resolve()) for target in targets}
    english = {str(chinese): str(page) for page, chinese in PAIRS}
    return {english.get(each, each) for each in found} - {str(REPOSITORY / "README.md")}


def read(path):
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("part", [headings, blocks, rows, pages])
@pytest.mark.parametrize(("page", "chinese"), PAIRS, ids=names(chinese for _, chinese in PAIRS))
def test_a_chinese_page_has_the_same(page, chinese, part):
    assert part(chinese) == part(page)


def test_the_pages_that_a_beginner_needs_are_there_in_chinese():
    wanted = {"README.md", "installation.md", "first-run.md", "ascend.md", "config.md", "faults.md"}
    assert wanted <= {page.name for page, _ in PAIRS}


# ── Recipes


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_says_what_it_is_what_was_run_and_where_its_result_is(name):
    header = recipes.path(name).read_text(encoding="utf-8").partition("\nstrategy:")[0]
    assert re.match(r"# .*\(arXiv:\d{4}\.\d{4,5}\)", header)
    [run] = re.findall(r"^# Run: +(.*(?:\n# {12}.*)*)", header, re.MULTILINE)
    run = re.sub(r"\n# +", " ", run)
    assert run.startswith("not run, ") or ("to its end" in run and "Not on a card" in run)
    results = re.findall(r"docs/\S+\.(?:md|png)", header)
    assert [each for each in results if not (REPOSITORY / each).exists()] == []


# ── Modules, links, commands, keys, codes


def test_the_architecture_page_names_every_module_of_the_engine_and_no_other():
    table = re.findall(
        r"^\| `(\w+\.py)` \|",
        page("architecture.md").partition("## The loop")[2].partition("## The other")[0],
        re.MULTILINE,
    )
    there = {path.name for path in (REPOSITORY / "ganfleet" / "engine").glob("*.py")} - {"__init__.py", "run.py"}
    assert sorted(table) == sorted(there)  # run.py has a section of its own


def test_the_architecture_page_lists_every_other_module_as_its_docstring_says():
    drawn = runpy.run_path(str(REPOSITORY / "docs" / "architecture.py"))
    assert drawn["page"]() == page("architecture.md"), "run `python docs/architecture.py`"


def test_the_picture_and_the_page_show_every_room_in_the_order_of_imports():
    layers = (REPOSITORY / "pyproject.toml").read_text().partition("layers = [")[2].partition("]")[0]
    layers = [set(re.findall(r"ganfleet\.(\w+)", line)) for line in layers.splitlines() if "ganfleet" in line]
    drawn = runpy.run_path(str(REPOSITORY / "docs" / "architecture.py"))
    assert [set(name.split(", ")) for name, *_ in drawn["ROOMS"]] == layers
    assert drawn["svg"]() == drawn["FILE"].read_text(encoding="utf-8")
    for room in set.union(*layers):
        assert re.search(rf"`{room}(/|\.py)`", page("architecture.md")), room


def slug(heading):
    """The anchor that a heading gets on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=names(PAGES))
def test_every_link_leads_somewhere(path):
    text = FENCED.sub("", path.read_text(encoding="utf-8"))
    broken = []
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        there = path.parent / file if file else path
        if not there.exists():
            broken.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", FENCED.sub("", there.read_text(encoding="utf-8")), re.MULTILINE)
            if anchor not in map(slug, headings):
                broken.append(target)
    assert broken == []


def shown_commands():
    for path in PAGES:
        for _, block in FENCED.findall(path.read_text(encoding="utf-8")):
            for line in block.splitlines():
                if re.match(r"(python -m )?ganfleet [a-z]", line) and "…" not in line:
                    words = line.partition("ganfleet ")[2]
                    yield pytest.param(words, id=f"{path.name}: {words}"[:90])


@pytest.mark.parametrize("line", list(dict.fromkeys(shown_commands())))
def test_every_command_that_a_page_shows_is_understood(line):
    words, group = shlex.split(line, comments=True), cli.main
    words = words[: words.index("|")] if "|" in words else words
    context = group.make_context("ganfleet", [*words])
    while hasattr(group, "get_command") and words:
        name, group, words = group.resolve_command(context, words)
        context = group.make_context(name, [*words], parent=context)
        words = words if not hasattr(group, "get_command") else [*words]
    given = context.params
    config = str(given.get("path"))
    config = REPOSITORY / config if (REPOSITORY / config).exists() else config
    if context.info_name in ("train", "plan") and (config in recipes.names() or isinstance(config, Path)):
        configs.load(config, given["overrides"])


def test_the_config_page_lists_every_key():
    text = page("config.md")
    keys = configs.schema_keys()
    for name in SOURCES.builtin:
        keys += [f"data.{key}" for key in SOURCES.find(name).Options.model_fields]
    keys += ["strategy.resolution", "strategy.optimizers"]
    assert [key for key in keys if f"`{key}`" not in text] == []


def test_the_config_page_tells_the_defaults():
    rows = dict(re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|", page("config.md"), re.MULTILINE))
    written = configs.Config.from_dict({"strategy": {"name": "gan"}}).resolved()
    for key in configs.schema_keys():
        section, name, *inner = key.split(".")
        if inner:  # of a section that is null by default
            continue
        if section in ("data", "strategy") and name in ("source", "name"):
            continue
        default = written[section][name]
        shown = default if isinstance(default, str) else json.dumps(default).removesuffix(".0")
        assert rows[key].strip(" `") == shown, key


def test_the_table_of_faults_names_tests_that_exist():
    table = (REPOSITORY / "tests" / "promises" / "FAULTS.md").read_text(encoding="utf-8").partition("| --- |")[2]
    there = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert [name for name in re.findall(r"`(test_\w+)`", table) if f"def {name}(" not in there] == []


def test_the_faults_page_knows_every_exit_code_that_is_used():
    codes = {each.exit_code for each in vars(errors).values() if isinstance(each, type) and hasattr(each, "exit_code")}
    table = {int(code) for code in re.findall(r"\| (\d+)(?:, or [^|]*)? \|", page("faults.md"))}
    assert codes | {0, errors.INTERRUPTED} == table
