"""Counts what steps have told, one step late: while a step is read, the device is at the next one."""

from dataclasses import dataclass
from typing import NamedTuple

from ganfleet.engine.budgets import Budgets
from ganfleet.engine.journal import Journal
from ganfleet.engine.outcome import Outcome
from ganfleet.fleet import Fleet


@dataclass
class Asked:
    """What some rank has asked all others for, by the host values that it sent with a step.

    Attributes:
        stop: a signal has reached it.
        save: SIGUSR1 has.
        news: a callback has news.
    """

    stop: bool = False
    save: bool = False
    news: bool = False


class Unread(NamedTuple):
    """A step that the device was given: its number, what will come of it, and this rank's bad images in its batch."""

    step: int
    outcome: Outcome
    bad: list[tuple[int, str]]


class Settling:
    """The steps that nobody has read yet. Every rank must call ``settle`` at the same points."""

    def __init__(self, fleet: Fleet, budgets: Budgets):
        self._fleet, self._budgets = fleet, budgets
        self._unread: list[Unread] = []
        self._asked = Asked()

    def add(self, step: int, outcome: Outcome, bad: list[tuple[int, str]]) -> None:
        self._unread.append(Unread(step, outcome, bad))

    def settle(self, journal: Journal, but: int = 0) -> None:
        """Count updates that every rank skipped, and images that some rank could not decode, of all steps ``but`` the
        last so many, and say so.

        Raises:
            NonFinite, TooManyBadImages: the budget for these is spent.
        """
        while len(self._unread) > but:
            step, outcome, bad = self._unread.pop(0)
            some_are_bad = self._note(outcome)
            for phase in outcome.skipped:
                journal.say(self._budgets.skipped(phase, step))
            if some_are_bad:
                found = [pair for share in self._fleet.gather(bad) for pair in share]
                for line in self._budgets.undecodable(found):
                    journal.say(line)

    def asked(self, journal: Journal) -> Asked:
        """What was asked for since this was called last. Before a stop all steps are read: none may follow.

        Raises:
            What ``settle`` does.
        """
        if self._asked.stop:
            self.settle(journal)
        asked, self._asked = self._asked, Asked()
        return asked

    def forget(self) -> None:
        """The run goes on from a checkpoint: what later steps have skipped is of no interest. What was asked for is."""
        for each in self._unread:
            self._note(each.outcome)
        self._unread.clear()

    def _note(self, outcome: Outcome) -> bool:
        """Note what some rank has asked for; whether some image was bad."""
        stop, save, some_are_bad, news = (bool(value) for value in outcome.host)
        asked = self._asked
        self._asked = Asked(asked.stop or stop, asked.save or save, asked.news or news)
        return some_are_bad
