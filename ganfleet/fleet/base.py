"""The fleet as the engine sees it: which lanes are mine, one sum over all lanes, and small objects passed around."""

from collections.abc import Callable
from typing import Any

from ganfleet.errors import GanfleetError
from ganfleet.fleet.tree import power_of_two, tree_sum


class Fleet:
    """A fleet of one process, and the base of those of more.

    ``lanes`` are the consecutive lanes this process runs. Backends say how to combine the ranks' sums.
    """

    backend = "alone"
    on_cpu = True

    def __init__(self, lanes: int, reduction: str = "auto", rank: int = 0, world_size: int = 1):
        self.rank = rank
        self.world_size = world_size
        self.total_lanes = lanes
        self.reduction = reduction
        if reduction == "auto":
            self.reduction = "exact" if self.on_cpu and power_of_two(world_size) else "fast"
        share = lanes // world_size
        self.lanes = range(rank * share, (rank + 1) * share)

    def reduce(self, lane_value: Callable[[int], Any]) -> Any:
        """The sum over all lanes of the fleet of ``lane_value(lane)``, a flat float32 tensor; the one collective.

        With ``reduction: exact`` the bits do not depend on the world size; with ``fast`` the backend sums the ranks
        in its own order. ``lane_value`` runs for this process's lanes only, in order.
        """
        return self._combine(tree_sum(self.lanes, lane_value))

    def gather(self, value: Any) -> list:
        """Every rank's ``value`` (any picklable object, small), in rank order, on every rank."""
        return [value]

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
                outcome = error
        outcome = self.gather(outcome)[0]
        if isinstance(outcome, GanfleetError):
            raise outcome
        return outcome

    def close(self) -> None:
        """Leave the fleet."""

    def _combine(self, partial: Any) -> Any:
        return partial
