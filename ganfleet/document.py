"""A YAML file as plain data that remembers where every key stands, with ``key=value`` overrides on top.

It knows YAML and places; what the keys mean is config's business.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import yaml

from ganfleet.errors import ConfigError

Keys = tuple[str | int, ...]

GIVEN = "in the dict given"  # instead of file:line
DEPTH = 50  # of lists and mappings in each other; no config needs as many, and recursion has an end
TOO_DEEP = f"more than {DEPTH} lists or mappings in each other"

INT = "tag:yaml.org,2002:int"
FLOAT = "tag:yaml.org,2002:float"
BOOL = "tag:yaml.org,2002:bool"
NULL = "tag:yaml.org,2002:null"

# The YAML 1.2 core schema. PyYAML's own rules are YAML 1.1's, where `no` is false, `2e-4` a string and `1:30` is 90.
RESOLVERS = [
    (NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        FLOAT,
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
]


def _integer(text: str) -> int:
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


VALUE_OF = {
    NULL: lambda text: None,
    BOOL: lambda text: text.lower() == "true",
    INT: _integer,
    FLOAT: lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
}


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars; no aliases and no tags, so that a value is what its line says."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 (add_implicit_resolver fills it)
    depth = 0

    def compose_node(self, parent, index):
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.tag is not None:
            raise yaml.composer.ComposerError(
                None, None, "aliases and tags are not supported, write the value out", event.start_mark
            )
        if self.depth == DEPTH:
            raise yaml.composer.ComposerError(None, None, TOO_DEEP, event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Dumper(yaml.SafeDumper):
    """Quotes whatever YAML 1.1 or 1.2 would not read back as a string."""


for tag, pattern, first in RESOLVERS:
    for loader_or_dumper in (_Loader, _Dumper):
        loader_or_dumper.add_implicit_resolver(tag, re.compile(rf"^(?:{pattern})$"), first)


def dump(data: dict) -> str:
    """``data`` as YAML that ``Document.read`` reads back as the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def dotted(keys: Iterable[str | int]) -> str:
    return ".".join(str(key) for key in keys)


