"""Connect to the fleet the launcher started: ``connect(config.fleet, lanes)``, or to draw images from a checkpoint
``connect_for_sampling()``."""

from contextlib import ExitStack

from ganfleet.errors import ConfigError
from ganfleet.fleet import ascend, cpu, heartbeat, launcher, subnormals
from ganfleet.fleet.base import Fleet
from ganfleet.fleet.launcher import Launcher
from ganfleet.fleet.simulated import SimulatedFleet
from ganfleet.fleet.support import start_mindspore
from ganfleet.fleet.tree import power_of_two

__all__ = [
    "Fleet",
    "Launcher",
    "SimulatedFleet",
    "connect",
    "connect_for_sampling",
    "heartbeat",
    "launcher",
    "start_mindspore",
]

MSRUN = "msrun --worker_num=N --local_worker_num=N --join=True $(which ganfleet) train"
STARTED_BY = {
    "hccl": ("msrun", MSRUN),
    "mccl": ("msrun", MSRUN),
    "mpi": ("mpi", "mpiexec -n N python -m mpi4py -m ganfleet train"),
    "alone": ("none", "ganfleet train"),
    "simulated": ("none", "ganfleet train"),
}


def connect(settings, lanes: int, started: Launcher | None = None) -> Fleet:
    """The fleet that ``settings`` (config's ``fleet`` section) and the launcher's environment describe.

    ``started`` is what the launcher says, where that is not in the environment.

    Everything that can be wrong is checked before the first byte goes to another rank. msrun's scheduler does not
    come back from here. On a CPU this process is bound to ``settings.cpu_threads`` cores until the fleet is closed, and
    takes subnormal numbers for zero.

    Raises:
        ConfigError: a backend that the launcher did not start or that cannot use the cards, lanes that do not divide
            among the ranks, or HF32 on a CPU.
        PeerLost: the rendezvous failed.
    """
    started = started or launcher.detect()
    backend, world_size = choose(settings, started)
    check_lanes(lanes, world_size, settings.reduction)
    fleet = _connect(backend, started, world_size, lanes, settings.reduction, settings.cpu_threads, settings.hf32)
    fleet.shards_optimizer = settings.shard_optimizer and fleet.world_size > 1
    return fleet


def connect_for_sampling(cpu_threads: int = 1) -> Fleet:
    """The fleet that the launcher started, of any number of ranks, with one lane each.

    Drawing images sums nothing over the ranks, so how a checkpoint's run summed does not matter here.

    Args:
        cpu_threads: how many cores a rank may use on a CPU, at most all that this process is allowed.

    Raises:
        ConfigError: started by mpiexec on cards.
        PeerLost: the rendezvous failed.
    """
    started = launcher.detect()
    backend = {"none": "alone", "msrun": "mccl", "mpi": "mpi"}[started.kind]
    return _connect(backend, started, started.world_size, started.world_size, "fast", min(cpu_threads, cpu.count()))


def _connect(
    backend: str,
    started: Launcher,
    world_size: int,
    lanes: int,
    reduction: str,
    cpu_threads: int,
    hf32: bool | None = None,
) -> Fleet:
    mindspore = start_mindspore()  # two seconds, which a config error should not cost
    on_cpu = mindspore.get_context("device_target") == "CPU"
    if backend == "mpi" and not on_cpu:
        raise ConfigError(
            "mpiexec is for fleets of CPUs, where ranks sum on the host: on Ascend cards every rank would take card 0. "
            f"Start the cards with {MSRUN}"
        )
    if hf32 and on_cpu:
        raise ConfigError("fleet.hf32 is for Ascend cards, and this process computes on a CPU: set it to false here")
    with ExitStack() as taken:
        if on_cpu:
            taken.enter_context(cpu.pin(cpu_threads, started.local_rank or 0))
            taken.enter_context(subnormals.flushed())
        else:
            ascend.make_deterministic(hf32)
        fleet = _open(backend, world_size, lanes, reduction)
        if fleet.world_size != world_size:
            raise ConfigError(
                f"{started.sign} says that this is one of {world_size} processes, but {fleet.world_size} have "
                f"connected: start it through {started.kind}, or unset {started.sign}"
            )
        if started.kind != "none":
            launcher.connected(fleet.rank)
            taken.callback(launcher.connected, None)
        fleet.at_close = taken.pop_all()
    return fleet


def _open(backend: str, world_size: int, lanes: int, reduction: str) -> Fleet:
    if backend == "alone":
        return Fleet(lanes, reduction)
    if backend == "simulated":
        return SimulatedFleet(lanes, reduction, world_size)
    if backend == "mpi":
        from ganfleet.fleet.mpi_fleet import MpiFleet

        return MpiFleet(lanes, reduction)
    from ganfleet.fleet.mindspore_fleet import MindSporeFleet

    return MindSporeFleet(lanes, reduction)


def choose(settings, started: Launcher) -> tuple[str, int]:
    """The backend and world size for what the config asks and the launcher started.

    Raises:
        ConfigError: the two contradict each other.
    """
    backend = settings.backend
    if backend == "auto":
        if started.kind == "none":
            backend = "simulated" if settings.world_size and settings.world_size > 1 else "alone"
        else:
            backend = "mpi" if started.kind == "mpi" else "mccl"
    kind, command = STARTED_BY[backend]
    if kind != started.kind:
        by = "by hand" if started.kind == "none" else f"by {started.kind} ({started.sign} is set)"
        raise ConfigError(f"fleet.backend is {backend}, but this process was started {by}: start it as {command}")
    world_size = started.world_size
    if backend == "simulated":
        world_size = settings.world_size or 1
    elif settings.world_size and settings.world_size != world_size:
        raise ConfigError(
            f"fleet.world_size is {settings.world_size}, but {world_size} processes were started: "
            "leave it null, or start as many"
        )
    return backend, world_size


def check_lanes(lanes: int, world_size: int, reduction: str) -> None:
    """Refuse a fleet whose ranks cannot share the lanes equally.

    Raises:
        ConfigError: naming the world sizes that are possible.
    """
    if lanes % world_size:
        possible = ", ".join(str(n) for n in range(1, lanes + 1) if lanes % n == 0)
        raise ConfigError(
            f"train.lanes is {lanes}: {world_size} ranks cannot share them equally, but {possible} can: start so many"
        )
    if reduction == "exact" and not power_of_two(world_size):
        raise ConfigError(
            f"fleet.reduction exact needs a power-of-two number of ranks, not {world_size}: use auto or fast"
        )
