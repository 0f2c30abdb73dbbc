"""``ganfleet plan``: what a config would do and need, worked out from its networks without training them.

What imports MindSpore is imported late: a wrong option is reported at once.
"""

import json
from dataclasses import asdict
from functools import partial
from math import ceil, prod
from pathlib import Path

import click
from rich.table import Table

from ganfleet import config as configs
from ganfleet.cli import Number, Read, console, example, scaling
from ganfleet.config import Config, FleetConfig
from ganfleet.document import expanded
from ganfleet.errors import ConfigError
from ganfleet.fleet import start_mindspore
from ganfleet.fleet.links import Link
from ganfleet.fleet.tree import power_of_two
from ganfleet.size import Size

FLOAT = 4  # bytes
MIB = 2**20
COVERS = (
    "weights, optimizer slots, EMA, the flat weights (not with shard_optimizer) and gradients of each player, and one "
    "lane's images; "
    "not activations, compiled graphs or the framework itself"
)


@click.command(
    "plan",
    epilog=example(
        "ganfleet plan --config quickstart train.lanes=4",
        "ganfleet plan --config quickstart --measure --cards 8,64 --link 20us,25GB/s",
    ),
)
@click.option("--config", "path", required=True, help="A YAML file, or a name that `ganfleet configs` lists.")
@click.option("--measure", is_flag=True, help="Run each phase of each stage twice on one lane: its time and memory.")
@click.option("--cards", type=Read("numbers", scaling.numbers), help="Model a step on 8,64,1024 cards.")
@click.option("--link", type=Read("latency,bandwidth", Link.parse), help="Between nodes, of each card: 20us,25GB/s.")
@click.option("--node-link", type=Read("latency,bandwidth", Link.parse), help="Within a node.  [default: --link]")
@click.option("--cards-per-node", type=click.IntRange(1), default=8, show_default=True)
@click.option("--lane-seconds", type=Number(0, min_open=True), help="What one lane computes in a step.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def command(path: str, measure: bool, as_json: bool, overrides: tuple[str, ...], cards, link, **fleet) -> None:
    """Show what a config would do, without training.

    With --cards and --link it works out how long a step would take on fleets of so many cards, from the time of one
    lane: of --lane-seconds, or as --measure finds it here.
    """
    nodes = scaling.nodes_of(cards, link, measure=measure, **fleet)
    start_mindspore()
    config = configs.load(path, overrides)
    planned = plan(config, measure)
    if nodes:
        planned["model"] = scaling.modelled(planned, config, cards, nodes)
    if as_json:
        click.echo(json.dumps(planned, indent=2))
    else:
        show(planned)


def plan(config: Config, measured: bool = False) -> dict:
    """Stages, lanes, networks, collectives, memory and checkpoint size of ``config``, sizes in bytes.

    The data say the number of channels and classes; where they are still to come, RGB without classes is assumed.
    Where it is ``measured``, each phase has its cost on this machine too (see ``engine.cost``).

    Raises:
        ConfigError: a stage whose batch the lanes cannot share; data that are to be measured with and are not there.
        DataError: the data are damaged or too few.
    """
    from ganfleet.engine.run import about, data_of, new_strategy, strategy_of
    from ganfleet.strategies.base import ImageSpec

    path = getattr(config.data, "path", None)
    source = None
    if path and not measured and not expanded(path, "data.path").exists():
        image, count, class_names, notes = ImageSpec(getattr(config.data, "channels", None) or 3), None, [], []
        strategy = new_strategy(config, image)
    else:
        source = data_of(config)
        strategy, count = strategy_of(config, source), len(source)
        image, class_names, notes = strategy.image, list(source.class_names), about(source)
    notes += _begun_from(config)
    world_sizes = [n for n in range(1, config.train.lanes + 1) if config.train.lanes % n == 0]
    needs = partial(_needs, strategy, image.channels, config.fleet, world_sizes)
    stages = [stage | needs(stage) for stage in _stages(strategy.schedule(), config)]
    if measured:
        _add_costs(stages, config, strategy, source)
    return {
        "strategy": config.strategy.name,
        "images": {
            "count": count,
            "channels": image.channels,
            "classes": image.classes,
            "class_names": class_names,
            "notes": notes,
        },
        "steps": sum(stage["steps"] for stage in stages),
        "kimg": sum(stage["steps"] * stage["batch_size"] for stage in stages) / 1000,
        "stages": stages,
        "lanes": config.train.lanes,
        "world_sizes": [
            _share(config, n) | {"sharded_bytes": max(stage["sharded_bytes"][i] for stage in stages)}
            for i, n in enumerate(world_sizes)
        ],
        "checkpoint_bytes": max(stage["checkpoint_bytes"] for stage in stages),
    }


def _begun_from(config: Config) -> list[str]:
    """A note where the run is to begin with weights that are not there yet."""
    from ganfleet.store import checkpoint

    try:
        if config.train.init_from is not None:
            checkpoint.resolve(Path(config.train.init_from))
    except ConfigError as error:
        return [f"train.init_from: {error}"]
    return []


def _add_costs(stages: list[dict], config: Config, strategy, source) -> None:
    """Give each phase of ``stages`` its cost, and each stage the seconds that a rank with all lanes takes per kimg."""
    from ganfleet.engine.cost import costs
    from ganfleet.fleet import connect

    with connect(config.fleet, config.train.lanes):
        for stage in stages:
            declared = _declared(strategy, stage)
            measured = costs(config, strategy, source, declared)
            seconds = 0.0
            for phase in stage["phases"]:
                cost = measured[phase["name"]]
                phase |= asdict(cost)
                seconds += cost.seconds / (1 if phase["every"] == "scheduled" else phase["every"])
            stage["seconds_per_kimg"] = seconds * config.train.lanes / stage["batch_size"] * 1000


def _declared(strategy, stage: dict):
    """The Stage that ``stage`` of the plan is about."""
    return next(each for each in strategy.schedule() if each.name == stage["name"])


def _stages(schedule: list, config: Config) -> list[dict]:
    """Each stage that the run reaches, with the steps it lasts."""
    train = config.train
    total_nimg, total_steps = round(train.kimg * 1000), train.steps
    ends = [stage.starts_at for stage in schedule[1:]] + [total_nimg]
    stages, nimg, step = [], 0, 0
    for stage, end in zip(schedule, ends, strict=True):
        steps = max(0, ceil((min(end, total_nimg) - nimg) / stage.batch_size))
        if total_steps is not None:
            steps = min(steps, total_steps - step)
        if steps:
            stages.append(
                {
                    "name": stage.name,
                    "resolution": stage.resolution,
                    "starts_at_kimg": nimg / 1000,
                    "first_step": step,
                    "steps": steps,
                    "batch_size": stage.batch_size,
                    "lane_batch_size": stage.batch_size // train.lanes,
                }
            )
        nimg, step = nimg + steps * stage.batch_size, step + steps
    return stages


def _share(config: Config, world_size: int) -> dict:
    """Which lanes each rank of a fleet of ``world_size`` runs, and whether its sums can be exact."""
    share = config.train.lanes // world_size
    return {
        "world_size": world_size,
        "exact": power_of_two(world_size),
        "lanes": [list(range(first, first + share)) for first in range(0, config.train.lanes, share)],
    }


def _needs(strategy, channels: int, fleet: FleetConfig, world_sizes: list[int], stage: dict) -> dict:
    """The networks of a stage, its phases' collectives, and what it takes; on fleets of ``world_sizes`` also with
    ``fleet.shard_optimizer``.
    """
    from ganfleet.engine import contract

    declared = _declared(strategy, stage)
    trained = contract.players(strategy, declared)
    players = {name: _measure(name, player) for name, player in trained.items()}
    frozen = {name: _count(each.net) for name, each in contract.frozen(strategy, declared, trained).items()}
    batch = stage["lane_batch_size"] * channels * prod(Size.of(stage["resolution"])) * FLOAT
    memory = partial(_memory, list(players.values()), FLOAT * sum(frozen.values()), batch)
    return {
        "networks": [network for player in players.values() for network in player["networks"]],
        "frozen": [{"name": name, "parameters": count} for name, count in frozen.items()],
        "phases": [
            {"name": phase.name, "player": phase.player, "every": "scheduled" if phase.due else phase.every}
            | players[phase.player]["collective"]
            for phase in contract.phases(strategy, declared, players)
        ],
        "memory": memory(fleet.world_size or 1 if fleet.shard_optimizer else 1),
        "sharded_bytes": [memory(n)["total"] for n in world_sizes],
        "checkpoint_bytes": sum(player["checkpoint"] for player in players.values()),
    }


def _measure(name: str, player) -> dict:
    """What one player weighs: its networks' parameters, and bytes held, sent and stored."""
    from ganfleet.engine import contract
    from ganfleet.nn import buffers_of, recomputable

    nets = contract.networks(name, player)
    weights = sum(p.size for net in nets.values() for p in net.trainable_params()) * FLOAT
    stored = sum(map(_count, nets.values())) * FLOAT
    seen = sum(buffer.seen.size for net in nets.values() for buffer in buffers_of(net)) * FLOAT
    slots, averages = len(player.optimizer.slots()), 1 if player.ema else 0
    return {
        "networks": [
            {
                "name": net_name,
                "player": name,
                "parameters": sum(p.size for p in net.trainable_params()),
                "recomputable": len(recomputable(net)),
            }
            for net_name, net in nets.items()
        ],
        "collective": {"gradient_bytes": weights, "buffer_bytes": seen},
        "weights": stored - seen,
        "vector": weights,
        "slots": slots,
        "averages": averages,
        "seen": seen,
        "checkpoint": stored - seen + weights * (slots + averages),
    }


def _count(net) -> int:
    """All parameters of a network."""
    return sum(p.size for p in net.get_parameters())


def _memory(players: list[dict], frozen: int, batch: int, sharded: int) -> dict:
    """Bytes per card, by use, where so many ranks share out optimizer state and averages; 1 if they do not."""
    parts = dict.fromkeys(("weights", "optimizer", "ema", "flat"), 0)
    for player in players:
        part = FLOAT * ceil(player["vector"] / FLOAT / sharded)
        parts["weights"] += player["weights"]
        parts["optimizer"] += part * player["slots"]
        parts["ema"] += part * player["averages"]
        # The gradient; and the flat weights, of which ranks that share out have none.
        parts["flat"] += player["vector"] * (2 if sharded == 1 else 1) + player["seen"]
    if frozen:
        parts["frozen"] = frozen
    parts["batch"] = batch
    return parts | {"total": sum(parts.values()), "covers": COVERS}


def show(planned: dict) -> None:
    """Print ``plan``'s answer as tables."""
    terminal = console()
    images = planned["images"]
    count = "images still to come" if images["count"] is None else f"{images['count']:,} images"
    terminal.print(
        f"strategy {planned['strategy']} on {count}, {images['channels']} channels, "
        f"{images['classes']} classes: {planned['steps']:,} steps, {planned['kimg']:,.1f} kimg"
    )
    for note in images["notes"]:
        terminal.print(note, soft_wrap=True)
    columns = ["stage", "resolution", "from kimg", "steps", "batch", "per lane", "memory per card"]
    stages = [
        (
            *(s["name"], s["resolution"], f"{s['starts_at_kimg']:,.1f}", s["steps"], s["batch_size"]),
            *(s["lane_batch_size"], _size(s["memory"]["total"])),
        )
        for s in planned["stages"]
    ]
    terminal.print(_table("stages", columns, stages))

    fleets = [
        (
            *(w["world_size"], " | ".join(map(_span, w["lanes"])), "yes" if w["exact"] else "no"),
            _size(w["sharded_bytes"]),
        )
        for w in planned["world_sizes"]
    ]
    title = f"fleets that can run these {planned['lanes']} lanes, each rank its own one after the other"
    columns = ["ranks", "lanes of each rank", "exact: the bits of one rank", "memory per card with shard_optimizer"]
    terminal.print(_table(title, columns, fleets))

    networks = _unrepeated(
        (s["name"], n["name"], n["player"], f"{n['parameters']:,}", n["recomputable"])
        for s in planned["stages"]
        for n in s["networks"]
    )
    columns = ["from stage", "network", "player", "trained parameters", "blocks for train.recompute"]
    terminal.print(_table("networks", columns, networks))
    frozen = _unrepeated((s["name"], f["name"], f"{f['parameters']:,}") for s in planned["stages"] for f in s["frozen"])
    if frozen:
        terminal.print(_table("frozen networks", ["from stage", "network", "parameters"], frozen))

    phases = _unrepeated(
        (s["name"], p["name"], p["player"], p["every"], _size(p["gradient_bytes"]), _size(p["buffer_bytes"]))
        for s in planned["stages"]
        for p in s["phases"]
    )
    title = "sent per phase, in one collective but with shard_optimizer (each logged value adds 4 B)"
    terminal.print(_table(title, ["from stage", "phase", "player", "every", "gradient", "buffers"], phases))

    costs = [(s, p) for s in planned["stages"] for p in s["phases"] if "seconds" in p]
    if costs:
        columns = [
            "stage",
            "phase",
            "compiled in",
            "seconds per lane",
            "memory at the peak",
            "stage: sec/kimg on 1 rank",
        ]
        rows = [
            (
                *(s["name"], p["name"], f"{p['compile_seconds']:.1f} s", f"{p['seconds']:.3f}"),
                *(_size(p["peak_bytes"]) if p["peak_bytes"] else "not known", f"{s['seconds_per_kimg']:.1f}"),
            )
            for s, p in costs
        ]
        terminal.print(_table("measured here", columns, rows))

    memory = max((s["memory"] for s in planned["stages"]), key=lambda memory: memory["total"])
    uses = [(use, _size(size)) for use, size in memory.items() if use != "covers"]
    terminal.print(_table("memory per card, at most", ["for", "size"], uses))
    terminal.print(f"memory covers {memory['covers']}", soft_wrap=True)
    terminal.print(f"a checkpoint takes about {_size(planned['checkpoint_bytes'])}")
    if "model" in planned:
        terminal.print(scaling.table(planned["model"]))
        terminal.print(planned["model"]["is"], soft_wrap=True)


def _unrepeated(rows) -> list[tuple]:
    """``rows`` of (stage, name, …) without those that say of a name what the last stage said."""
    last, kept = {}, []
    for row in rows:
        if last.get(row[1]) != row[2:]:
            kept.append(row)
        last[row[1]] = row[2:]
    return kept


def _table(title: str, columns: list[str], rows: list[tuple]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    return table


def _span(lanes: list[int]) -> str:
    return str(lanes[0]) if len(lanes) == 1 else f"{lanes[0]}-{lanes[-1]}"


def _size(size: int) -> str:
    return f"{size / MIB:,.2f} MiB" if size >= MIB / 10 else f"{size:,} B"