def expanded(path: str | Path, key: str) -> Path:
    """``path``, which ``key`` has, with the home folder for ``~`` and that of a user for ``~user``.

    Raises:
        ConfigError: there is no such home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{key} is {path}, and there is no such home folder here: write the path out") from error


def user_cache() -> Path:
    """The folder of what ganfleet keeps for the next process. For a user without a home it keeps its ``~``."""
    return Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "ganfleet"


def is_homeless(path: Path) -> bool:
    """Whether ``path`` is in a home folder that is not there."""
    return path.parts[0].startswith("~")


def closest(word: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``word`` is most likely meant to be."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1)), None)


class Place(NamedTuple):
    """Where a key was given. ``order`` sorts a report: file lines first, then overrides as typed."""

    order: int
    label: str
    names: Keys = ()  # what the label itself already says; () for a line of the file


class Document:
    """The data of one file with its overrides, and the problems found in them so far."""

    def __init__(self, path: str | Path, what: str = "config"):
        self.path = Path(path)
        self.what = what
        self.data: dict[str, Any] = {}
        self.places: dict[Keys, Place] = {(): Place(0, str(path))}
        self.problems: list[tuple[int, str]] = []
        self.blamed: set[Keys] = set()
        self._overrides = 0

    @classmethod
    def read(cls, path: str | Path, what: str = "config", example: str = "sections such as `train:`") -> "Document":
        """The file at ``path``, which is a ``what`` and has, for instance, what ``example`` says.

        Raises:
            ConfigError: no such file, not UTF-8, not YAML, or not a mapping.
        """
        document = cls(path, what)
        try:
            node = _compose(document.path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot read the {what}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: the {what} is not UTF-8 text: write it as such") from error
        except yaml.YAMLError as error:
            line, reason = _syntax_error(error)
            raise ConfigError(f"{path}:{line}: not valid YAML: {reason}") from error
        if node is None:
            return document
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}:1: expected {example} with keys under them")
        document.data = document._build(node, (), None)
        return document

    @classmethod
    def from_dict(cls, sections: Mapping[str, Any]) -> "Document":
        """What a program gives in place of a file.

        Raises:
            ConfigError: it is no dict.
        """
        if not isinstance(sections, Mapping):
            raise ConfigError(f"{GIVEN}: expected sections such as 'train' with dicts in them")
        document = cls(GIVEN)
        document.data = document._copy(sections, ())
        return document

    def override(self, text: str) -> None:
        """Set one key from ``key.of.value=VALUE``, with VALUE written as in YAML."""
        self._overrides += 1
        place = Place(10**9 + self._overrides, f"override {text}", tuple(text.partition("=")[0].split(".")))
        if "=" not in text or not all(place.names):
            self._add(place, place.names, "expected key=value, such as train.seed=1")
            return
        if any("\ud800" <= each <= "\udfff" for each in text):  # how Python shows bytes that are no text
            self._add(place, place.names, "it has bytes that are no UTF-8: rename the file, or make a link to it")
            return
        try:
            node = _compose(text.partition("=")[2])
        except yaml.YAMLError as error:
            self._add(place, place.names, f"not valid YAML: {_syntax_error(error)[1]}")
            return
        section = self.data
        for depth, key in enumerate(place.names[:-1], start=1):
            if isinstance(section.get(key), str):  # `augment: ada` is short for `augment: {name: ada}`
                section[key] = {"name": section[key]}
                self.places[place.names[:depth]] = place
            section = section.setdefault(key, {})
            self.places.setdefault(place.names[:depth], place)
            if not isinstance(section, dict):
                self._add(place, place.names, f"{dotted(place.names[:depth])} holds no keys")
                return
        self.places[place.names] = place
        section[place.names[-1]] = None if node is None else self._build(node, place.names, place)

    def report(self, keys: Keys, message: str) -> None:
        """Note a problem with the value at ``keys``; its place is that of the nearest key that was given."""
        self._add(self.places[self.known_part(keys)], keys, message)

    def is_blamed(self, keys: Keys) -> bool:
        """Whether a problem was reported with ``keys``, with something in it, or with what it stands in."""
        return any(keys[: len(blamed)] == blamed[: len(keys)] for blamed in self.blamed)

    def known_part(self, keys: Keys) -> Keys:
        """``keys`` without what was not given, from the end."""
        return next(keys[:n] for n in range(len(keys), -1, -1) if keys[:n] in self.places)

    def raise_problems(self) -> None:
        """Raise all problems as one ConfigError, a line each, in the order of the file and then of the overrides."""
        if not self.problems:
            return
        lines = [line for _, line in sorted(self.problems, key=lambda problem: problem[0])]
        heading = [] if len(lines) == 1 else [f"{len(lines)} problems in the {self.what}"]
        raise ConfigError("\n".join(heading + lines))

    def _add(self, place: Place, keys: Keys, message: str) -> None:
        self.blamed.add(tuple(keys))
        subject = "" if place.names == tuple(keys) else f"{dotted(keys)}: "
        self.problems.append((place.order, f"{place.label}: {subject}{message}"))

    def _build(self, node: yaml.Node, keys: Keys, override: Place | None) -> Any:
        """The plain data of ``node``, which stands at ``keys``; notes the place of every key in it."""
        if isinstance(node, yaml.ScalarNode):
            try:
                return VALUE_OF.get(node.tag, str)(node.value)
            except ValueError:  # Python reads no more than some thousand digits
                self._add(override or self._place(node), keys, f"a number of {len(node.value)} digits is too long")
                return None
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.places[(*keys, index)] = override or self._place(item)
            return [self._build(item, (*keys, index), override) for index, item in enumerate(node.value)]
        built = {}
        for key_node, value_node in node.value:
            place = override or self._place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._add(place, keys, "a key must be a word or a number")
                continue
            here = (*keys, key_node.value)
            if key_node.value in built:
                self._add(place, here, f"duplicate key, first given at {self.places[here].label}")
                continue
            self.places[here] = place
            built[key_node.value] = self._build(value_node, here, override)
        return built

    def _copy(self, value: Any, keys: Keys) -> Any:
        """``value``, which stands at ``keys`` of what a program gave, as plain data; notes the place of all in it."""
        if keys:
            self.places[keys] = Place(len(self.places), GIVEN)
        if len(keys) > DEPTH:
            self.report(keys[:1], TOO_DEEP)
            return None
        if isinstance(value, Mapping):
            return {str(key): self._copy(each, (*keys, str(key))) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._copy(each, (*keys, index)) for index, each in enumerate(value)]
        if isinstance(value, PurePath):
            return str(value)
        if value is None or isinstance(value, str | bool | int | float):
            return value
        self.report(keys, f"expected a number, a string, true, false, None, a list or a dict, got {value!r}")
        return None

    def _place(self, node: yaml.Node) -> Place:
        line = node.start_mark.line + 1
        return Place(line, f"{self.path}:{line}")


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _syntax_error(error: yaml.YAMLError) -> tuple[int, str]:
    """The line (from 1) and the reason of a YAML error."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return 1, str(error).splitlines()[0]
    mark = error.problem_mark or error.context_mark
    reason = error.problem or error.context
    if "'\\t'" in reason:
        reason = "a tab, indent with spaces"
    return mark.line + 1, reason
