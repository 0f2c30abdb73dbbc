"""``ganfleet launch``: a fleet on this machine or on several, watched, and restarted where that helps."""

from pathlib import Path

import click

from ganfleet.cli import Number, example, train, workers
from ganfleet.errors import ConfigError


@click.command(
    "launch",
    epilog=example(
        "ganfleet launch -n 8 --max-restarts 5 -- --config my.yaml run.name=a",
        "ganfleet launch -n 8 --nodes 2 --master-addr 10.0.0.1 -- --config my.yaml",
    ),
)
@click.option("-n", "count", type=click.IntRange(1), required=True, help="Ranks on each node.")
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="How many nodes there are.")
@click.option("--node-rank", type=click.IntRange(0), default=0, show_default=True, help="This node's number.")
@click.option("--master-addr", help="The address of node 0, for several nodes.")
@click.option(
    "--master-port",
    type=click.IntRange(1, 65534),
    default=8118,
    show_default=True,
    help="Node 0 listens there and at the next one.",
)
@click.option(
    "--wait",
    type=Number(1),
    default=600,
    show_default=True,
    help="Seconds for the other nodes to come.",
)
@click.option("--max-restarts", type=click.IntRange(0), default=0, show_default=True, help="How often to start again.")
@click.option("--min-workers", type=click.IntRange(1), help="A restart may have fewer ranks, down to so many a node.")
@click.option("--backend", type=click.Choice(["msrun", "mpi"]), default="msrun", show_default=True)
@click.option(
    "--hang-after",
    type=Number(1),
    default=600,
    show_default=True,
    help="Seconds without a sign of life of any rank; compiling is one.",
)
@click.option("--log-dir", type=click.Path(path_type=Path), help="For the ranks' output.  [default: none is kept]")
@click.argument("words", nargs=-1, required=True, metavar="-- --config F [KEY=VALUE]...")
def command(count, master_addr, wait, words, **options):
    """Train a config on a fleet, as `ganfleet train` takes it, and start again when a rank is lost or hangs.

    A restart goes on from the newest checkpoint that is valid. The same command is started on every node, each with its
    own --node-rank.
    """
    from ganfleet.engine import signals
    from ganfleet.fleet.supervisor import Settings

    _check(master_addr=master_addr, count=count, **options)
    parsed = train.command.make_context("ganfleet launch", list(words)).params
    if parsed["workers"] is not None or parsed["log_dir"]:
        raise ConfigError("--workers and --log-dir do not belong behind the --: use -n and --log-dir before it")
    settings = Settings(count, master_addr=master_addr or Settings.master_addr, patience=wait, **options)
    with signals.stopping_at_once():
        return workers.launch(settings, ["train", *words], "-n")


def _check(nodes, node_rank, master_addr, min_workers, count, backend, **_):
    """Refuse options that do not go together.

    Raises:
        ConfigError: it says which.
    """
    if node_rank >= nodes:
        raise ConfigError(f"--node-rank is {node_rank}, and must be below --nodes, which is {nodes}")
    if nodes > 1 and not master_addr:
        raise ConfigError("--nodes needs --master-addr: give the address of node 0, the same one on every node")
    if nodes > 1 and backend == "mpi":
        raise ConfigError("--backend mpi is for one node: start mpiexec by hand on several, or use --backend msrun")
    if min_workers is not None and min_workers > count:
        raise ConfigError(f"--min-workers is {min_workers}, and must not be above -n, which is {count}")
