import os
import shlex
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from ganfleet import config as configs
from ganfleet import strategies
from ganfleet.config import Config
from ganfleet.errors import CheckpointMismatch, ConfigError, printable
from ganfleet.plugins import SOURCES

HERE = Path(__file__).parent
ROOT = HERE.parent
KNOWN = ", ".join(strategies.names())


@pytest.fixture(autouse=True)
def tiny_gan_can_be_imported(monkeypatch):
    monkeypatch.syspath_prepend(HERE)


@pytest.fixture
def load(tmp_path):
    """Load a config given as text, which has `strategy: {name: tiny_gan:TinyGAN}` where it names none."""

    def load(text="", *overrides, strategy="strategy: {name: 'tiny_gan:TinyGAN'}\n"):
        path = tmp_path / "c.yaml"
        path.write_text(strategy + textwrap.dedent(text))
        return configs.load(path, overrides)

    return load


@pytest.fixture
def problems(load, tmp_path):
    """The lines of the report on a config, without the folder's name and the heading."""

    def problems(*args, **kwargs):
        with pytest.raises(ConfigError) as raised:
            load(*args, **kwargs)
        lines = str(raised.value).replace(f"{tmp_path}/", "").splitlines()
        return lines[1:] if len(lines) > 1 else lines

    return problems


# ── Values


def test_a_name_alone_gets_the_documented_defaults(load):
    config = load()
    assert (config.train.batch_size, config.train.lanes, config.train.seed) == (64, 8, 0)
    assert (config.train.audit_every, config.train.nonfinite_budget) == (500, 10)
    assert (config.fleet.backend, config.fleet.reduction, config.fleet.cpu_threads) == ("auto", "auto", 1)
    assert (config.checkpoint.resume, config.run.dir, config.run.name) == ("auto", "runs", None)


def test_the_rest_of_strategy_is_its_own_options(load):
    config = load(strategy="strategy: {name: 'tiny_gan:TinyGAN', latent: 7, betas: [0, 0.9], batch_sizes: {4: 512}}\n")
    assert config.strategy.name == "tiny_gan:TinyGAN"
    assert (config.strategy.latent, config.strategy.betas, config.strategy.lr) == (7, (0.0, 0.9), 1e-3)
    assert config.strategy.batch_sizes == {4: 512}


def test_overrides_are_read_as_yaml_and_the_last_one_wins(load):
    config = load(
        "train: {seed: 1}",
        "train.seed=2",
        "train.seed=3",
        "strategy.lr=2e-4",
        "strategy.betas=[0.5, 0.9]",
        "data.upscale=true",
        "run.name=no",
        "fleet.world_size=",
    )
    assert config.train.seed == 3
    assert (config.strategy.lr, config.strategy.betas) == (2e-4, (0.5, 0.9))
    assert (config.data.upscale, config.run.name, config.fleet.world_size) == (True, "no", None)


def test_equals_signs_after_the_first_belong_to_the_value(load):
    assert load("", "run.dir=a=b").run.dir == "a=b"


def test_the_committed_configs_load():
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        configs.load(path)


# ── YAML traps


@pytest.mark.parametrize("text", ["2e-4", "2E-4", "0.0002", ".0002", "2.e-4"])
def test_every_way_to_write_a_float_is_a_float(load, text):
    assert load("", f"strategy.lr={text}").strategy.lr == 2e-4


@pytest.mark.parametrize("text", ["no", "on", "off", "yes", "y", "1:30", "1_000", "2024-01-01", "none", "0b1"])
def test_words_that_old_yaml_takes_for_something_else_stay_strings(load, text):
    assert load(f"run: {{dir: {text}}}").run.dir == text


@pytest.mark.parametrize("text", ["yes", "on", "1", "'true'"])
def test_only_true_and_false_are_bools(problems, text):
    assert "data.upscale: expected true or false, got" in problems(f"data: {{upscale: {text}}}")[0]


@pytest.mark.parametrize("text", ["true", "'32'", "32.0", "1_000", "3.5"])
def test_only_an_integer_is_an_integer(problems, text):
    assert "train.batch_size: expected an integer, got" in problems(f"train: {{batch_size: {text}}}")[0]


