"""What a check finds."""

from dataclasses import dataclass, field

OK, WARNING, FAILURE, SKIPPED = "ok", "warning", "failure", "skipped"


@dataclass(frozen=True)
class Finding:
    """``text`` says what was found; of a warning and a failure ``remedy`` says what mends it, a command where one does.
    ``facts`` are numbers for programs."""

    status: str
    text: str
    remedy: str | None = None
    facts: dict = field(default_factory=dict)


def ok(text: str, **facts) -> Finding:
    return Finding(OK, text, facts=facts)


def skipped(text: str, remedy: str | None = None) -> Finding:
    return Finding(SKIPPED, text, remedy)


def warning(text: str, remedy: str) -> Finding:
    """A run works, but not as well as it could, or not everywhere."""
    return Finding(WARNING, text, remedy)


def failure(text: str, remedy: str) -> Finding:
    """Runs of this kind end with an error."""
    return Finding(FAILURE, text, remedy)
