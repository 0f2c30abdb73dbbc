"""One exception per exit code. A raised GanfleetError is a finished message: what, where, what to do."""

import unicodedata

INTERRUPTED = 130  # the one exit code that no exception carries: a second Ctrl-C


class GanfleetError(Exception):
    """Base of every error a user can cause or must act on; the CLI prints it without a traceback.

    Attributes:
        met_by_all: True if it follows from what all ranks of a fleet share, so that each of them meets it; False if one
            rank meets it alone; None if its kind does not say.
        told_by: the ranks that tell the user, once the fleet has agreed on it; None before.
    """

    exit_code = 70
    met_by_all: bool | None = None
    told_by: frozenset[int] | None = None

    def __init__(self, *args):
        super().__init__(*(printable(arg, keep="\n\r\t") if isinstance(arg, str) else arg for arg in args))

    def __str__(self) -> str:
        """The message, without a full stop at its end: more may follow."""
        return super().__str__().removesuffix(".")


class ConfigError(GanfleetError):
    """Wrong usage or configuration."""

    exit_code = 2


class NotEnoughMemory(ConfigError):
    """Something asked for is larger than this machine's memory."""


class StrategyFailed(GanfleetError):
    """A strategy's own code raised something."""


class DataError(GanfleetError):
    """Training data are missing, unreadable, or damaged past the budget."""

    exit_code = 65


class TooManyBadImages(DataError):
    """More images than the budget allows cannot be decoded, on all ranks together."""

    met_by_all = True


class DataExhausted(DataError):
    """One rank finds no readable image to put in the place of a bad one."""

    met_by_all = False


class CheckpointDamaged(GanfleetError):
    """A checkpoint fails its manifest, or none is left that does not."""

    exit_code = 65


class PeerLost(GanfleetError):
    """Another rank, or the rendezvous, is gone."""

    exit_code = 69
    met_by_all = False


class RunInUse(GanfleetError):
    """Another process is writing to the run directory."""

    exit_code = 73


class StorageError(GanfleetError):
    """Writing failed: no permission, disk full, I/O error."""

    exit_code = 74


class Stopped(GanfleetError):
    """A signal asked the run to stop; its checkpoint is written and the run can be resumed."""

    exit_code = 75
    met_by_all = True


class NonFinite(GanfleetError):
    """More non-finite updates than the budget allows."""

    exit_code = 80
    met_by_all = True


class ReplicasDiverged(GanfleetError):
    """Ranks that must hold the same weights do not."""

    exit_code = 82
    met_by_all = True


class Hang(GanfleetError):
    """A rank stopped making progress."""

    exit_code = 83


class CheckpointMismatch(GanfleetError):
    """The checkpoint was made with a config that does not fit this one."""

    exit_code = 85


class RestartsSpent(GanfleetError):
    """The supervisor restarted the run as often as it may."""

    exit_code = 86


def printable(text: str, keep: str = "") -> str:
    """``text`` as every terminal and file can take it.

    Bytes of a file's name that are not UTF-8 (Python has them as lone surrogates) and control characters other than
    those in ``keep`` become escapes such as ``\\xc4``.
    """
    return "".join(c if c in keep or unicodedata.category(c) not in ("Cc", "Cs") else _escape(c) for c in text)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()