def test_a_number_is_no_string(problems, load):
    assert problems("run: {name: 123}") == ["c.yaml:2: run.name: expected a string, got 123: put it in quotes"]
    [told] = problems("", "run.name=00012")
    assert told.startswith("override run.name=00012: expected a string, got 12: write '")
    [advised] = shlex.split(told.partition("write ")[2].partition(", with")[0])  # as a shell reads it
    assert load("", advised).run.name == "00012"
    [told] = problems("", "run.name={name}")  # as a template looks
    assert """write 'run.name="{name}"', with both quotes""" in told


def test_hexadecimal_octal_and_signs_are_yaml_1_2(load):
    assert load("train: {seed: 0x1F}").train.seed == 31
    assert load("train: {seed: 0o17}").train.seed == 15
    assert load("train: {seed: +10}").train.seed == 10
    assert load("train: {seed: 010}").train.seed == 10


def test_not_a_number_is_no_number_of_images(problems):
    assert "train.kimg: must be a finite number" in problems("train: {kimg: .nan}")[0]


def test_duplicate_keys_are_errors_that_name_both_lines(problems):
    assert problems("train:\n  seed: 1\n  seed: 2\ntrain: {seed: 3}\n") == [
        "c.yaml:4: train.seed: duplicate key, first given at c.yaml:3",
        "c.yaml:5: train: duplicate key, first given at c.yaml:2",
    ]


def test_broken_yaml_is_reported_with_its_line(problems):
    assert problems("train:\n\tseed: 1\n") == ["c.yaml:3: not valid YAML: a tab, indent with spaces"]
    assert problems("train: {seed: 1\n")[0].startswith("c.yaml:3: not valid YAML: ")
    assert problems("train: *base\n") == [
        "c.yaml:2: not valid YAML: aliases and tags are not supported, write the value out"
    ]
    assert "c.yaml:2: not valid YAML: aliases and tags" in problems("run: {name: !!python/name:os.system }\n")[0]
    assert problems("- a\n", strategy="")[0].startswith("c.yaml:1: expected sections")


def test_files_that_cannot_be_read_are_config_errors(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot read the config: No such file"):
        configs.load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"run: {name: caf\xe9}")
    with pytest.raises(ConfigError, match=r"latin\.yaml: the config is not UTF-8"):
        configs.load(tmp_path / "latin.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    with pytest.raises(ConfigError, match=rf"empty\.yaml: strategy: missing: give strategy\.name, one of {KNOWN} or"):
        configs.load(tmp_path / "empty.yaml")


# ── Reports


def test_all_problems_come_in_one_report_in_the_order_of_the_file(problems):
    text = """\
    train:
      batchsize: 32
      lanes: "8"
    fleet:
      reduction: exakt
    strategy:
      name: tiny_gan:TinyGAN
      latnt: 3
      growth:
        frist: 8
    trian: {}
    """
    assert problems(text, "checkpoint.keep=0", "resolution=64", strategy="") == [
        "c.yaml:2: train.batchsize: unknown key, did you mean batch_size?",
        'c.yaml:3: train.lanes: expected an integer, got "8"',
        'c.yaml:5: fleet.reduction: expected auto, exact or fast, got "exakt", did you mean exact?',
        "c.yaml:8: strategy.latnt: unknown key, did you mean latent?",
        "c.yaml:10: strategy.growth.frist: unknown key, did you mean first?",
        "c.yaml:11: trian: unknown key, did you mean train?",
        "override checkpoint.keep=0: must be greater than or equal to 1, got 0",
        "override resolution=64: unknown key, did you mean strategy.resolution?",
    ]


def test_a_wrong_element_of_a_list_is_named_with_its_own_line(problems):
    text = "strategy:\n  name: tiny_gan:TinyGAN\n  betas:\n    - 0.5\n    - high\n"
    assert problems(text, strategy="") == ['c.yaml:5: strategy.betas.1: expected a number, got "high"']


def test_a_section_without_keys_is_named(problems):
    assert problems("log: 50") == ["c.yaml:2: log: expected keys with values, got 50"]


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.seed", "expected key=value, such as train.seed=1"),
        ("=3", "expected key=value, such as train.seed=1"),
        ("train.=3", "expected key=value, such as train.seed=1"),
        ("train.seed.x=3", "train.seed holds no keys"),
        ("strategy.name.x=3", "strategy.name: expected a string, got {"),
        ("train.seed={", "not valid YAML: "),
        ("train.kmig=3", "unknown key, did you mean kimg?"),
        ("train.kimg=1e-9", "must be greater than or equal to 0.001, got"),
        ("train.steps=1" + 30 * "0", "must be less than"),
        ("train.steps=1" + 6000 * "0", "a number of 6001 digits is too long"),
        ("log.samples=100000000000", "must be less than or equal to 10000, got"),
        ("strategy.lr=.inf", "must be a finite number, got"),
        ("data.workers=99999999999", "must be less than or equal to 1024, got"),
        ("checkpoint.accept=" + 5000 * "[", "not valid YAML: more than 50 lists or mappings in each other"),
        ("data.path=b\udcffd", "it has bytes that are no UTF-8"),
        ("run.name=..", "must name a folder in run.dir"),
        ("run.name=a/b", "must name a folder in run.dir"),
    ],
)
def test_a_wrong_override_is_reported_as_typed(problems, override, message):
    (line,) = problems("train: {seed: 1}", override)
    assert line.startswith(f"override {printable(override)}: {message}")


