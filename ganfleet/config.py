"""What a user can configure: one schema, read from YAML and ``key=value`` overrides, checked in one pass.

Every problem is reported with its place; what a strategy adds under ``strategy:`` is its own schema.
"""

import json
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from ganfleet import document, strategies
from ganfleet.document import Document, closest, dotted
from ganfleet.errors import CheckpointMismatch, ConfigError
from ganfleet.fleet import check_lanes

# A run may go on with other values of these: they change how, where and how long it runs, not the weights it gets.
# `fleet.cpu_threads` is not among them, because CPU kernels sum in an order that depends on it.
FREE_ON_RESUME = (
    "fleet.backend",
    "fleet.world_size",
    "fleet.reduction",
    "log.*",
    "run.*",
    "checkpoint.*",
    "train.kimg",
    "train.steps",
    "train.audit_every",
    "train.nonfinite_budget",
    "data.path",
    "data.path_b",
    "data.cache",
    "data.workers",
    "data.prefetch",
    "data.bad_budget",
)

# The data sources that these keys mean something to.
SOURCES_OF = {
    "path": ("folder", "zip", "idx", "unpaired"),
    "path_b": ("unpaired",),
    "split": ("unpaired",),
    "classes": ("folder", "zip"),
    "labels": ("idx",),
    "load_size": ("unpaired",),
    "flip": ("unpaired",),
}


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StrategyConfig(BaseModel):
    """``strategy:`` as far as every strategy shares it; ``_schema`` joins it with the strategy's own options."""

    name: str


class UncheckedStrategy(StrategyConfig):
    """Stands in where there is no strategy to check the options."""

    model_config = ConfigDict(extra="allow")


class DataConfig(Section):
    source: Literal["embedded", "folder", "idx", "zip", "unpaired"] = "embedded"
    path: str | None = None
    path_b: str | None = None
    split: Literal["train", "test"] | None = None
    labels: str | None = None
    classes: Literal["subfolder"] | None = None
    channels: Literal[1, 3] | None = None
    resize: Literal["crop", "fit", "stretch", "none"] = "crop"
    upscale: bool = False
    load_size: int | None = Field(None, ge=1)
    flip: bool | None = None
    cache: str = Field("auto", min_length=1)
    workers: int = Field(2, ge=1)
    prefetch: int = Field(2, ge=1)
    bad_budget: int = Field(10, ge=0)


class TrainConfig(Section):
    """A run ends after ``kimg`` thousand images or ``steps`` steps, whichever comes first."""

    kimg: float = Field(1000.0, gt=0)
    steps: int | None = Field(None, ge=1)
    batch_size: int = Field(64, ge=1)
    lanes: int = Field(8, ge=1)
    seed: int = Field(0, ge=0, lt=2**64)
    audit_every: int = Field(500, ge=0)
    nonfinite_budget: int = Field(10, ge=0)


class FleetConfig(Section):
    backend: Literal["auto", "hccl", "mccl", "mpi", "simulated", "alone"] = "auto"
    world_size: int | None = Field(None, ge=1)
    reduction: Literal["auto", "exact", "fast"] = "auto"
    cpu_threads: int = Field(1, ge=1)


class CheckpointConfig(Section):
    every_kimg: float = Field(10.0, gt=0)
    keep: int = Field(3, ge=1)
    resume: str = Field("auto", min_length=1)


class LogConfig(Section):
    every_steps: int = Field(50, ge=1)
    samples_every_kimg: float = Field(5.0, gt=0)
    samples: int = Field(64, ge=1)


class RunConfig(Section):
    dir: str = Field("runs", min_length=1)
    name: str | None = Field(None, pattern=r"^\w[\w.-]*$")


