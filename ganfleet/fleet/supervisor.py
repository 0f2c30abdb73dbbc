"""Run a fleet to its end: start processes, watch them, restart them where that helps, and end with one exit code."""

import math
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ganfleet.errors import INTERRUPTED, GanfleetError, Hang, PeerLost, RestartsSpent, Stopped
from ganfleet.fleet.base import ranks_named
from ganfleet.fleet.nodes import LOOPBACK, Alone, Decision, Meeting, join
from ganfleet.fleet.processes import Family, Place, Signals
from ganfleet.fleet.screen import screen
from ganfleet.fleet.watchdog import Seen, Watchdog, at

POLL_SECONDS = 0.2
GRACE_SECONDS = 5  # for the others to fail alike once a rank has failed, and for ranks to end that have reported
STACK_SECONDS = 1  # for ranks to print what they are doing
BACK_OFF_SECONDS = 60  # at most between two attempts
TAIL_LINES = 60
# What another attempt may cure: a peer lost, an exception (as of a driver), replicas that differ, a hang. The others
# need somebody who acts: a config, data, a disk, another process.
CURABLE = frozenset({69, 70, 82, 83})


@dataclass(frozen=True)
class Settings:
    """How a fleet is launched.

    Attributes:
        workers: ranks on each node.
        nodes, node_rank, master_addr, master_port: how nodes find each other, see ``nodes.Meeting``.
        patience: seconds to wait for other nodes.
        max_restarts: how often the fleet may be started again.
        min_workers: on each node, if a restart may have fewer.
        backend: ``msrun``, whose variables MindSpore reads, or ``mpi``.
        hang_after: seconds without a sign of life after which the fleet hangs.
        log_dir: where each rank's whole output goes, as ``worker_N.log``; None for nowhere.
    """

    workers: int
    nodes: int = 1
    node_rank: int = 0
    master_addr: str = LOOPBACK
    master_port: int = 8118
    patience: float = 600
    max_restarts: int = 0
    min_workers: int | None = None
    backend: str = "msrun"
    hang_after: float = 600
    log_dir: Path | None = None


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    Attributes:
        error: what is to be told; None where the ranks have told it.
        rank, place: the first rank that failed, and where it was.
        made_steps: whether the attempt finished a step.
    """

    code: int
    error: GanfleetError | None = None
    rank: int | None = None
    place: str = ""
    made_steps: bool = False


def launch(settings: Settings, command: list[str]) -> int:
    """Run ``command``, which runs ganfleet, as the ranks of a fleet; the fleet's exit code.

    Rank 0's output is shown, or on other nodes that of their first rank. SIGTERM, SIGINT and SIGHUP go on to the ranks,
    which stop after their step; after a second one, those that have not ended in GRACE_SECONDS are killed. SIGUSR1 has
    them write a checkpoint. No process is left when this returns, or is killed.

    Raises:
        PeerLost: a rank, the scheduler or a node ended without an exit code of its own, killed for instance.
        Hang: no rank showed a sign of life, or one left out a collective.
        Stopped: a signal came before the ranks could take it.
        RestartsSpent: the fleet failed once more than it may be restarted.
        ConfigError: nodes that do not fit each other.
        StorageError: there is no place for the output.
    """
    facts = {"--nodes": settings.nodes, "-n": settings.workers, "the command": _words(command)}
    meeting = Meeting(
        settings.nodes, settings.node_rank, settings.master_addr, settings.master_port, settings.patience, facts
    )
    with Signals() as signals, closing(join(meeting)) as peers:
        try:
            return _Supervisor(settings, command, signals, peers).run()
        except GanfleetError as error:
            peers.decide(Decision(error.exit_code, str(error)))
            raise
        finally:
            screen.drain(GRACE_SECONDS)


def _words(command: list[str]) -> str:
    """What of the command must be equal on all nodes: Python may be elsewhere."""
    return " ".join(command[2:])


class _Supervisor:
    def __init__(self, settings: Settings, command: list[str], signals: Signals, peers: Alone):
        self._settings, self._command = settings, command
        self._signals, self._peers = signals, peers
        self._workers = settings.workers
        self._restarts = 0
        self._fruitless = 0  # attempts one after the other that finished no step
        self._run: str | None = None  # the name that the run got in an attempt, perhaps a number

    def run(self) -> int:
        before: Ending | None = None
        while True:
            ending = self._attempt()
            if decided := self._peers.decided():
                ending, pause = Ending(decided.code, decided.error()), decided.pause
            else:
                pause, ending = self._next(ending, before)
                if pause is not None or not ending.error:  # what is raised is told by ``launch``
                    self._peers.decide(Decision(ending.code, _why(ending), pause))
            if pause is None:
                if ending.error:
                    raise ending.error
                return ending.code
            before = ending
            self._restarts += 1
            if ending.error:
                screen.tell(f"error: {ending.error}")
            screen.tell(
                f"restart {self._restarts} of {self._settings.max_restarts} in {pause:g} s, with {self._workers} "
                "workers, from the newest checkpoint that is valid"
            )
            self._pause(pause)

    # ── Restarts

    def _next(self, ending: Ending, before: Ending | None) -> tuple[float | None, Ending]:
        """After how many seconds to start again, or None and what to end with."""
        settings = self._settings
        self._fruitless = 0 if ending.made_steps else self._fruitless + 1
        if ending.code not in CURABLE or settings.max_restarts == 0 or self._signals.stops:
            return None, ending
        if before and ending.code == before.code == GanfleetError.exit_code and _same(ending, before):
            screen.tell(
                f"rank {ending.rank} has failed {ending.place} for the second time: a restart does not help, correct "
                "what it says"
            )
            return None, ending
        if self._restarts == settings.max_restarts:
            last = ending.error or f"rank {ending.rank} ended with {ending.code} {ending.place}"
            spent = RestartsSpent(
                f"restarts: {self._restarts}, which is --max-restarts; the last failure: {last}. Start again to "
                "go on from the last checkpoint, once its cause is gone"
            )
            return None, Ending(RestartsSpent.exit_code, spent)
        if self._fruitless and settings.min_workers is not None:
            self._workers = fewer(self._workers, settings.min_workers)
        return min(2.0**self._fruitless - 1, BACK_OFF_SECONDS), ending

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._wait()
            time.sleep(POLL_SECONDS)

    def _wait(self) -> None:
        """A moment in which no rank runs.

        Raises:
            Stopped: a signal has come.
        """
        if self._signals.stops:
            raise Stopped("stopped by a signal; start again")

    # ── One attempt

    def _attempt(self) -> Ending:
        settings, command = self._settings, self._command
        try:
            place = self._peers.meet(self._workers, self._run, self._wait)
        except PeerLost as error:
            return Ending(error.exit_code, error)
        self._workers = place.workers
        if place.run:
            command = [*command, f"run.name={place.run}"]
        with Family(place, command, settings.log_dir, settings.backend, again=self._restarts > 0) as family:
            attempt = _Attempt(family, place, self._signals, self._peers, settings.hang_after)
            ending = attempt.until_the_end()
            if family.run:
                self._run = Path(family.run).name
        return ending


def fewer(workers: int, least: int) -> int:
    """The largest number of ranks below ``workers``, and no less than ``least``, that divides it, and so the lanes that
    it divides; ``workers`` where there is none."""
    return next((n for n in range(workers - 1, least - 1, -1) if workers % n == 0), workers)


def _why(ending: Ending) -> str | None:
    """What other nodes are told; the ranks of this one may have said more."""
    if ending.error or not ending.code:
        return ending.error and str(ending.error)
    if ending.rank is None:
        return "interrupted twice"
    by_signal = "stopped by a signal: " if ending.code == Stopped.exit_code else ""
    return f"{by_signal}rank {ending.rank} ended first, with {ending.code}, {ending.place}"


def _same(ending: Ending, before: Ending) -> bool:
    return (ending.rank, ending.place) == (before.rank, before.place)


class _Attempt:
    """Looks after the ranks of one attempt until they have ended, or have had their time."""

    def __init__(self, family: Family, place: Place, signals: Signals, peers: Alone, hang_after: float):
        self._family, self._place, self._signals, self._peers = family, place, signals, peers
        self._dog = Watchdog(hang_after)
        self._held: list[bytes] = []  # what the shown rank has printed since another one failed
        self._first: list[int] = []  # the ranks that have failed, in the order in which this was seen
        self._ranks: dict[int, Seen] = {}

    def until_the_end(self) -> Ending:
        deadline, looked = math.inf, time.monotonic()
        while True:
            self._family.deliver(self._signals)
            mine = self._family.seen()
            self._listen()
            self._show(mine)
            try:
                self._ranks = self._peers.share(mine)
            except PeerLost as error:
                return self._end(Ending(error.exit_code, error))
            now = time.monotonic()
            passed, looked = min(now - looked, 1.0), now  # more where this process was suspended, and the ranks with it
            if self._peers.decides:
                ending = self._judged(passed, now > deadline)
                if ending:
                    return self._end(ending)
            elif told := self._peers.hung():
                self._show_stacks(told)
            elif self._peers.decided():
                return self._end(self._as_decided(mine))
            elif self._signals.interrupted_at and now > deadline:
                return self._end(Ending(INTERRUPTED))
            if self._signals.interrupted_at is not None:
                deadline = min(deadline, self._signals.interrupted_at + GRACE_SECONDS)
            codes = [seen.heartbeat.code for seen in self._ranks.values()]
            if any(codes) or (len(codes) == self._place.world_size and None not in codes):
                deadline = min(deadline, now + GRACE_SECONDS)
            time.sleep(POLL_SECONDS)

    def _listen(self) -> None:
        for warning in self._family.listen():
            screen.tell(f"warning: {warning}")

    def _show(self, mine: dict[int, Seen]) -> None:
        """Pass on what the first rank here has printed; once another has failed, hold it back: that one comes first."""
        news = self._family.news(self._place.first)
        if any(seen.lost or seen.heartbeat.code for rank, seen in mine.items() if rank != self._place.first):
            self._held.append(news)
        else:
            screen.show(news)

    def _end(self, ending: Ending) -> Ending:
        """Show what was held back, behind what the first rank to fail has said."""
        self._listen()
        self._held.append(self._family.news(self._place.first))
        screen.show(b"".join(self._held))
        steps = any(seen.heartbeat.steps for seen in self._ranks.values())
        return Ending(ending.code, ending.error, ending.rank, ending.place, made_steps=steps)

    def _as_decided(self, mine: dict[int, Seen]) -> Ending:
        """Node 0 has ended the attempt; what a rank here has to say about it is only known here."""
        failed = [rank for rank, seen in mine.items() if seen.lost or seen.heartbeat.code]
        if failed and failed[0] != self._place.first:
            self._show_end(failed[0], f"rank {failed[0]} ended {mine[failed[0]].heartbeat.place}")
        return Ending(0)

    # ── Judging

    def _judged(self, passed: float, is_over: bool) -> Ending | None:
        """How the attempt ends; None while it goes on."""
        ranks = self._ranks
        for rank, seen in ranks.items():
            if rank not in self._first and (seen.lost or seen.heartbeat.code):
                self._first.append(rank)
        for line in self._dog.slow(ranks):
            screen.tell(f"warning: {line}")
        lost = [rank for rank, seen in ranks.items() if seen.lost]
        scheduler = None
        if not lost and not self._first:
            scheduler = self._family.lost_scheduler()
        ended = len(ranks) == self._place.world_size and all(seen.ended for seen in ranks.values())
        is_over = is_over or ended or bool(lost) or scheduler is not None
        if skipped := self._dog.skipped(ranks, at_end=is_over and bool(self._first)):
            return self._hung(skipped)
        if is_over:
            return self._over(lost, scheduler)
        hang = self._dog.hang(ranks, passed)
        return self._hung(hang) if hang else None

    def _over(self, lost: list[int], scheduler: str | None) -> Ending:
        ranks = self._ranks
        unanswering = [rank for rank, seen in ranks.items() if seen.works]
        if self._signals.interrupted_at is not None and unanswering:
            screen.tell(f"error: interrupted twice; killed {ranks_named(unanswering)} without an answer")
            return Ending(INTERRUPTED)
        if scheduler is not None:
            return _failed(
                PeerLost(
                    "MindSpore's scheduler, the process by which the ranks find each other, ended"
                    f"{scheduler}; start the run again to go on from its last checkpoint"
                )
            )
        if lost and self._signals.stops:
            return _failed(Stopped("stopped by a signal; start again"))
        if not self._first:
            return Ending(0)
        first = self._first[0]
        if lost and (first in lost or ranks[first].heartbeat.code in (GanfleetError.exit_code, PeerLost.exit_code)):
            # A rank may have noticed that another is gone, and have ended with an error, within the same look.
            return self._lost(lost)
        code, place = ranks[first].heartbeat.code, ranks[first].heartbeat.place
        if ranks[0].heartbeat.code != code:
            self._show_end(first, f"rank {first} ended first, with {code}, {place}")
        return Ending(code, rank=first, place=place)

    def _lost(self, lost: list[int]) -> Ending:
        first, seen = lost[0], self._ranks[lost[0]]
        place = seen.heartbeat.place
        if first != self._place.first:
            self._show_end(first, f"rank {first} was lost {place}")
        killed = f" (killed by {seen.killed_by})" if seen.killed_by else ""
        where = self._family.log(first) if first in self._place.ranks else f"the log on {seen.host}"
        told = (
            f"{ranks_named(lost)} ended without an exit code{killed} {place}, see "
            f"{where or 'what it printed above'}; start the run again to go on from its last checkpoint"
        )
        return _failed(PeerLost(told), rank=first, place=place)

    def _hung(self, told: str) -> Ending:
        """Say so, and show what each rank is doing."""
        self._peers.hang(told)
        self._show_stacks(told)
        return _failed(Hang(f"{told}; start the run again to go on from its last checkpoint"))

    def _show_stacks(self, told: str) -> None:
        screen.tell(told)
        for rank, lines in self._family.stacks(STACK_SECONDS).items():
            heading = f"{at(rank, self._ranks[rank])} is {self._ranks[rank].heartbeat.place}; its threads:"
            screen.tell("\n".join([heading, *lines]))
        self._family.news(self._place.first)  # which were its stacks

    def _show_end(self, rank: int, ending: str) -> None:
        """What a rank other than the one that is shown had to say at its end."""
        if rank not in self._place.ranks:
            return  # its own node shows it
        log = self._family.log(rank)
        where = f"all it printed is in {log}" if log else "--log-dir keeps all that it prints"
        lines = self._family.printed(rank)[-TAIL_LINES:]
        screen.tell("\n".join([f"{ending}; {where}. Its last lines:", *lines]))


def _failed(error: GanfleetError, rank: int | None = None, place: str = "") -> Ending:
    return Ending(error.exit_code, error, rank, place)