def test_a_dict_that_holds_itself_is_refused():
    sections = {"strategy": {"name": "gan"}, "train": {}}
    sections["train"]["steps"] = sections["train"]
    with pytest.raises(ConfigError, match="train: more than 50 lists or mappings in each other"):
        configs.Config.from_dict(sections)


def test_values_that_do_not_go_together_are_in_the_same_report(problems):
    text = """\
    train:
      batch_size: 30
      seed: x
    data:
      source: folder
      labels: l.gz
    fleet:
      world_size: 3
    """
    *lines, last = problems(text)
    assert lines == [
        "c.yaml:3: train.batch_size: 30 samples do not divide among train.lanes=8",
        'c.yaml:4: train.seed: expected an integer, got "x"',
        "c.yaml:5: data.path: missing: data.source=folder needs it",
        "c.yaml:7: data.labels: goes with data.source=idx, not folder",
    ]
    assert last.startswith("c.yaml:9: fleet.world_size: train.lanes is 8")


def test_a_wrong_value_is_not_blamed_twice(problems):
    assert len(problems("train: {batchsize: 35, lanes: 7}")) == 1
    assert len(problems("data: {source: foldr, labels: l.gz}")) == 1


def test_exact_sums_need_a_power_of_two(load, problems):
    (line,) = problems("train: {lanes: 6, batch_size: 12}\nfleet: {world_size: 3, reduction: exact}")
    assert line.startswith("c.yaml:3: fleet.world_size: fleet.reduction exact needs a power-of-two number of ranks")
    config = load("train: {lanes: 6, batch_size: 12}\nfleet: {reduction: exact}")
    configs.check_world_size(config, 2)
    for world_size in (3, 4):
        with pytest.raises(ConfigError):
            configs.check_world_size(config, world_size)


# ── Strategies by name


@pytest.mark.parametrize(
    "name, message",
    [
        ("dcgam", f"unknown strategy 'dcgam', did you mean dcgan? (known: {KNOWN}"),
        ("zzz", f"unknown strategy 'zzz' (known: {KNOWN}"),
        ("nowhere.at_all:GAN", "no module 'nowhere' for strategy 'nowhere.at_all:GAN'"),
        ("tiny_gan:Tiny", "module 'tiny_gan' has no class 'Tiny'"),
        ("tiny_gan:NoStrategy", "'tiny_gan:NoStrategy' is not a subclass of"),
        ("tiny_gan:not_a_class", "'tiny_gan:not_a_class' is not a subclass of"),
        ("raises_on_import:GAN", "importing 'raises_on_import' failed: RuntimeError: no licence"),
        ("needs_a_package:GAN", "importing 'needs_a_package' failed: No module named 'not_installed'"),
    ],
)
def test_a_strategy_that_cannot_be_had_is_reported_at_its_line(problems, tmp_path, monkeypatch, name, message):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "raises_on_import.py").write_text("raise RuntimeError('no licence')")
    (tmp_path / "needs_a_package.py").write_text("import not_installed")
    lines = problems(f"strategy:\n  name: {name}\n  latent: x\ntrain: {{sed: 1}}\n", strategy="")
    assert lines[0].startswith(f"c.yaml:2: strategy.name: {message}")
    assert lines[1:] == ["c.yaml:4: train.sed: unknown key, did you mean seed?"]


