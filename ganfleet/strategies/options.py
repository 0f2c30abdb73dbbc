"""Options of samples and figures: small schemas whose values are typed as ``key=value`` words or given in Python."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ganfleet.document import closest
from ganfleet.errors import ConfigError

LARGEST = 2**63 - 1
MOST = 10_000_000  # numbers at once


class Options(BaseModel):
    """Base of such a schema. A field's ``description`` is what ``ganfleet sample --figures`` says about it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def numbers(text: str) -> list[int]:
    """The numbers that ``text`` lists: ``0-63``, ``7`` or ``0-3,9``, in this order.

    Raises:
        ValueError: it is no such list, an empty one, too long, or has a number that is no int64.
    """
    if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text, re.ASCII):
        raise ValueError(f"{text!r} is no list of numbers: write 0-63 or 0-3,9")
    listed: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if max(len(first), len(last)) > 30:  # Python does not read numbers of any length
            raise ValueError(f"{part[:30]}… is above {LARGEST}")
        if int(last or first) > LARGEST:
            raise ValueError(f"{part} is above {LARGEST}")
        run = range(int(first), int(last or first) + 1)
        if len(listed) + len(run) > MOST:
            raise ValueError(f"{text!r} lists more than {MOST} numbers: ask for fewer, and again for the others")
        listed += run
    if not listed:
        raise ValueError(f"{text!r} lists nothing: write the smaller number first")
    return listed


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return numbers(value)
    return [value] if isinstance(value, int) else value


Numbers = Annotated[tuple[int, ...], BeforeValidator(_listed)]
"""Seeds or classes: ``"0-3,9"``, one number, or a sequence of numbers."""

IMAGE_FILE = "the file of an image"
ImageFile = Annotated[Path, IMAGE_FILE]
"""The file of an image. A figure finds the image in its place, float32 (channels, h, w) in [-1, 1]: the middle of it,
brought to the model's resolution."""


def read_words(words: Sequence[str]) -> dict[str, str]:
    """``key=value`` words as a dict.

    Raises:
        ConfigError: a word is no such pair, or a key comes twice.
    """
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise ConfigError(f"{word!r} is no option: write key=value, such as seeds=0-3")
        if key in given:
            raise ConfigError(f"{key}= is given twice: leave one out")
        given[key] = value
    return given


def read_options(given: Mapping[str, Any], *schemas: type[Options]) -> list[Options]:
    """One instance of each of ``schemas`` from ``given``; a key belongs to the first schema that has it.

    Raises:
        ConfigError: every unknown key, missing key and wrong value, in one message.
    """
    left, problems, read = dict(given), [], []
    for schema in schemas:
        own = {key: left.pop(key) for key in schema.model_fields if key in left}
        try:
            read.append(schema.model_validate(own))
        except ValidationError as error:
            problems += [_explained(problem) for problem in error.errors(include_url=False)]
    known = [key for schema in schemas for key in schema.model_fields]
    problems = [_unknown(key, known) for key in left] + problems
    if problems:
        raise ConfigError("; ".join(problems))
    return read


def described(schema: type[Options]) -> list[tuple[str, str]]:
    """What each option of ``schema`` is called with its default, and what it means."""
    return [
        (name if field.is_required() else f"{name}={_shown(field.default)}", field.description or "")
        for name, field in schema.model_fields.items()
    ]


def _unknown(key: str, known: list[str]) -> str:
    guess = closest(key, known)
    hint = f"did you mean {guess}?" if guess else f"there are {', '.join(known)}" if known else "there is none"
    return f"unknown option {key}: {hint}"


def _explained(problem: dict) -> str:
    name = ".".join(map(str, problem["loc"][:1]))
    if problem["type"] == "missing":
        return f"{name}= is missing"
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
    if problem["type"] == "literal_error":
        message = message.replace("'", "")
    return f"{name}={problem['input']}: {message}" if name else message


def _shown(default: Any) -> str:
    """A default as it would be typed."""
    if default is None:
        return "…"
    if isinstance(default, tuple):
        first, last = default[0], default[-1]
        if len(default) > 1 and default == tuple(range(first, last + 1)):
            return f"{first}-{last}"
        return ",".join(map(str, default))
    return str(default)
