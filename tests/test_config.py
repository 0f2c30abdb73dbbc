import sys
import textwrap
from pathlib import Path

import pytest

from ganfleet import config as configs
from ganfleet import strategies
from ganfleet.errors import ConfigError

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


def test_a_number_is_no_string(problems):
    assert problems("run: {name: 123}") == ["c.yaml:2: run.name: expected a string, got 123: put it in quotes"]
    assert problems("", "run.name=00012") == ["override run.name=00012: expected a string, got 12: put it in quotes"]


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
        ("train.seed={", "not valid YAML: "),
        ("train.kmig=3", "unknown key, did you mean kimg?"),
    ],
)
def test_a_wrong_override_is_reported_as_typed(problems, override, message):
    (line,) = problems("train: {seed: 1}", override)
    assert line.startswith(f"override {override}: {message}")


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
        "run: {name: 2e-4x, dir: '2e-4'}\ntrain: {kimg: 1e-7}",
        "strategy.betas=[0, 0.9]",
        "strategy.batch_sizes={4: 512}",
        "data.source=folder",
        "data.path='0o17'",
    )
    (tmp_path / "config.yaml").write_text(configs.dump(config))
    assert configs.load(tmp_path / "config.yaml") == config
    for string in ["no", "1:30", "null", "1e5", "0x1F", "true", "~", "# x", "a: b", "ünï", "1_000", " x", "-"]:
        changed = config.model_copy(update={"run": config.run.model_copy(update={"dir": string})})
        (tmp_path / "config.yaml").write_text(configs.dump(changed))
        assert configs.load(tmp_path / "config.yaml").run.dir == string


def test_a_resolved_config_has_every_key_with_the_strategy_first(load):
    resolved = load().resolved()
    assert list(resolved) == ["strategy", "data", "train", "fleet", "checkpoint", "log", "run"]
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
    ).resolved()
    assert configs.differences(old, new) == []


def test_resume_refuses_what_changes_the_model_and_names_both_values(load):
    old = load().resolved()
    new = load("", "train.seed=1", "train.batch_size=128", "train.lanes=4", "strategy.lr=2e-4", "fleet.cpu_threads=2")
    assert sorted(configs.differences(old, new.resolved())) == [
        ("fleet.cpu_threads", 1, 2),
        ("strategy.lr", 1e-3, 2e-4),
        ("train.batch_size", 64, 128),
        ("train.lanes", 8, 4),
        ("train.seed", 0, 1),
    ]


def test_a_key_that_one_side_lacks_is_a_difference():
    assert configs.differences({"train": {}}, {"train": {"seed": 3}}) == [("train.seed", None, 3)]


# ── Documentation


def test_every_key_is_documented():
    text = (ROOT / "docs" / "config.md").read_text()
    undocumented = [key for key in configs.schema_keys() if f"`{key}`" not in text]
    assert not undocumented
