"""The fixed binary tree in which all sums over lanes run, whoever owns the lanes."""

from collections.abc import Callable, Sequence
from operator import add
from typing import TypeVar

T = TypeVar("T")


def tree_sum(leaves: Sequence, value: Callable[..., T]) -> T:
    """Sum ``value(leaf)`` over ``leaves``, halving the sequence until single leaves are left.

    A power-of-two number of ranks that own equal consecutive blocks of lanes cut this tree at one level, so the sum
    of their sums has the same bits as one process's sum. Leaves are evaluated in order, and only one partial sum per
    level is alive at a time.
    """
    if len(leaves) == 1:
        return value(leaves[0])
    middle = len(leaves) // 2
    left = tree_sum(leaves[:middle], value)
    return add(left, tree_sum(leaves[middle:], value))


def power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0
