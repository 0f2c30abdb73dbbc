"""What a user can configure: one schema, read from YAML and ``key=value`` overrides, checked in one pass.

Every problem is reported with its place; what a strategy adds under ``strategy:``, and a source under ``data:``, is its
own schema.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, create_model

from ganfleet import document, recipes
from ganfleet.document import Document, Keys, closest, dotted
from ganfleet.errors import CheckpointMismatch, ConfigError
from ganfleet.fleet import check_lanes
from ganfleet.plugins import CALLBACKS, METRICS, SOURCES, STRATEGIES, Registry
from ganfleet.store import migrate

# A run may go on with other values of these: they change how, where and how long it runs, not the weights it gets.
# `fleet.cpu_threads` is not among them, because CPU kernels sum in an order that depends on it. A source adds its own.
FREE_ON_RESUME = (
    "fleet.backend",
    "fleet.world_size",
    "fleet.reduction",
    "fleet.shard_optimizer",
    "log.*",
    "run.*",
    "checkpoint.*",
    "metrics.*",
    "train.kimg",
    "train.steps",
    "train.audit_every",
    "train.on_diverged",
    "train.nonfinite_budget",
    "train.rollbacks",
    "train.init_strict",
    "train.recompute",
    "data.workers",
    "data.prefetch",
    "data.bad_budget",
)

# The sections that name a class whose Options are their schema: where the name stands, and who knows the names.
NAMED = {"strategy": ("name", STRATEGIES), "data": ("source", SOURCES)}


def _expanded(path: str) -> str:
    """``path`` with the home folder for ``~``."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        raise ValueError(f"no file has such a name in the encoding {error.encoding}: set LC_ALL=C.UTF-8") from error
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError as error:
        raise ValueError("there is no such home folder here, write the path out") from error


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError("must name a folder in run.dir: letters, digits and _, later also dots and hyphens")
    return name