def test_a_strategy_without_a_name_is_told_the_names(problems):
    assert problems("strategy: {resolution: 8}", strategy="") == [
        f"c.yaml:1: strategy.name: missing: give strategy.name, one of {KNOWN} or package.module:Class"
    ]


def test_a_module_in_the_working_directory_can_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    (tmp_path / "beside_me.py").write_text("from tiny_gan import TinyGAN")
    assert strategies.find("beside_me:TinyGAN").__name__ == "TinyGAN"


def test_installed_packages_bring_strategies(tmp_path, monkeypatch):
    package = tmp_path / "more_gans-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: more-gans\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[ganfleet.strategies]\ntiny = tiny_gan:TinyGAN\ngan = tiny_gan:Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert strategies.find("tiny").__name__ == "TinyGAN"
    assert strategies.names() == sorted([*strategies.BUILTIN, "tiny"])
    assert strategies.find("gan").__module__ == "ganfleet.strategies.gan"


# ── Round trip and resume


def test_a_dumped_config_loads_back_equal(load, tmp_path):
    config = load(
        "run: {name: 2e-4x, dir: '2e-4'}\ntrain: {kimg: 1e7}",
        "strategy.betas=[0, 0.9]",
        "strategy.batch_sizes={4: 512}",
        "data.source=folder",
        "data.path='0o17'",
    )
    (tmp_path / "config.yaml").write_text(configs.dump(config))
    assert configs.load(tmp_path / "config.yaml") == config
    for string in ["no", "1:30", "null", "1e5", "0x1F", "true", "~", "# x", "a: b", "ünï", "1_000", " x", "-"]:
        changed = config.model_copy(update={"data": config.data.model_copy(update={"cache": string})})
        (tmp_path / "config.yaml").write_text(configs.dump(changed))
        assert configs.load(tmp_path / "config.yaml").data.cache == string


def test_a_resolved_config_has_every_key_with_the_strategy_first(load):
    resolved = load().resolved()
    assert list(resolved) == ["strategy", "data", "train", "fleet", "checkpoint", "log", "metrics", "run"]
    assert next(iter(resolved["strategy"])) == "name"
    assert resolved["strategy"]["growth"] == {"first": 4, "stable_kimg": 0.5}


def test_resume_may_change_where_and_how_long_a_run_runs(load):
    old = load("", "train.kimg=1", "run.name=a").resolved()
    new = load(
        "fleet: {backend: mpi, reduction: fast, world_size: 2}\nrun: {dir: elsewhere, name: b}",
        "train.kimg=9",
        "train.steps=7",
        "checkpoint.keep=9",
        "log.samples=4",
        "data.workers=9",
        "data.prefetch=9",
    )
    assert configs.differences(old, new) == ([], [])


@pytest.mark.parametrize(
    "source, free, fixed",
    [
        ("folder", {"path": "b", "cache": "none"}, {"classes": "subfolder", "resize": "fit", "channels": 1}),
        ("zip", {"path": "b", "cache": "none"}, {"classes": "subfolder"}),
        ("idx", {"path": "b"}, {"labels": "l"}),
        ("unpaired", {"path": "b", "path_b": "c"}, {"load_size": 9, "flip": True, "split": "test"}),
        ("embedded", {}, {"upscale": True}),
    ],
)
def test_a_source_says_which_of_its_options_may_change_on_resume(load, source, free, fixed):
    given = [f"data.source={source}", *(["data.path=a"] if source != "embedded" else [])]
    old = load("", *given).resolved()
    moved = load("", *given, *(f"data.{key}={value}" for key, value in free.items()))
    assert configs.differences(old, moved) == ([], [])
    changed = load("", *given, *(f"data.{key}={str(value).lower()}" for key, value in fixed.items()))
    refused, _ = configs.differences(old, changed)
    assert {change.key for change in refused} == {f"data.{key}" for key in fixed}


