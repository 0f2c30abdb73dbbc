"""What a step would take on fleets that are not here: a model of ``ganfleet plan --cards``, and no measurement."""

from dataclasses import dataclass

from rich.table import Table

from ganfleet.config import Config
from ganfleet.errors import ConfigError
from ganfleet.fleet import links
from ganfleet.fleet.links import Link

IS_A_MODEL = (
    "a model, not a measurement: each message of n bytes takes latency + n / bandwidth; lanes compute one after the "
    "other, then the ranks exchange, and nothing overlaps. Congestion, stragglers, loading and HCCL's own choices are "
    "left out"
)


@dataclass(frozen=True)
class Nodes:
    """Nodes of ``cards`` each, joined by ``within`` and ``between``. ``lane_seconds`` are what a lane computes in a
    step of the last stage, None where each phase was measured."""

    cards: int
    within: Link
    between: Link
    lane_seconds: float | None


def numbers(text: str) -> list[int]:
    """``8,64,1024``

    Raises:
        ValueError: it is no such list.
    """
    parts = text.split(",")
    if not all(part.isdecimal() and len(part) < 8 and int(part) for part in parts):
        raise ValueError(f"expected numbers of cards from 1 to 9,999,999, such as 8,64,1024, not {text!r}")
    return list(dict.fromkeys(map(int, parts)))


def nodes_of(cards, link, measure: bool, node_link, cards_per_node: int, lane_seconds) -> Nodes | None:
    """What the options of ``ganfleet plan`` describe; None without ``cards``.

    Raises:
        ConfigError: one is missing, or has no meaning beside the others.
    """
    if cards is None:
        if link or node_link or lane_seconds:
            raise ConfigError("--link, --node-link and --lane-seconds describe a fleet: add --cards, such as 8,64,1024")
        return None
    if link is None:
        raise ConfigError("--cards needs to know what joins them: add --link, such as --link 20us,25GB/s")
    if measure == (lane_seconds is not None):
        both = ", and not both" if measure else ""
        raise ConfigError(
            f"--cards needs the time of a lane: give either --lane-seconds, or --measure to find it here{both}"
        )
    for count in cards:
        if count > cards_per_node and count % cards_per_node:
            raise ConfigError(f"--cards {count} are no whole nodes: use multiples of --cards-per-node {cards_per_node}")
    return Nodes(cards_per_node, node_link or link, link, lane_seconds)


def modelled(planned: dict, config: Config, cards: list[int], nodes: Nodes) -> dict:
    """The model's rows, one for each stage of a plan and each number of cards; only the last stage where its time was
    given. A fleet of more cards than lanes gets one lane per card, as large as the config's, so a larger batch.

    Raises:
        ConfigError: cards that cannot share the lanes.
    """
    stages = planned["stages"] if nodes.lane_seconds is None else planned["stages"][-1:]
    lanes = config.train.lanes
    for count in cards:
        if count < lanes and lanes % count:
            raise ConfigError(f"--cards {count} cannot share train.lanes={lanes} equally: use a divisor, or more cards")
    exact, shards = config.fleet.reduction == "exact", config.fleet.shard_optimizer
    return {
        "is": IS_A_MODEL,
        "cards_per_node": nodes.cards,
        "link": str(nodes.between),
        "node_link": str(nodes.within),
        "rows": [_row(stage, lanes, count, nodes, exact, shards) for stage in stages for count in cards],
    }


def _row(stage: dict, lanes: int, cards: int, nodes: Nodes, exact: bool, shards: bool) -> dict:
    """One stage on so many cards: seconds of a step by what they are for."""
    total = max(lanes, cards)
    mine = total // cards
    turns = {phase["name"]: 1 if phase["every"] == "scheduled" else phase["every"] for phase in stage["phases"]}
    if nodes.lane_seconds is None:
        lane = sum(phase["seconds"] / turns[phase["name"]] for phase in stage["phases"])
    else:
        lane = nodes.lane_seconds
    ways = ("gather",) if exact else ("ring", "hierarchical")
    exchange = {
        way: sum(_exchange(way, phase, cards, nodes, shards) / turns[phase["name"]] for phase in stage["phases"])
        for way in ways
    }
    compute, fastest = mine * lane, min(exchange, key=exchange.get)
    step = compute + exchange[fastest]
    return {
        "stage": stage["name"],
        "cards": cards,
        "lanes": total,
        "lanes_per_card": mine,
        "batch_size": total * stage["lane_batch_size"],
        "compute_seconds": compute,
        "exchange_seconds": exchange,
        "fastest": fastest,
        "step_seconds": step,
        "images_per_second": total * stage["lane_batch_size"] / step,
        "efficiency": compute / step,
    }


def _exchange(way: str, phase: dict, cards: int, nodes: Nodes, shards: bool) -> float:
    """The collectives of a phase. Where the optimizer is shared out, the all-reduce of a gradient falls into halves,
    between which ranks update their parts; where sums are gathered, the parts of the weights are gathered besides."""
    gradient, rest = phase["gradient_bytes"], phase["buffer_bytes"]
    if not shards:
        return _seconds(way, gradient + rest, cards, nodes)
    if way == "gather":
        return _seconds(way, gradient + rest, cards, nodes) + _seconds("part", gradient, cards, nodes)
    return _seconds(way, gradient, cards, nodes) + _seconds(way, rest, cards, nodes)


def _seconds(way: str, size: int, cards: int, nodes: Nodes) -> float:
    """One collective of ``size`` bytes. A ring through several nodes is as slow as the links between them."""
    link = nodes.within if cards <= nodes.cards else nodes.between
    if way == "part":
        return links.part(cards).seconds(size, link)
    if way == "gather":
        return links.gather(cards).seconds(size, link)
    if way == "ring" or cards <= nodes.cards:
        return links.ring(cards).seconds(size, link)
    return links.hierarchical(size, cards, nodes.cards, nodes.within, nodes.between)


def table(model: dict) -> Table:
    """The model as a table."""
    ways = list(model["rows"][0]["exchange_seconds"])
    title = (
        f"step time: a model, not a measurement ({model['cards_per_node']} cards a node, {model['node_link']} within, "
        f"{model['link']} between)"
    )
    shown = Table(title=title, title_justify="left")
    columns = ["cards", "stage", "lanes of each", "batch", "compute", *ways, "step", "images/s", "computing"]
    for column in columns:
        shown.add_column(column, justify="left" if column == "stage" else "right", overflow="fold")
    for row in model["rows"]:
        times = [row["compute_seconds"], *(row["exchange_seconds"][way] for way in ways), row["step_seconds"]]
        cells = [f"{row['cards']:,}", row["stage"], str(row["lanes_per_card"]), f"{row['batch_size']:,}"]
        cells += [f"{seconds * 1e3:,.4g} ms" for seconds in times]
        shown.add_row(*cells, f"{row['images_per_second']:,.0f}", f"{row['efficiency']:.0%}")
    return shown
