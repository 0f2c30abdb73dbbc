"""The model of collectives, against the algorithms themselves: run on numbers, message by message."""

import numpy as np
import pytest

from ganfleet.fleet import links
from ganfleet.fleet.links import Link

LINK = Link(latency=2e-3, bandwidth=4e6)


class Clocks:
    """Ranks that exchange messages in steps: each step takes as long as the largest message in it."""

    def __init__(self, link):
        self.link, self.seconds = link, 0.0

    def step(self, *messages):
        self.seconds += self.link.latency + max(message.nbytes for message in messages) / self.link.bandwidth


def around_a_ring(rows, clocks):
    """Reduce-scatter, then all-gather: what each rank holds at the end."""
    ranks = len(rows)
    parts = [np.array_split(row.copy(), ranks) for row in rows]
    for turn in range(ranks - 1):
        sent = [(rank, (rank - turn) % ranks) for rank in range(ranks)]
        clocks.step(*(parts[rank][part] for rank, part in sent))
        for rank, part, values in [(rank, part, parts[rank][part].copy()) for rank, part in sent]:
            parts[(rank + 1) % ranks][part] += values
    for turn in range(ranks - 1):
        sent = [(rank, (rank + 1 - turn) % ranks) for rank in range(ranks)]
        clocks.step(*(parts[rank][part] for rank, part in sent))
        for rank, part, values in [(rank, part, parts[rank][part].copy()) for rank, part in sent]:
            parts[(rank + 1) % ranks][part] = values
    return [np.concatenate(each) for each in parts]


def by_halving(rows, clocks):
    """Of two partners, each goes on with the sum of one half; then the same partners exchange what they have."""
    held, spans, distance = [row.copy() for row in rows], [(0, len(rows[0]))] * len(rows), 1
    before = []
    while distance < len(rows):
        before.append((distance, spans))
        halves = [((start, (start + stop) // 2), ((start + stop) // 2, stop)) for start, stop in spans]
        spans = [pair[rank // distance % 2] for rank, pair in enumerate(halves)]
        given = [pair[1 - rank // distance % 2] for rank, pair in enumerate(halves)]
        sent = [held[rank][slice(*given[rank])].copy() for rank in range(len(rows))]
        clocks.step(*sent)
        for rank, span in enumerate(spans):
            held[rank][slice(*span)] += sent[rank ^ distance]
        distance *= 2
    for distance, wider in reversed(before):
        sent = [held[rank][slice(*spans[rank])].copy() for rank in range(len(rows))]
        clocks.step(*sent)
        for rank in range(len(rows)):
            held[rank][slice(*spans[rank ^ distance])] = sent[rank ^ distance]
        spans = wider
    return held


def by_gathering(rows, clocks):
    """Each rank passes on what it got last, until all have all; then each adds by itself."""
    passed = list(rows)
    held = [[row] for row in rows]
    for _ in range(len(rows) - 1):
        clocks.step(*passed)
        passed = [passed[rank - 1] for rank in range(len(rows))]
        for mine, row in zip(held, passed, strict=True):
            mine.append(row)
    return [np.sum(mine, 0) for mine in held]


@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize(
    "algorithm, exchange",
    [(around_a_ring, links.ring), (by_halving, links.halving), (by_gathering, links.gather)],
)
def test_a_collective_takes_what_its_messages_take_one_after_the_other(algorithm, exchange, ranks):
    rows, clocks = np.random.default_rng(0).integers(0, 99, (ranks, 840)).astype(np.float32), Clocks(LINK)
    for held in algorithm(rows, clocks):
        np.testing.assert_array_equal(held, rows.sum(0))
    assert exchange(ranks).seconds(rows[0].nbytes, LINK) == pytest.approx(clocks.seconds, rel=1e-12)


def test_a_hierarchical_all_reduce_takes_both_kinds_of_links():
    """Three nodes of four: in each a reduce-scatter, four rings through the nodes at once, in each an all-gather."""
    within, between = Link(1e-4, 1e7), LINK
    size, nodes, per_node = 4 * 840, 3, 4
    part = np.zeros(840 // per_node, np.float32)
    inside, outside = Clocks(within), Clocks(between)
    for _ in range(2 * (per_node - 1)):  # half of these scatter, half gather
        inside.step(part)
    around_a_ring(np.zeros((nodes, len(part)), np.float32), outside)
    modelled = links.hierarchical(size, nodes * per_node, per_node, within, between)
    assert modelled == pytest.approx(inside.seconds + outside.seconds, rel=1e-12)


def test_the_link_is_found_from_the_times_that_it_makes():
    exchange = links.halving(8)
    times = {size: exchange.seconds(size, LINK) for size in (1 << 12, 1 << 20, 1 << 24)}
    found = links.fitted(times, exchange)
    assert (found.latency, found.bandwidth) == (pytest.approx(2e-3), pytest.approx(4e6))


@pytest.mark.parametrize(
    "text, latency, bandwidth",
    [("20us,25GB/s", 2e-5, 2.5e10), ("1.5ms, 200Gbit/s", 1.5e-3, 2.5e10), ("0.19ms,790MB/s", 1.9e-4, 7.9e8)],
)
def test_a_link_is_read_as_it_is_written(text, latency, bandwidth):
    link = Link.parse(text)
    assert (link.latency, link.bandwidth) == (pytest.approx(latency), pytest.approx(bandwidth))
    again = Link.parse(str(link))
    assert (again.latency, again.bandwidth) == (pytest.approx(latency), pytest.approx(bandwidth))


@pytest.mark.parametrize("text", ["25GB/s", "20us", "20,25", "0us,25GB/s", "20us,0GB/s", "1.2.3us,5GB/s", "20us,25GB"])
def test_what_is_no_link_is_refused(text):
    with pytest.raises(ValueError, match="such as 20us,25GB/s"):
        Link.parse(text)