def test_resume_refuses_what_changes_the_model_and_names_both_values(load):
    old = load().resolved()
    new = load("", "train.seed=1", "train.batch_size=128", "train.lanes=4", "strategy.lr=2e-4", "fleet.cpu_threads=2")
    refused, accepted = configs.differences(old, new)
    assert sorted(refused) == [
        ("fleet.cpu_threads", 1, 2),
        ("strategy.lr", 1e-3, 2e-4),
        ("train.batch_size", 64, 128),
        ("train.lanes", 8, 4),
        ("train.seed", 0, 1),
    ]
    assert accepted == []


def test_of_another_strategy_or_source_only_the_name_is_told(load):
    old = load("", "data.source=folder", "data.path=a", "data.classes=subfolder").resolved()
    refused, _ = configs.differences(old, load("", strategy="strategy: {name: gan}\n"))
    assert refused == [("strategy.name", "tiny_gan:TinyGAN", "gan"), ("data.source", "folder", "embedded")]


def test_what_is_accepted_is_told_apart(load):
    old = load("strategy:\n  name: tiny_gan:TinyGAN\n  batch_sizes: {4: 8}", strategy="").resolved()
    changed = ["strategy.lr=1", "strategy.growth.first=8", "strategy.batch_sizes={4: 16}", "train.seed=2"]
    for accept, left in [
        ("[strategy.lr]", {"strategy.growth.first", "strategy.batch_sizes.4", "train.seed"}),
        ("['strategy.*']", {"train.seed"}),
        ("[strategy.growth, strategy.batch_sizes, 'train.s*']", {"strategy.lr"}),
        ("[strategy.batch_sizes.4, data.resize]", {"strategy.lr", "strategy.growth.first", "train.seed"}),
    ]:
        refused, accepted = configs.differences(old, load("", *changed, f"checkpoint.accept={accept}"))
        assert {change.key for change in refused} == left
        assert len(refused) + len(accepted) == 4
    assert configs.Change("strategy.batch_sizes.4", 8, 16) in accepted


def test_a_key_to_accept_that_there_is_not_is_an_error(problems):
    assert problems("checkpoint:\n  accept: [strategy.lt, sed.*, train.seed]") == [
        "c.yaml:3: checkpoint.accept.0: no such key, did you mean strategy.lr?",
        "c.yaml:3: checkpoint.accept.1: no such key: give dotted keys, or globs as strategy.*",
    ]


# ── Checkpoints of older releases

# What commit a1bd39e kept in its checkpoints for every strategy.
SECTIONS_OF_A1BD39E = {
    "data": {
        "source": "embedded",
        "path": None,
        "path_b": None,
        "split": None,
        "labels": None,
        "classes": None,
        "channels": None,
        "resize": "crop",
        "upscale": False,
        "load_size": None,
        "flip": None,
        "cache": "auto",
        "workers": 2,
        "prefetch": 2,
        "bad_budget": 10,
    },
    "train": {
        "kimg": 0.064,
        "steps": None,
        "batch_size": 8,
        "lanes": 2,
        "seed": 3,
        "audit_every": 500,
        "nonfinite_budget": 10,
    },
    "fleet": {"backend": "auto", "world_size": None, "reduction": "auto", "cpu_threads": 1},
    "checkpoint": {"every_kimg": 0.032, "keep": 3, "resume": "auto"},
    "log": {"every_steps": 2, "samples_every_kimg": 1.0, "samples": 4},
    "run": {"dir": "runs", "name": "dcgan"},
}
DCGAN_OF_A1BD39E = {
    "name": "dcgan",
    "resolution": 8,
    "latent": 4,
    "ngf": 4,
    "ndf": 4,
    "lr": 0.0002,
    "betas": [0.5, 0.999],
    "ema_kimg": 0.05,
}


@pytest.fixture
def old():
    return {"strategy": dict(DCGAN_OF_A1BD39E), **{name: dict(keys) for name, keys in SECTIONS_OF_A1BD39E.items()}}


YAML_OF_A1BD39E = """\
strategy: {name: dcgan, resolution: 8, ngf: 4, ndf: 4, latent: 4, ema_kimg: 0.05}
train: {kimg: 0.064, batch_size: 8, lanes: 2, seed: 3}
"""


