"""Whether every rank holds the same: checksums that the device computes are compared, and what is odd is repaired."""

from collections import Counter

from mindspore import Tensor, ops

from ganfleet.engine.program import Program
from ganfleet.errors import ReplicasDiverged
from ganfleet.fleet import Fleet
from ganfleet.fleet.base import ranks_named
from ganfleet.nn import forms


def audit(fleet: Fleet, program: Program, repair: bool = False) -> str | None:
    """Compare weights, buffers, averages, optimizers, frozen networks and the networks' own parameters over the ranks.

    Args:
        repair: whether the ranks that differ from most take over what those hold.

    Returns:
        What was repaired, for the user; None where nothing differed.

    Raises:
        ReplicasDiverged: naming the tensors and the ranks that differ from most, or all where there is no majority.
    """
    if fleet.world_size == 1 or fleet.backend == "simulated":
        return None
    vectors = program.replicated()
    names = [_full(vector, piece) for vector, (_, pieces) in vectors.items() for piece, _ in pieces]
    mine = forms.checksums([(tensor, [size for _, size in pieces]) for tensor, pieces in vectors.values()])
    everyone = fleet.gather(dict(zip(names, mine, strict=True)))
    odd = _odd(everyone)
    if not odd:
        return None
    found = "; ".join(f"{name} on {ranks_named(ranks)}" for name, ranks in odd.items())
    right = sorted(set(range(fleet.world_size)).difference(*odd.values()))
    if not repair or not right:
        raise ReplicasDiverged(
            f"weights that every rank must share differ: {found}. Resume from the last checkpoint; if it happens "
            "again, test that card's memory"
        )
    for name, (vector, pieces) in vectors.items():
        wrong = {rank for piece, _ in pieces for rank in odd.get(_full(name, piece), ())}
        if wrong:
            theirs = fleet.gather(vector.asnumpy() if fleet.rank == right[0] else None)[right[0]]
            if fleet.rank in wrong:
                ops.assign(vector, Tensor(theirs))
    return f"weights that every rank must share differed: {found}. These now hold what rank {right[0]} holds"


def _odd(everyone: list[dict[str, int]]) -> dict[str, list[int]]:
    """The names whose checksums differ, each with the ranks that differ from most."""
    odd = {}
    for name in dict.fromkeys(name for each in everyone for name in each):
        values = [each.get(name) for each in everyone]
        usual, count = Counter(values).most_common(1)[0]
        if count < len(values):
            odd[name] = [rank for rank, value in enumerate(values) if value != usual or 2 * count <= len(values)]
    return odd


def _full(vector: str, piece: str) -> str:
    return f"{vector}/{piece}" if piece else vector
