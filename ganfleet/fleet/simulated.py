"""A fleet of any size in one process: it runs every rank's lanes, and combines the ranks as a real fleet does."""

from functools import reduce
from operator import add

from ganfleet.fleet.base import Fleet
from ganfleet.fleet.tree import tree_sum


class SimulatedFleet(Fleet):
    """``world_size`` ranks played one after the other."""

    backend = "simulated"

    def __init__(self, lanes: int, reduction: str, world_size: int):
        super().__init__(lanes, reduction, rank=0, world_size=world_size)
        share = len(self.lanes)
        self._blocks = [range(first, first + share) for first in range(0, lanes, share)]
        self.lanes, self.ranks = range(lanes), range(world_size)

    def reduce(self, lane_value):
        partials = [tree_sum(block, lane_value) for block in self._blocks]
        if self.reduction == "exact":
            return tree_sum(partials, lambda partial: partial)
        return reduce(add, partials)