def test_a_run_of_an_older_release_goes_on_with_its_yaml(load, old):
    assert configs.differences(old, load(YAML_OF_A1BD39E, strategy="")) == ([], [])


def test_the_config_that_an_older_release_wrote_is_read(tmp_path, old):
    (tmp_path / "config.yaml").write_text(configs.document.dump(old))
    config = configs.load(tmp_path / "config.yaml")
    assert configs.differences(old, config) == ([], [])
    old["data"] |= {"source": "folder", "path": "photos"}
    (tmp_path / "config.yaml").write_text(configs.document.dump(old))
    assert str(configs.load(tmp_path / "config.yaml").data.path) == "photos"


def test_a_key_that_a_checkpoint_lacks_has_its_default(load, old):
    del old["strategy"]["lr"], old["log"]
    assert configs.from_resolved(old).strategy.lr == 2e-4
    assert configs.differences(old, load(YAML_OF_A1BD39E, strategy="")) == ([], [])
    new = load(YAML_OF_A1BD39E, "strategy.lr=1e-3", "train.precision=bfloat16", strategy="")
    refused, _ = configs.differences(old, new)
    assert sorted(refused) == [("strategy.lr", 2e-4, 1e-3), ("train.precision", "float32", "bfloat16")]


def test_a_key_that_is_no_more_is_left_out(load, old):
    old["strategy"]["dropout"], old["train"]["amp"], old["notes"] = 0.5, True, {"by": "me"}
    assert configs.from_resolved(old).strategy.latent == 4
    assert configs.differences(old, load(YAML_OF_A1BD39E, strategy="")) == ([], [])


def test_a_value_that_is_no_more_is_an_error_that_names_it(load, old):
    old["strategy"]["latent"], old["train"]["precision"] = "many", "float8"
    for read in (configs.from_resolved, lambda old: configs.differences(old, load(YAML_OF_A1BD39E, strategy=""))):
        with pytest.raises(CheckpointMismatch, match=r'strategy\.latent \("many"\), train\.precision \("float8"\)'):
            read(old)


def test_what_is_no_config_is_an_error():
    with pytest.raises(CheckpointMismatch, match="names no strategy"):
        configs.from_resolved({"train": {}})


