"""The fleet as the engine sees it: which lanes are mine, one sum over all lanes, and small objects passed around."""

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import ExitStack, contextmanager
from typing import Any

from ganfleet.errors import ConfigError, GanfleetError
from ganfleet.fleet import heartbeat
from ganfleet.fleet.launcher import host
from ganfleet.fleet.tree import power_of_two, tree_sum


class Fleet:
    """A fleet of one process, and the base of those of more.

    ``lanes`` are the consecutive lanes this process runs. Backends say how to combine the ranks' sums. At the end of a
    ``with`` block it is closed.
    """

    backend = "alone"
    on_cpu = True
    scatters = False
    """Whether ``reduce_scatter`` is there, which sends less than ``reduce``."""

    def __init__(self, lanes: int, reduction: str = "auto", rank: int = 0, world_size: int = 1):
        self.rank = rank
        self.world_size = world_size
        self.total_lanes = lanes
        self.reduction = reduction
        if reduction == "auto":
            self.reduction = "exact" if self.on_cpu and power_of_two(world_size) else "fast"
        share = lanes // world_size
        self.lanes = range(rank * share, (rank + 1) * share)
        self.ranks = range(rank, rank + 1)  # those that this process plays
        self.shards_optimizer = False  # whether players' optimizer state is shared out, see ``engine.shards``
        self.at_close = ExitStack()

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def reduce(self, lane_value: Callable[[int], Any]) -> Any:
        """The sum over all lanes of the fleet of ``lane_value(lane)``, a flat float32 tensor; the one collective.

        With ``reduction: exact`` the bits do not depend on the world size; with ``fast`` the backend sums the ranks
        in its own order. ``lane_value`` runs for this process's lanes only, in order.
        """
        partial = tree_sum(self.lanes, lane_value)
        with heartbeat.collective("sum"):
            return self._combine(partial)

    def reduce_scatter(self, lane_value: Callable[[int], Any], size: int) -> Any:
        """What ``reduce`` gives, but of its first ``size`` values one part only, with zeros behind the last ones so
        that all ranks' parts are as long, and then what stands behind these values."""
        partial = tree_sum(self.lanes, lane_value)
        with heartbeat.collective("sum"):
            return self._scatter(partial, size)

    def join(self, part: Any) -> Any:
        """Every rank's ``part``, flat float32 tensors as long as each other, one behind the other in one tensor."""
        with heartbeat.collective("joining parts"):
            return self._join(part)

    def gather(self, value: Any) -> list:
        """Every rank's ``value`` (any picklable object, small), in rank order, on every rank."""
        with heartbeat.collective("gathering"):
            return self._gather(value)

    def first(self, action: Callable[[], Any]) -> Any:
        """Let rank 0 alone do ``action``; every rank gets its result, or raises its error.

        Raises:
            GanfleetError: what ``action`` raised on rank 0, so that all ranks decide alike.
        """
        outcome = None
        if self.rank == 0:
            try:
                outcome = action()
            except GanfleetError as error:
                error.told_by = frozenset([0])
                outcome = error
        outcome = self.gather(outcome)[0]
        if isinstance(outcome, GanfleetError):
            raise outcome
        return outcome

    def agree(self, error: GanfleetError | None) -> None:
        """End on all ranks if any rank has met an ``error``; every rank must call it, those without with None.

        Raises:
            GanfleetError: that of the first rank which has one, on every rank. Unless all ranks met the same, it names
                the ranks that did, and their hosts.
        """
        everyone = self.gather((error, (self.rank, host())))
        met = [(theirs, place) for theirs, place in everyone if theirs]
        if not met:
            return
        places: dict[str, list[tuple[int, str]]] = {}
        for theirs, place in met:
            places.setdefault(str(theirs), []).append(place)
        raised, _ = met[0]
        raised.told_by = frozenset([0])
        if len(met) < len(everyone) or len(places) > 1:
            raised.args = ("; ".join(f"{_where(having)}: {message}" for message, having in places.items()),)
            raised.told_by = _speakers([place for _, place in met])
        raise raised

    @contextmanager
    def agreeing(self):
        """What the block raises on any rank as a GanfleetError is raised on all, as ``agree`` does.

        No collective may be in the block: a rank that fails would leave the others waiting in it.
        """
        met = None
        try:
            yield
        except GanfleetError as error:
            met = error
        self.agree(met)

    def same(self, facts: dict[str, Any], error: type[GanfleetError] = ConfigError) -> None:
        """Check that all ranks see the same ``facts``: small values by the name that a message gives them.

        Raises:
            GanfleetError: of the kind ``error``, on every rank. It names each fact that differs, with every value and
                the ranks and hosts that have it.
        """
        everyone = self.gather((facts, (self.rank, host())))
        differing, odd = [], []
        for name in dict.fromkeys(name for theirs, _ in everyone for name in theirs):
            having: dict[str, list[tuple[int, str]]] = {}
            for theirs, place in everyone:
                having.setdefault(repr(theirs.get(name)), []).append(place)
            if len(having) > 1:
                usual = Counter({value: len(places) for value, places in having.items()}).most_common(1)[0][0]
                values = [f"{value} on {_where(places)}" for value, places in having.items()]
                differing.append(f"{name} is {', but '.join(values)}")
                odd += [place for value, places in having.items() if value != usual for place in places]
        if differing:
            raised = error(f"the ranks do not see the same: {'; '.join(differing)}. Make these equal, then start again")
            raised.told_by = _speakers(odd)
            raise raised

    def close(self) -> None:
        """Leave the fleet, and give back what connecting took: the cores, and how this thread computes."""
        self.at_close.close()

    def _combine(self, partial: Any) -> Any:
        return partial

    def _join(self, part: Any) -> Any:
        return part

    def _gather(self, value: Any) -> list:
        return [value]


def ranks_named(ranks: Collection[int]) -> str:
    """``rank 1`` or ``ranks 0, 1``."""
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def _where(places: list[tuple[int, str]]) -> str:
    """``ranks 4, 5 on node1 and rank 8 on node2``, of (rank, host)."""
    by_host: dict[str, list[int]] = {}
    for rank, name in places:
        by_host.setdefault(name, []).append(rank)
    return " and ".join(f"{ranks_named(ranks)} on {name}" for name, ranks in by_host.items())


def _speakers(places: list[tuple[int, str]]) -> frozenset[int]:
    """Rank 0, and of those at ``places`` (rank, host) the first on each host, whose output is read there."""
    first: dict[str, int] = {}
    for rank, name in places:
        first.setdefault(name, rank)
    return frozenset([0, *first.values()])
