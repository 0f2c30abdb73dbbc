"""How long an all-reduce takes by the α-β model, in which a message of n bytes takes α + n/B seconds. No measurement.

It knows nothing of congestion, of a card that adds while it receives, or of which algorithm HCCL chooses.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
BYTES = {"B/s": 1.0, "KB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9, "Gbit/s": 1e9 / 8}
LINK = re.compile(rf"([\d.]+)\s*({'|'.join(SECONDS)}),\s*([\d.]+)\s*({'|'.join(BYTES)})")


@dataclass(frozen=True)
class Link:
    """``latency`` is α in seconds, ``bandwidth`` is B in bytes per second, in one direction."""

    latency: float
    bandwidth: float

    @classmethod
    def parse(cls, text: str) -> "Link":
        """``20us,25GB/s``; ns, us, ms and s, and B/s, KB/s, MB/s, GB/s and Gbit/s, of 1000 each.

        Raises:
            ValueError: it reads otherwise, or a number is not above 0.
        """
        match = LINK.fullmatch(text.strip())
        try:
            latency, bandwidth = float(match[1]) * SECONDS[match[2]], float(match[3]) * BYTES[match[4]]
            if not (latency > 0 and bandwidth > 0):
                raise ValueError
        except (TypeError, ValueError):
            raise ValueError(f"expected a latency and a bandwidth, such as 20us,25GB/s, not {text!r}") from None
        return cls(latency, bandwidth)

    def __str__(self) -> str:
        time = "ms" if self.latency >= 1e-3 else "us"
        rate = next((unit for unit in ("GB/s", "MB/s") if self.bandwidth >= BYTES[unit]), "KB/s")
        return f"{self.latency / SECONDS[time]:.3g}{time},{self.bandwidth / BYTES[rate]:.3g}{rate}"


@dataclass(frozen=True)
class Exchange:
    """What one rank does in a collective: ``messages`` one after the other, in all ``volume`` times the vector."""

    messages: float
    volume: float

    def seconds(self, size: int, link: Link) -> float:
        """For a vector of ``size`` bytes."""
        return self.messages * link.latency + self.volume * size / link.bandwidth


def ring(ranks: int) -> Exchange:
    """All-reduce as reduce-scatter and all-gather, both around a ring (Patarasuk and Yuan, 2009)."""
    return Exchange(2 * (ranks - 1), 2 * (ranks - 1) / ranks)


def part(ranks: int) -> Exchange:
    """Half of that: reduce-scatter, or all-gather of what each rank has of a vector."""
    return Exchange(ranks - 1, (ranks - 1) / ranks)


def gather(ranks: int) -> Exchange:
    """All-gather of whole vectors around a ring: what ``fleet.reduction: exact`` does on cards, before it adds."""
    return Exchange(ranks - 1, ranks - 1)


def halving(ranks: int) -> Exchange:
    """Recursive halving, then doubling, for a power of two: what ``exact`` does over MPI (Rabenseifner, 2004).

    In memory that ranks share (``fleet.shared_sum``), each of them reads as much of what others wrote, and meets them
    twice, which takes as many messages.
    """
    return Exchange(2 * (ranks.bit_length() - 1), 2 * (ranks - 1) / ranks)


def hierarchical(size: int, ranks: int, per_node: int, within: Link, between: Link) -> float:
    """Seconds of an all-reduce of ``size`` bytes: reduce-scatter in each node, then each card's part around a ring of
    its peers on the other nodes, then all-gather in each node. Each card has a ``between`` link of its own."""
    part = Exchange(2 * (ranks // per_node - 1), ring(ranks // per_node).volume / per_node)
    return ring(per_node).seconds(size, within) + part.seconds(size, between)


def fitted(seconds: Mapping[int, float], exchange: Exchange) -> Link:
    """The link on which ``exchange`` takes ``seconds``, by the size of the vector; least squares of relative errors."""
    sizes, times = (np.array(list(each), np.float64) for each in (seconds.keys(), seconds.values()))
    rows = np.stack([exchange.messages / times, exchange.volume * sizes / times], 1)
    latency, inverse = np.linalg.lstsq(rows, np.ones(len(times)), rcond=None)[0]
    return Link(max(latency, 1e-9), 1 / max(inverse, 1e-15))