class Config(Section):
    """One validated configuration. ``strategy`` is the strategy's own ``Options`` with ``name`` before them."""

    strategy: UncheckedStrategy
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    fleet: FleetConfig = FleetConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()
    run: RunConfig = RunConfig()

    def resolved(self) -> dict[str, dict[str, Any]]:
        """Every key with its value, as plain data."""
        return self.model_dump(mode="json")


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config in the YAML file ``path`` with ``key=value`` overrides on top.

    Raises:
        ConfigError: all problems found, one per line, each with file:line or the override it stands in.
    """
    given = Document.read(path)
    for override in overrides:
        given.override(override)
    return check(given, _options(given))


def check(given: Document, options: type[BaseModel] | None) -> Config:
    """The config in ``given``, with ``strategy:`` checked by a strategy's ``options``, or not at all.

    Raises:
        ConfigError: all problems found, those noted in ``given`` before too.
    """
    config = _validate(_schema(options), given)
    for keys, message in _conflicts(config):
        if not any(given.is_blamed(key) for key in keys):
            given.report(keys[0], message)
    given.raise_problems()
    return config


def dump(config: Config) -> str:
    """``config`` as YAML that ``load`` reads back equal."""
    return document.dump(config.resolved())


def from_resolved(resolved: dict) -> Config:
    """The config whose ``resolved()`` this is, as a checkpoint keeps it.

    Raises:
        ConfigError: its strategy is not installed here.
        CheckpointMismatch: this version's schema has no such keys or values.
    """
    try:
        return _schema(strategies.find(resolved["strategy"]["name"]).Options).model_validate_json(json.dumps(resolved))
    except ValidationError as error:
        keys = ", ".join(dotted(problem["loc"]) for problem in error.errors())
        raise CheckpointMismatch(
            f"the checkpoint's config does not fit this version of ganfleet or of its strategy: {keys}. Use the "
            "version that wrote it"
        ) from error


def check_world_size(config: Config, world_size: int) -> None:
    """Whether ``world_size`` ranks can run this config's lanes with the reduction it asks for.

    Raises:
        ConfigError: they cannot.
    """
    check_lanes(config.train.lanes, world_size, config.fleet.reduction)


def differences(old: dict, new: dict) -> list[tuple[str, Any, Any]]:
    """The (key, old value, new value) that keep a run of the resolved config ``old`` from going on with ``new``.

    Keys of FREE_ON_RESUME may differ. A key that one side lacks counts as None there.
    """
    before, after = _flat(old), _flat(new)
    return [
        (key, before.get(key), after.get(key))
        for key in {**before, **after}
        if before.get(key) != after.get(key) and not any(fnmatchcase(key, free) for free in FREE_ON_RESUME)
    ]


def schema_keys(schema: type[BaseModel] = Config) -> list[str]:
    """Every dotted key of ``schema``."""
    keys = []
    for name, field in schema.model_fields.items():
        inner = _model_in(field.annotation)
        keys += [f"{name}.{key}" for key in schema_keys(inner)] if inner else [name]
    return keys


def _options(given: Document) -> type[BaseModel] | None:
    """The schema of the strategy that ``given`` names, or None after reporting why there is none."""
    section = given.data.get("strategy")
    name = section.get("name") if isinstance(section, dict) else None
    if not isinstance(name, str):
        return None
    try:
        return strategies.find(name).Options
    except ConfigError as error:
        given.report(("strategy", "name"), str(error))
        return None


@cache
def _schema(options: type[BaseModel] | None) -> type[Config]:
    """Config with ``strategy:`` checked by a strategy's ``options``; cached, so that equal configs have one type."""
    if options is None:
        return Config
    section = create_model("StrategyConfig", __base__=(options, StrategyConfig))
    return create_model("Config", __base__=Config, strategy=(section, ...))


def _validate(schema: type[Config], given: Document) -> Config:
    """The config in ``given``. Where problems had to be reported, it has defaults in place of the wrong values.

    JSON is the strict mode that fits YAML: no number from a string, but a tuple from a list.
    """
    try:
        return schema.model_validate_json(json.dumps(given.data), strict=True)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
    for problem in wrong:
        keys = given.known_part(problem["loc"]) if problem["type"] != "missing" else problem["loc"]
        given.report(keys, _explain(problem, schema, given))
    sound = {
        section: {key: value for key, value in values.items() if not given.is_blamed((section, key))}
        for section, values in given.data.items()
        if section in Config.model_fields and isinstance(values, dict)
    }
    return Config.model_validate_json(json.dumps({**sound, "strategy": {"name": ""}}), strict=True)


def _conflicts(config: Config) -> Iterator[tuple[list[tuple[str, str]], str]]:
    """Values that are fine alone and not together: the keys involved, the one to blame first, and why."""
    train, data, fleet = config.train, config.data, config.fleet
    if train.batch_size % train.lanes:
        yield (
            [("train", "batch_size"), ("train", "lanes")],
            f"{train.batch_size} samples do not divide among train.lanes={train.lanes}",
        )
    if data.source != "embedded" and data.path is None:
        yield [("data", "path"), ("data", "source")], f"missing: data.source={data.source} needs it"
    for key, sources in SOURCES_OF.items():
        if getattr(data, key) is not None and data.source not in sources:
            yield (
                [("data", key), ("data", "source")],
                f"goes with data.source={' or '.join(sources)}, not {data.source}",
            )
    if fleet.world_size is not None:
        try:
            check_world_size(config, fleet.world_size)
        except ConfigError as error:
            yield [("fleet", "world_size"), ("train", "lanes"), ("fleet", "reduction")], str(error)


def _explain(problem: dict, schema: type[Config], given: Document) -> str:
    """A pydantic error in the words of a config's author."""
    kind, value = problem["type"], json.dumps(problem["input"])
    match kind:
        case "extra_forbidden":
            return _unknown_key(problem["loc"], schema, given)
        case "missing" if problem["loc"] in (("strategy",), ("strategy", "name")):
            return f"missing: give strategy.name, one of {', '.join(strategies.names())} or package.module:Class"
        case "missing":
            return "missing"
        case "int_type" | "int_from_float" | "int_parsing":
            return f"expected an integer, got {value}"
        case "float_type" | "float_parsing":
            return f"expected a number, got {value}"
        case "bool_type":
            return f"expected true or false, got {value}"
        case "string_type":
            quotes = ": put it in quotes" if isinstance(problem["input"], int | float) else ""
            return f"expected a string, got {value}{quotes}"
        case "model_type" | "dict_type":
            return f"expected keys with values, got {value}"
        case "literal_error":
            expected = problem["ctx"]["expected"].replace("'", "")
            guess = closest(str(problem["input"]), expected.replace(" or ", ", ").split(", "))
            return f"expected {expected}, got {value}" + (f", did you mean {guess}?" if guess else "")
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{message[:1].lower()}{message[1:]}, got {value}"


def _unknown_key(loc: tuple, schema: type[Config], given: Document) -> str:
    """Says what the unknown key at ``loc`` was meant to be, if that can be told."""
    word, siblings = str(loc[-1]), _fields_at(schema, loc[:-1])
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
