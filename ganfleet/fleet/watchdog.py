"""What a fleet's heartbeats say about it: that it hangs, that a rank left out a collective, that a rank is slow.

Nothing here is a process or a clock: ``Seen`` is what a launcher has seen of a rank, on whichever node.
"""

from collections import defaultdict
from dataclasses import asdict, dataclass
from statistics import median

from ganfleet.fleet.heartbeat import COMPILING, STARTING, Heartbeat

SLOW = 2.0  # times what the other ranks work in a step
WINDOW = 10  # steps that are compared; a rank is slow that was slow in all but two of them
BUSY_SECONDS = 3600  # without a sign of life, while a rank starts or compiles: no graph and no file takes so long
LEAST_LOST = 0.1  # seconds in these steps, below which nobody is bothered


@dataclass(frozen=True)
class Seen:
    """A rank as its launcher sees it.

    Attributes:
        stopped: by SIGSTOP or its like.
        ended: its process has ended.
        killed_by: the name of the signal that ended it, if one did.
    """

    host: str
    heartbeat: Heartbeat
    stopped: bool = False
    ended: bool = False
    killed_by: str | None = None

    @property
    def lost(self) -> bool:
        """Whether it has ended without an exit code."""
        return self.ended and self.heartbeat.code is None

    @property
    def works(self) -> bool:
        return not self.ended and self.heartbeat.code is None

    def as_json(self) -> dict:
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict) -> "Seen":
        heartbeat = Heartbeat(**told.pop("heartbeat"))
        return cls(heartbeat=_numbered(heartbeat), **told)


def _numbered(heartbeat: Heartbeat) -> Heartbeat:
    """JSON makes texts of the numbers of collectives."""
    return Heartbeat(**asdict(heartbeat) | {"recent": {int(number): name for number, name in heartbeat.recent.items()}})


class Watchdog:
    """Looks at the ranks time and again, and says what is wrong with them."""

    def __init__(self, hang_after: float):
        """``hang_after``: seconds without a sign of life after which a fleet hangs; see ``hang``."""
        self._hang_after = hang_after
        self._beats: dict[int, int] = {}
        self._silent = 0.0
        self._stopped: dict[int, float] = {}  # ranks, and for how many seconds they have been
        self._skipped_before: str | None = None
        self._slow: set[int] = set()

    def hang(self, ranks: dict[int, Seen], passed: float) -> str | None:
        """What is to be said about a hang; None if there is none. ``passed`` are the seconds since the last look.

        The ranks wait for each other in every step, so the fleet hangs when no rank shows a sign of life. As long as
        one of them compiles, or has not begun its first step, that may take BUSY_SECONDS, or ``hang_after`` if that is
        longer; unless a signal has stopped a rank.
        """
        working = {rank: seen for rank, seen in ranks.items() if seen.works}
        self._stopped = {rank: self._stopped.get(rank, 0) + passed for rank, seen in working.items() if seen.stopped}
        beats = {rank: seen.heartbeat.beats for rank, seen in working.items()}
        busy = any(seen.heartbeat.state in (STARTING, COMPILING) and not seen.stopped for seen in working.values())
        self._silent = 0.0 if beats != self._beats else self._silent + passed
        limit = max(self._hang_after, BUSY_SECONDS) if busy else self._hang_after
        self._beats = beats
        stopped = [rank for rank, seconds in self._stopped.items() if seconds > self._hang_after]
        if working and (stopped or self._silent > limit):
            return self._told(working, stopped, self._hang_after if stopped else limit)
        return None

    def _told(self, working: dict[int, Seen], stopped: list[int], limit: float) -> str:
        behind = min(seen.heartbeat.collectives for seen in working.values())
        late = stopped or [rank for rank, seen in working.items() if seen.stopped]
        late = late or [rank for rank, seen in working.items() if seen.heartbeat.collectives == behind]
        lines = [
            f"{at(rank, working[rank])} {'is stopped by a signal' if working[rank].stopped else 'hangs'} "
            f"{working[rank].heartbeat.place}"
            for rank in late
        ]
        others = [str(rank) for rank in working if rank not in late]
        waiting = f"; rank {', '.join(others)} waits for it" if others else ""
        return f"{'; '.join(lines)}{waiting}. No sign of life for {limit:g} s"

    def skipped(self, ranks: dict[int, Seen], at_end: bool = False) -> str | None:
        """What is to be said about a collective that not all ranks came to; None if there is none."""
        found = skipped(ranks)
        sure = found is not None and (at_end or found == self._skipped_before)  # not while a rank writes it
        self._skipped_before = found
        return found if sure else None

    def slow(self, ranks: dict[int, Seen]) -> list[str]:
        """What is to be said about ranks that have become slow since the last look."""
        now = slow({rank: seen.heartbeat.worked for rank, seen in ranks.items()})
        new = [rank for rank in now if rank not in self._slow]
        self._slow = set(now)
        return [
            f"{at(rank, ranks[rank])} is slow: it works for {now[rank][0]:.3g} s in a step, the others for "
            f"{now[rank][1]:.3g} s, and wait for it"
            for rank in new
        ]


def at(rank: int, seen: Seen) -> str:
    return f"rank {rank} on {seen.host}"


def skipped(ranks: dict[int, Seen]) -> str | None:
    """The first collective that is not the same on all ranks, in words."""
    told = {rank: seen.heartbeat.recent for rank, seen in ranks.items()}
    for number in sorted({number for recent in told.values() for number in recent}):
        having = defaultdict(list)
        for rank, recent in told.items():
            if number in recent:
                having[recent[number]].append(rank)
        if len(having) > 1:
            rows = [f"rank {', '.join(map(str, each))} is at the {name}" for name, each in having.items()]
            return f"the ranks are not at the same collective, so a rank has left one out: {', but '.join(rows)}"
    return None


def slow(worked: dict[int, list[float]]) -> dict[int, tuple[float, float]]:
    """The slow ones of ranks that ``worked`` so many seconds in each of their last steps: how many such a rank works in
    a step, and how many the others."""
    found = {}
    for rank, own in worked.items():
        steps = list(zip(own[-WINDOW:], *(each[-WINDOW:] for r, each in worked.items() if r != rank), strict=False))
        if len(steps) < WINDOW or len(worked) < 2:
            continue
        usual = [median(others) for _, *others in steps]
        times = sum(mine > SLOW * others for (mine, *_), others in zip(steps, usual, strict=True))
        lost = sum(mine - others for (mine, *_), others in zip(steps, usual, strict=True))
        if times >= WINDOW - 2 and lost > LEAST_LOST:
            found[rank] = (median(mine for mine, *_ in steps), median(usual))
    return found
