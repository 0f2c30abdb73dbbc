"""What is to go wrong, read from a YAML file that is checked like a config."""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from ganfleet.config import Positive, Section, Whole, explain
from ganfleet.document import Document
from ganfleet.errors import ConfigError


class Fault(Section):
    """What happens on ``rank`` in or after step ``step`` (the first one is 1), and each one up to ``until``.

    It happens once for each of these steps, also where the run goes back to before it, or is started again.
    """

    rank: Whole = 0
    step: Positive
    until: Positive | None = None

    @model_validator(mode="after")
    def _in_order(self):
        if self.until is not None and self.until < self.step:
            raise ValueError(f"until is {self.until}, before step {self.step}")
        return self

    def is_due(self, step: int) -> bool:
        return self.step <= step <= (self.until or self.step)

    def __str__(self) -> str:
        known = ("do", "rank", "step", "until")
        more = [f"{key}={value}" for key, value in self if key not in known and value is not None]
        steps = f"step {self.step}" + (f" to {self.until}" if self.until else "")
        return " ".join([self.do, f"on rank {self.rank} at {steps}", *more])


class Kill(Fault):
    """SIGKILL; or so many seconds ``after`` the step SIGALRM, which nothing catches, wherever the process is then."""

    do: Literal["kill"]
    after: Annotated[float, Field(gt=0, le=86400)] | None = None


class Stop(Fault):
    """SIGSTOP: the process is there, and does nothing any more."""

    do: Literal["stop"]


class Slow(Fault):
    """Each step takes ``seconds`` more."""

    do: Literal["slow"]
    seconds: Annotated[float, Field(gt=0, le=86400)]


class Nan(Fault):
    """One number of the gradients is NaN, in the step's first phase or in that one."""

    do: Literal["nan"]
    phase: str | None = None


class Flip(Fault):
    """One bit of one float32 is flipped: of a tensor that an audit names so, such as ``G.weights/G.first.weight``."""

    do: Literal["flip"]
    tensor: str
    element: Whole = 0
    bit: int = Field(0, ge=0, le=31)


class Skip(Fault):
    """The rank leaves out the collective of the step's first phase, or of that one."""

    do: Literal["skip"]
    phase: str | None = None


class Raise(Fault):
    """An exception."""

    do: Literal["raise"]


class Exit(Fault):
    """``sys.exit(code)``."""

    do: Literal["exit"]
    code: int = Field(0, ge=0, le=255)


class Signal(Fault):
    """A signal, to the rank or to the process that started it."""

    do: Literal["signal"]
    signal: Literal["TERM", "INT", "HUP", "USR1"] = "TERM"
    to: Literal["launcher", "rank"] = "launcher"


class Full(Fault):
    """The disk has no room for the checkpoint of that step."""

    do: Literal["full"]


class Damage(Fault):
    """A file of the checkpoint of that step is damaged once it is there."""

    do: Literal["damage"]
    file: str = "G.weights.safetensors"
    how: Literal["flip", "truncate", "empty", "remove"] = "flip"


class KillWriter(Fault):
    """SIGKILL at the ``call``-th system call that writes the checkpoint of that step; a write goes halfway before."""

    do: Literal["kill_writer"]
    call: Positive = 1


KINDS = (Kill, Stop, Slow, Nan, Flip, Skip, Raise, Exit, Signal, Full, Damage, KillWriter)
_Any = Kill | Stop | Slow | Nan | Flip | Skip | Raise | Exit | Signal | Full | Damage | KillWriter


class Plan(Section):
    """``faults:`` in any order."""

    faults: tuple[Annotated[_Any, Field(discriminator="do")], ...] = Field(min_length=1)


def read(path: Path | str) -> Plan:
    """The plan in the YAML file ``path``.

    Raises:
        ConfigError: all problems found, one per line, each with file:line.
    """
    given = Document.read(path, "plan", "`faults:`")
    try:
        return TypeAdapter(Plan).validate_json(json.dumps(given.data), strict=True)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            if problem["type"] == "too_short" and problem["input"]:  # pydantic counts those that are in order
                continue
            # The third word of a place in a list of kinds is the kind, which is no key of the file.
            loc = tuple(word for index, word in enumerate(problem["loc"]) if index != 2)
            keys = loc if problem["type"] in ("missing", "extra_forbidden") else given.known_part(loc)
            given.report(keys, _words(problem, loc))
        given.raise_problems()
        raise ConfigError(f"{path}: no plan: {error}") from error


def _words(problem: dict, loc: tuple) -> str:
    kinds = ", ".join(kind.model_fields["do"].annotation.__args__[0] for kind in KINDS)
    match problem["type"]:
        case "union_tag_not_found":
            return f"missing: say what to do, one of {kinds}"
        case "union_tag_invalid":
            return f"do must be one of {kinds}, got {problem['ctx']['tag']}"
        case "missing" | "too_short" if loc == ("faults",):
            return "list at least one, such as - {do: kill, rank: 1, step: 30}"
        case "extra_forbidden":
            return "unknown key"
    return explain(problem)