# Bounds that no run reaches. Beyond them are slips of the keyboard, which would fill the memory or overflow somewhere.
Positive = Annotated[int, Field(ge=1, lt=2**31)]
Whole = Annotated[int, Field(ge=0, lt=2**31)]
Kimg = Annotated[float, Field(ge=0.001, le=1e12)]  # from one image on
Place = Annotated[str, Field(min_length=1), AfterValidator(_expanded)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StrategyConfig(BaseModel):
    """``strategy:`` as far as every strategy shares it; ``_schema`` joins it with the strategy's own options."""

    name: str


class UncheckedStrategy(StrategyConfig):
    """Stands in where there is no strategy to check the options."""

    model_config = ConfigDict(extra="allow")


class DataConfig(Section):
    """``data:`` as far as every source shares it; ``_schema`` joins it with the source's own options."""

    source: str = "embedded"
    workers: int = Field(2, ge=1, le=1024)
    prefetch: int = Field(2, ge=0, le=1024)
    bad_budget: Whole = 10


class UncheckedData(DataConfig):
    """Stands in where there is no source to check the options."""

    model_config = ConfigDict(extra="allow")


class TrainConfig(Section):
    """A run ends after ``kimg`` thousand images or ``steps`` steps, whichever comes first."""

    kimg: Kimg = 1000.0
    steps: Annotated[int, Field(ge=1, lt=2**53)] | None = None
    batch_size: Positive = 64
    lanes: Positive = 8
    seed: int = Field(0, ge=0, lt=2**64)
    audit_every: Whole = 500
    on_diverged: Literal["stop", "repair", "rollback"] = "stop"
    nonfinite_budget: Whole = 10
    rollbacks: Whole = 0
    rollback_lr: Annotated[float, Field(gt=0, le=1)] = 0.5
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    recompute: bool = False
    init_from: Place | None = None
    init_strict: bool = True


class FleetConfig(Section):
    backend: Literal["auto", "hccl", "mccl", "mpi", "simulated", "alone"] = "auto"
    world_size: Positive | None = None
    reduction: Literal["auto", "exact", "fast"] = "auto"
    cpu_threads: int = Field(1, ge=1, le=4096)
    kernels: Literal["auto", "stock"] = "auto"
    shard_optimizer: bool = False
    hf32: bool = False


class KeepBest(Section):
    """Which checkpoint is the best: that with the lowest or the highest value of ``metric``."""

    metric: str
    mode: Literal["min", "max"]


class CheckpointConfig(Section):
    every_kimg: Kimg = 10.0
    keep: Positive = 3
    keep_every_kimg: Kimg | None = None
    keep_best: KeepBest | None = None
    on_full: Literal["stop", "continue"] = "stop"
    resume: Place = "auto"
    accept: tuple[str, ...] = ()


class LogConfig(Section):
    every_steps: Positive = 50
    samples_every_kimg: Kimg = 5.0
    samples: int = Field(64, ge=1, le=10_000)


class MetricsConfig(Section):
    every_kimg: Kimg | None = None
    names: tuple[str, ...] = ()
    count: int = Field(2000, ge=20, lt=2**31)
    real_count: int | None = Field(None, ge=20, lt=2**31)
    inception: Place | None = None


class RunConfig(Section):
    dir: Place = "runs"
    name: Annotated[str, AfterValidator(_folder_name)] | None = None
    callbacks: tuple[str, ...] = ()


class Config(Section):
    """One validated configuration.

    ``strategy`` is the strategy's own ``Options`` with ``name`` before them, ``data`` the source's with what all
    sources share.
    """

    strategy: UncheckedStrategy
    data: UncheckedData = UncheckedData()
    train: TrainConfig = TrainConfig()
    fleet: FleetConfig = FleetConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    metrics: MetricsConfig = MetricsConfig()
    run: RunConfig = RunConfig()

    @classmethod
    def load(cls, path: str | Path, *overrides: str) -> "Config":
        """The config in the YAML file ``path``, or of the recipe with that name, with ``key=value`` overrides on top.

        Raises:
            ConfigError: all problems found, one per line, each with file:line or the override it stands in.
        """
        return load(path, overrides)

    @classmethod
    def from_dict(cls, sections: Mapping[str, Any], *overrides: str) -> "Config":
        """The config in ``sections``, such as ``{"strategy": {"name": "dcgan"}}``, with overrides on top.

        Raises:
            ConfigError: all problems found, one per line.
        """
        return _read(Document.from_dict(sections), overrides)

    def resolved(self) -> dict[str, dict[str, Any]]:
        """Every key with its value, as plain data."""
        return self.model_dump(mode="json")


class Change(NamedTuple):
    """A key whose value differs between a checkpoint and the config at hand."""

    key: str
    old: Any
    new: Any


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config in the YAML file ``path``, or of the recipe with that name, with ``key=value`` overrides on top.

    Raises:
        ConfigError: all problems found, one per line, each with file:line or the override it stands in.
    """
    return _read(Document.read(recipes.find(path)), overrides)


def check(given: Document, options: type[BaseModel] | None) -> Config:
    """The config in ``given``, with ``strategy:`` checked by a strategy's ``options``, or not at all.

    Raises:
        ConfigError: all problems found, those noted in ``given`` before too.
    """
    source = _options(given, "data")
    _leave_out_defaults_of_others(given, source)
    schema = _schema(options, source)
    config = _validate(schema, given)
    for keys, message in _conflicts(config, schema):
        if not any(given.is_blamed(key) for key in keys):
            given.report(keys[0], message)
    given.raise_problems()
    return config


def dump(config: Config) -> str:
    """``config`` as YAML that ``load`` reads back equal, without options of no effect that have their defaults."""
    sections, strategy = config.resolved(), config.strategy
    for name in getattr(strategy, "without_effect", set)():
        if getattr(strategy, name) == type(strategy).model_fields[name].default:
            del sections["strategy"][name]
    return document.dump(sections)


def from_resolved(resolved: dict, strategy: str | None = None) -> Config:
    """The config whose ``resolved()`` a checkpoint has kept, of this release or an older one.

    It is for the networks, not for more training. Keys that it lacks take their defaults, and those that there are no
    more are left out. Only an installed strategy is imported; where the source is not installed, ``data`` stays
    unchecked, and the optimizers that it names are left out.

    Args:
        strategy: the name of the strategy to use instead, which the user has given; it may be ``module:Class``.

    Raises:
        ConfigError: its strategy is not installed here.
        CheckpointMismatch: values that this version's schema does not take.
    """
    sections = _migrated(resolved)
    if strategy:
        sections["strategy"]["name"] = strategy
    sections["strategy"].pop("optimizers", None)
    options = _options_of(STRATEGIES, _named(sections, "strategy"), trusted=strategy is not None)
    try:
        source = _options_of(SOURCES, _named(sections, "data"), trusted=False)
    except ConfigError:
        source = None
    return _completed(sections, _schema(options, source))


def differences(resolved: dict, config: Config) -> tuple[list[Change], list[Change]]:
    """What a run that goes on with ``config`` changes in the result of the one whose ``resolved()`` a checkpoint kept.

    Both have every key: what the checkpoint lacks counts as the default. Keys of FREE_ON_RESUME, and the source's
    ``free_on_resume``, may differ.

    Returns:
        The changes that keep the run from going on, and those that ``checkpoint.accept`` allows.

    Raises:
        CheckpointMismatch: values that this version's schema does not take.
    """
    sections, new = _migrated(resolved), config.resolved()
    changes = []
    for section, (key, _) in NAMED.items():
        name = _named(sections, section)
        if name != new[section][key]:  # then the rest of the section says other things, and is not compared
            changes.append(Change(f"{section}.{key}", name, new[section][key]))
            sections[section] = new[section]
    before, after = _flat(_completed(sections, type(config)).resolved()), _flat(new)
    changes += [
        Change(key, before.get(key), after.get(key))
        for key in {**before, **after}
        if before.get(key) != after.get(key) and not _is_free(key, config)
    ]
    accepted = [change for change in changes if accepts(config, change.key)]
    return [change for change in changes if change not in accepted], accepted


def accepts(config: Config, key: str) -> bool:
    """Whether ``checkpoint.accept`` allows ``key`` to change."""
    return any(_covers(pattern, key) for pattern in config.checkpoint.accept)


def check_world_size(config: Config, world_size: int) -> None:
    """Whether ``world_size`` ranks can run this config's lanes with the reduction it asks for.

    Raises:
        ConfigError: they cannot.
    """
    check_lanes(config.train.lanes, world_size, config.fleet.reduction)


def schema_keys(schema: type[BaseModel] = Config) -> list[str]:
    """Every dotted key of ``schema``."""
    keys = []
    for name, field in schema.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is not field.annotation:  # a value, or a section that may be null
            keys.append(name)
        keys += [f"{name}.{key}" for key in schema_keys(inner)] if inner else []
    return keys


def _read(given: Document, overrides: Iterable[str]) -> Config:
    for override in overrides:
        given.override(override)
    return check(given, _options(given, "strategy"))


def _named(sections: Mapping[str, Any], section: str) -> str | None:
    """What ``section`` names or, for want of a name, has by default; None if there is no telling."""
    values = sections.get(section, {})
    default = "embedded" if section == "data" else None
    name = values.get(NAMED[section][0], default) if isinstance(values, dict) else None
    return name if isinstance(name, str) else None


def _options(given: Document, section: str) -> type[BaseModel] | None:
    """The schema of what ``section`` names in ``given``, or None after reporting why there is none."""
    (key, registry), name = NAMED[section], _named(given.data, section)
    if name is None:
        return None
    try:
        return _options_of(registry, name)
    except ConfigError as error:
        given.report((section, key), str(error))
        return None


def _options_of(registry: Registry, name: str, trusted: bool = True) -> type[BaseModel]:
    """The schema of the class called ``name``.

    Raises:
        ConfigError: there is no such class, or its Options cannot stand in a config.
    """
    options = registry.find(name, trusted).Options
    if not (isinstance(options, type) and issubclass(options, BaseModel)):
        raise ConfigError(f"the Options of {registry.kind} {name!r} must be a pydantic model")
    shared = StrategyConfig if registry is STRATEGIES else DataConfig
    taken = [key for key in options.model_fields if key in shared.model_fields]
    if taken:
        raise ConfigError(f"{registry.kind} {name!r} has options that a config has already: {', '.join(taken)}")
    return options


@cache
def _schema(strategy: type[BaseModel] | None, source: type[BaseModel] | None) -> type[Config]:
    """Config with its sections checked by these options; cached, so that equal configs have one type."""
    fields = {}
    if strategy:
        fields["strategy"] = create_model("StrategyConfig", __base__=(strategy, StrategyConfig)), ...
    if source:
        data = create_model("DataConfig", __base__=(source, DataConfig))
        fields["data"] = data, Field(default_factory=data)
    return create_model("Config", __base__=Config, **fields) if fields else Config


def _migrated(resolved: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A copy of what a checkpoint keeps of its config, under the names of this release.

    Raises:
        CheckpointMismatch: it is no config.
    """
    sections = {key: values for key, values in migrate.config(resolved).items() if isinstance(values, dict)}
    if _named(sections, "strategy") is None:
        raise CheckpointMismatch(
            "the checkpoint's config names no strategy, so no version of ganfleet made it: choose another"
        )
    return sections


def _completed(sections: dict[str, dict[str, Any]], schema: type[Config]) -> Config:
    """The config of which ``sections`` has some keys; those that ``schema`` does not have are left out.

    Raises:
        CheckpointMismatch: values that ``schema`` does not take.
    """
    try:
        return schema.model_validate_json(json.dumps(_known(sections, schema)))
    except ValidationError as error:
        wrong = [
            f"{dotted(each['loc'])} (missing)"
            if each["type"] == "missing"
            else f"{dotted(each['loc'])} ({json.dumps(each['input'])})"
            for each in error.errors(include_url=False)
        ]
        raise CheckpointMismatch(
            "the checkpoint's config has values that this version of ganfleet or of its strategy does not take: "
            f"{', '.join(wrong)}. Use the version that wrote it"
        ) from error


def _known(values: dict[str, Any], schema: type[BaseModel]) -> dict[str, Any]:
    """``values`` without the keys that ``schema`` does not have, at every depth."""
    if schema.model_config.get("extra") == "allow":
        return values
    inner = {key: _model_in(field.annotation) for key, field in schema.model_fields.items()}
    return {
        key: _known(value, inner[key]) if inner[key] and isinstance(value, dict) else value
        for key, value in values.items()
        if key in inner
    }


def _is_free(key: str, config: Config) -> bool:
    """Whether a run may go on with another value of ``key``."""
    of_source = getattr(SOURCES.find(config.data.source), "free_on_resume", ())
    return any(_covers(free, key) for free in (*FREE_ON_RESUME, *(f"data.{option}" for option in of_source)))


def _covers(pattern: str, key: str) -> bool:
    """Whether ``pattern``, a dotted key or a glob such as ``strategy.*``, means ``key`` or what ``key`` stands in."""
    return fnmatchcase(key, pattern) or key.startswith(f"{pattern}.")


def _leave_out_defaults_of_others(given: Document, source: type[BaseModel] | None) -> None:
    """Forget keys of ``data:`` that only other sources have and that say nothing: older releases wrote all of them."""
    data = given.data.get("data")
    if source is None or not isinstance(data, dict):
        return
    for key in [key for key in data if key not in source.model_fields and key not in DataConfig.model_fields]:
        fields = [options.model_fields[key] for options in _source_options().values() if key in options.model_fields]
        if fields and data[key] in (None, fields[0].default):
            del data[key]


def _source_options() -> dict[str, type[BaseModel]]:
    """The options of ganfleet's own sources, by name."""
    return {name: SOURCES.find(name).Options for name in SOURCES.builtin}


def _validate(schema: type[Config], given: Document) -> Config:
    """The config in ``given``. Where problems had to be reported, it has defaults in place of the wrong values.

    JSON is the strict mode that fits YAML: no number from a string, but a tuple from a list.
    """
    try:
        return schema.model_validate_json(json.dumps(given.data), strict=True)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
    for problem in wrong:
        if problem["loc"] in given.blamed:
            continue
        keys = given.known_part(problem["loc"]) if problem["type"] != "missing" else problem["loc"]
        given.report(keys, _explain(problem, schema, given))
    sound = {
        section: {key: value for key, value in values.items() if not given.is_blamed((section, key))}
        for section, values in given.data.items()
        if section in Config.model_fields and isinstance(values, dict)
    }
    return Config.model_validate_json(json.dumps({**sound, "strategy": {"name": ""}}), strict=True)


def _conflicts(config: Config, schema: type[Config]) -> Iterator[tuple[list[Keys], str]]:
    """Values that are fine alone and not together: the keys involved, the one to blame first, and why."""
    train, fleet, checkpoint, metrics = config.train, config.fleet, config.checkpoint, config.metrics
    if train.batch_size % train.lanes:
        yield (
            [("train", "batch_size"), ("train", "lanes")],
            f"{train.batch_size} samples do not divide among train.lanes={train.lanes}",
        )
    if train.init_from is None and not train.init_strict:
        yield [("train", "init_strict"), ("train", "init_from")], "goes with train.init_from"
    if fleet.world_size is not None:
        try:
            check_world_size(config, fleet.world_size)
        except ConfigError as error:
            yield [("fleet", "world_size"), ("train", "lanes"), ("fleet", "reduction")], str(error)
    if train.on_diverged == "rollback" and not train.rollbacks:
        yield [("train", "on_diverged"), ("train", "rollbacks")], "rollback needs train.rollbacks of 1 or more"
    if checkpoint.keep_every_kimg is not None and checkpoint.keep_every_kimg < checkpoint.every_kimg:
        yield (
            [("checkpoint", "keep_every_kimg"), ("checkpoint", "every_kimg")],
            f"must be checkpoint.every_kimg={checkpoint.every_kimg:g} or more, got {checkpoint.keep_every_kimg:g}",
        )
    if metrics.every_kimg is not None and not metrics.names:
        yield [("metrics", "every_kimg"), ("metrics", "names")], "there is nothing to measure: give metrics.names"
    if checkpoint.keep_best is not None and not metrics.names:
        yield [("checkpoint", "keep_best"), ("metrics", "names")], "nothing is measured: give metrics.names"
    yield from _unknown_names(config, schema)


def _unknown_names(config: Config, schema: type[Config]) -> Iterator[tuple[list[Keys], str]]:
    """Elements of lists that name what there is not, as ``_conflicts`` gives them."""
    for index, pattern in enumerate(config.checkpoint.accept):
        problem = _unmet(pattern, schema)
        if problem:
            yield [("checkpoint", "accept", index)], problem
    for keys, registry, names in (
        (("metrics", "names"), METRICS, config.metrics.names),
        (("run", "callbacks"), CALLBACKS, config.run.callbacks),
    ):
        for index, name in enumerate(names):
            try:
                registry.find(name)
            except ConfigError as error:
                yield [(*keys, index)], str(error)


def _unmet(pattern: str, schema: type[Config]) -> str | None:
    """Why no key of ``schema`` is meant by ``pattern``; None if there is one, or if not all keys are known."""
    keys, section = schema_keys(schema), pattern.partition(".")[0]
    if any(_covers(pattern, key) or _covers(key, pattern) for key in keys):
        return None
    if section in NAMED and schema.model_fields[section].annotation in (UncheckedStrategy, UncheckedData):
        return None
    guess = closest(pattern, keys)
    return f"no such key, did you mean {guess}?" if guess else "no such key: give dotted keys, or globs as strategy.*"


def _explain(problem: dict, schema: type[Config], given: Document) -> str:
    """A pydantic error in the words of a config's author."""
    match problem["type"]:
        case "extra_forbidden":
            return _unknown_key(problem["loc"], schema, given)
        case "missing" if problem["loc"] in (("strategy",), ("strategy", "name")):
            return f"missing: give strategy.name, one of {', '.join(STRATEGIES.names())} or package.module:Class"
        case "missing" if problem["loc"][0] == "data":
            return f"missing: data.source={_named(given.data, 'data')} needs it"
        case "string_type" | "path_type" if problem["input"] is not None:
            place = given.places.get(problem["loc"])
            if place and place.names:  # an override: a shell takes its quotes away, so they need some of their own
                key, _, text = place.label.removeprefix("override ").partition("=")
                return (
                    f"expected a string, got {json.dumps(problem['input'])}: write '{key}=\"{text}\"', with both quotes"
                )
    return explain(problem)


def explain(problem: dict) -> str:
    """A pydantic error about one value in the words of whoever wrote it."""
    kind, value = problem["type"], json.dumps(problem["input"])
    match kind:
        case "missing":
            return "missing"
        case "int_type" | "int_from_float" | "int_parsing":
            return f"expected an integer, got {value}"
        case "float_type" | "float_parsing":
            return f"expected a number, got {value}"
        case "bool_type":
            return f"expected true or false, got {value}"
        case "string_type" | "path_type":
            quotes = ": put it in quotes" if problem["input"] is not None else ""
            return f"expected a string, got {value}{quotes}"
        case "tuple_type" | "list_type":
            return f"expected a list, got {value}"
        case "model_type" | "dict_type":
            return f"expected keys with values, got {value}"
        case "literal_error":
            expected = problem["ctx"]["expected"].replace("'", "")
            guess = closest(str(problem["input"]), expected.replace(" or ", ", ").split(", "))
            return f"expected {expected}, got {value}" + (f", did you mean {guess}?" if guess else "")
        case "too_short":
            return f"expected at least {problem['ctx']['min_length']}, got {value}"
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    got = "" if isinstance(problem["input"], dict) else f", got {value}"  # of keys that do not go together
    return f"{message[:1].lower()}{message[1:]}{got}"


def _unknown_key(loc: tuple, schema: type[Config], given: Document) -> str:
    """Says what the unknown key at ``loc`` was meant to be, if that can be told."""
    word, siblings = str(loc[-1]), _fields_at(schema, loc[:-1])
    if loc[:-1] == ("data",):
        sources = [name for name, options in _source_options().items() if word in options.model_fields]
        if sources:
            return f"goes with data.source={' or '.join(sources)}, not {_named(given.data, 'data')}"
    guess = closest(word, siblings)
    if guess:
        given.blamed.add((*loc[:-1], guess))
        return f"unknown key, did you mean {guess}?"
    elsewhere = [key for key in schema_keys(schema) if key.rpartition(".")[2] == word]
    if elsewhere:
        return f"unknown key, did you mean {elsewhere[0]}?"
    return f"unknown key (known: {', '.join(siblings)})" if siblings else "unknown key"


def _fields_at(schema: type[BaseModel], loc: tuple) -> list[str]:
    model: type[BaseModel] | None = schema
    for key in loc:
        field = model.model_fields.get(key) if model else None
        model = _model_in(field.annotation) if field else None
    return list(model.model_fields) if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that ``annotation`` is or allows, such as the M of ``M | None``."""
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _flat(resolved: dict, prefix: tuple = ()) -> dict[str, Any]:
    flat = {}
    for key, value in resolved.items():
        if isinstance(value, dict):
            flat |= _flat(value, (*prefix, key))
        else:
            flat[dotted((*prefix, key))] = value
    return flat