def test_a_checkpoint_cannot_have_code_imported(tmp_path, monkeypatch, old):
    (tmp_path / "evil.py").write_text("open('imported', 'w').close()\nfrom tiny_gan import TinyGAN\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    old["strategy"] = {"name": "evil:TinyGAN", "latent": 7}
    with pytest.raises(ConfigError, match=r"a checkpoint cannot have code imported: .* add --strategy evil:TinyGAN"):
        configs.from_resolved(old)
    assert not (tmp_path / "imported").exists()
    for key in ("source", "path"):
        old["data"][key] = "evil:TinyGAN"
    old["metrics"], old["run"]["callbacks"] = {"names": ["evil:TinyGAN"]}, ["evil:TinyGAN"]
    old["strategy"]["name"] = "tiny_gan:TinyGAN"
    config = configs.from_resolved(old, strategy="tiny_gan:TinyGAN")
    assert config.strategy.latent == 7 and config.data.source == "evil:TinyGAN"
    assert not (tmp_path / "imported").exists()
    assert configs.from_resolved(old, strategy="evil:TinyGAN").strategy.name == "evil:TinyGAN"
    assert (tmp_path / "imported").exists()


# ── Keys of this release


def test_what_does_nothing_alone_is_refused(problems):
    assert problems("train: {init_strict: false}") == ["c.yaml:2: train.init_strict: goes with train.init_from"]
    assert problems("train: {on_diverged: rollback}") == [
        "c.yaml:2: train.on_diverged: rollback needs train.rollbacks of 1 or more"
    ]
    assert problems("metrics: {every_kimg: 1}") == [
        "c.yaml:2: metrics.every_kimg: there is nothing to measure: give metrics.names"
    ]
    assert problems("checkpoint: {every_kimg: 10, keep_every_kimg: 5}") == [
        "c.yaml:2: checkpoint.keep_every_kimg: must be checkpoint.every_kimg=10 or more, got 5"
    ]
    assert problems("train: {precision: fp16}")[0].startswith(
        'c.yaml:2: train.precision: expected float32, bfloat16 or float16, got "fp16"'
    )
    assert problems("run: {callbacks: notify}") == ['c.yaml:2: run.callbacks: expected a list, got "notify"']


def test_callbacks_and_metrics_that_there_are_not_are_reported_at_their_lines(problems):
    assert problems("metrics:\n  names:\n    - fidd\nrun:\n  callbacks:\n    - nowhere:Notify") == [
        "c.yaml:4: metrics.names.0: unknown metric 'fidd', did you mean fid? (known: dc, diversity, fid, "
        "is, kid, l1, ms_ssim, ppl, pr, psnr, r_precision, ssim, "
        "or package.module:Class)",
        "c.yaml:7: run.callbacks.0: no module 'nowhere' for callback 'nowhere:Notify': install it, or correct the name",
    ]


def test_home_is_written_out_in_every_path(load, monkeypatch):
    monkeypatch.setenv("HOME", "/home/li")
    config = load("", "run.dir=~/x", "checkpoint.resume=~/x/run", "train.init_from=~/y")
    assert (config.run.dir, config.checkpoint.resume, config.train.init_from) == (
        "/home/li/x",
        "/home/li/x/run",
        "/home/li/y",
    )


def test_without_a_home_only_a_path_that_needs_it_is_refused(load, problems, monkeypatch):
    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    assert load("", "run.dir=x").run.dir == "x"
    assert problems("run: {dir: ~/x}")[0].startswith("c.yaml:2: run.dir: there is no such home folder here")


def test_a_place_that_the_locale_cannot_name_is_refused(problems, monkeypatch):
    monkeypatch.setattr(os, "fsencode", lambda path: path.encode("latin-1"))
    told = "c.yaml:2: run.dir: no file has such a name in the encoding latin-1: set LC_ALL=C.UTF-8"
    assert problems("run: {dir: 数据}")[0].startswith(told)


# ── Sources by name

SOURCE = """\
from typing import Literal
from pydantic import BaseModel
from ganfleet.data import Source, SourceOptions

class Tape(Source):
    class Options(SourceOptions):
        reel: int
        speed: Literal["slow", "fast"] = "slow"

    free_on_resume = ("speed",)

    @classmethod
    def open(cls, options, resolution):
        ...

class Greedy(Tape):
    class Options(SourceOptions):
        workers: str = "many"

class Loose(Tape):
    class Options(BaseModel):
        reel: int = 1

class Wrong(Tape):
    Options = dict

class NotOpen:
    Options = SourceOptions
"""


@pytest.fixture
def tape(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tapes.py").write_text(SOURCE)
    yield
    sys.modules.pop("tapes", None)


def test_a_source_brings_its_own_options(load, problems, tape):
    config = load("data: {source: 'tapes:Tape', reel: 3, workers: 1}")
    assert (config.data.reel, config.data.speed, config.data.workers, config.data.prefetch) == (3, "slow", 1, 2)
    assert problems("data:\n  source: tapes:Tape\n  speed: quick\n  path: x\n  prefetc: 3") == [
        "c.yaml:2: data.reel: missing: data.source=tapes:Tape needs it",
        'c.yaml:4: data.speed: expected slow or fast, got "quick"',
        "c.yaml:5: data.path: goes with data.source=folder or zip or idx or unpaired or captioned or paired, "
        "not tapes:Tape",
        "c.yaml:6: data.prefetc: unknown key, did you mean prefetch?",
    ]
    faster = load("data: {source: 'tapes:Tape', reel: 3, speed: fast}")
    assert configs.differences(config.resolved(), faster) == ([], [])
    other = load("data: {source: 'tapes:Tape', reel: 4}")
    assert configs.differences(config.resolved(), other)[0] == [("data.reel", 3, 4)]


def test_a_source_without_extra_forbid_still_reports_unknown_keys(problems, tape):
    assert problems("data: {source: 'tapes:Loose', rel: 3}") == ["c.yaml:2: data.rel: unknown key, did you mean reel?"]


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "foldr",
            "unknown source 'foldr', did you mean folder? (known: captioned, embedded, folder, given, idx, paired, unp",
        ),
        ("tapes:Tap", "module 'tapes' has no class 'Tap'"),
        ("tapes:Greedy", "source 'tapes:Greedy' has options that a config has already: workers"),
        ("tapes:Wrong", "the Options of source 'tapes:Wrong' must be a pydantic model"),
        ("tapes:NotOpen", "'tapes:NotOpen' is no source: it has no open"),
    ],
)
def test_a_source_that_cannot_be_had_is_reported_at_its_line(problems, tape, name, message):
    lines = problems(f"data:\n  source: {name}\n  reel: x\ntrain: {{sed: 1}}")
    assert lines[0].startswith(f"c.yaml:3: data.source: {message}")
    assert lines[1:] == ["c.yaml:5: train.sed: unknown key, did you mean seed?"]


# ── In a program


def test_a_config_from_a_dict_is_that_of_the_file(load):
    sections = {
        "strategy": {"name": "tiny_gan:TinyGAN", "betas": (0, 0.9), "batch_sizes": {4: 512}},
        "data": {"source": "folder", "path": Path("photos")},
    }
    config = Config.from_dict(sections, "train.seed=3")
    assert config == load(
        "strategy: {name: 'tiny_gan:TinyGAN', betas: [0, 0.9], batch_sizes: {4: 512}}\n"
        "data: {source: folder, path: photos}\ntrain: {seed: 3}",
        strategy="",
    )
    assert isinstance(config, Config)
    assert sections["data"] == {"source": "folder", "path": Path("photos")}


def test_what_is_wrong_in_a_dict_is_told_as_of_a_file():
    sections = {
        "strategy": {"name": "tiny_gan:TinyGAN", "betas": [0.5, "high"]},
        "train": {"batchsize": 32, "lanes": "8"},
        "log": {"samples": print},
    }
    with pytest.raises(ConfigError) as raised:
        Config.from_dict(sections, "train.sed=1")
    assert str(raised.value).splitlines() == [
        "5 problems in the config",
        'in the dict given: strategy.betas.1: expected a number, got "high"',
        "in the dict given: train.batchsize: unknown key, did you mean batch_size?",
        'in the dict given: train.lanes: expected an integer, got "8"',
        "in the dict given: log.samples: expected a number, a string, true, false, None, a list or a dict, got "
        "<built-in function print>",
        "override train.sed=1: unknown key, did you mean seed?",
    ]
    with pytest.raises(ConfigError, match="in the dict given: expected sections"):
        Config.from_dict(["train"])
    with pytest.raises(ConfigError, match=r"in the dict given: strategy: missing: give strategy\.name"):
        Config.from_dict({})


def test_config_load_takes_overrides_one_by_one(tmp_path):
    (tmp_path / "c.yaml").write_text("strategy: {name: 'tiny_gan:TinyGAN'}")
    assert Config.load(tmp_path / "c.yaml", "train.seed=3", "train.lanes=4").train.lanes == 4


# ── Documentation


def test_every_key_is_documented():
    text = (ROOT / "docs" / "config.md").read_text()
    options = [f"data.{key}" for name in SOURCES.builtin for key in SOURCES.find(name).Options.model_fields]
    undocumented = [key for key in [*configs.schema_keys(), *options] if f"`{key}`" not in text]
    assert not undocumented


@pytest.mark.parametrize(
    "options, unread",
    [
        ({"name": "wgan"}, {"hidden"}),
        ({"name": "wgan", "critic": "mlp"}, {"ndf"}),
        ({"name": "cgan", "architecture": "mlp"}, {"ngf", "ndf"}),
        ({"name": "cgan", "hidden": [8]}, set()),  # as it was given: a run goes on with what its config.yaml says
        ({"name": "stylegan"}, {"gp_weight", "drift"}),
        (
            {"name": "stylegan", "variant": "progan", "r1_gamma": 3.0},
            {"mapping_layers", "mapping_lr", "w_avg_beta", "style_mixing", "noise", "r1_every"},
        ),
    ],
)
def test_a_runs_config_shows_only_options_that_something_reads(options, unread, tmp_path):
    config = Config.from_dict({"strategy": options | {"resolution": 32}})
    (tmp_path / "config.yaml").write_text(configs.dump(config), encoding="utf-8")
    assert Config.load(tmp_path / "config.yaml") == config
    shown = yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))["strategy"]
    assert config.resolved()["strategy"].keys() - shown.keys() == unread
