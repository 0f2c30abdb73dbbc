"""Connect to the fleet the launcher started: ``connect(config.fleet, lanes)``."""

from ganfleet.errors import ConfigError
from ganfleet.fleet import ascend, cpu, launcher
from ganfleet.fleet.base import Fleet
from ganfleet.fleet.launcher import Launcher
from ganfleet.fleet.simulated import SimulatedFleet
from ganfleet.fleet.tree import power_of_two

__all__ = ["Fleet", "Launcher", "SimulatedFleet", "connect", "launcher"]

STARTED_BY = {
    "hccl": ("msrun", "msrun --worker_num=N --local_worker_num=N --join=True launch/train.py"),
    "mccl": ("msrun", "msrun --worker_num=N --local_worker_num=N --join=True launch/train.py"),
    "mpi": ("mpi", "mpiexec -n N python -m mpi4py launch/train.py"),
    "alone": ("none", "python launch/train.py"),
    "simulated": ("none", "python launch/train.py"),
}


def connect(settings, lanes: int) -> Fleet:
    """The fleet that ``settings`` (config's ``fleet`` section) and the launcher's environment describe.

    Everything that can be wrong is checked before the first byte goes to another rank. msrun's scheduler does not
    come back from here.

    Raises:
        ConfigError: a backend that the launcher did not start, or lanes that do not divide among the ranks.
        PeerLost: the rendezvous failed.
    """
    started = launcher.detect()
    backend, world_size = choose(settings, started)
    check_lanes(lanes, world_size, settings.reduction)
    import mindspore  # two seconds, which a config error should not cost

    if mindspore.get_context("device_target") == "CPU":
        cpu.pin(settings.cpu_threads, started.local_rank)
    else:
        ascend.make_deterministic()
    if backend == "alone":
        return Fleet(lanes, settings.reduction)
    if backend == "simulated":
        return SimulatedFleet(lanes, settings.reduction, world_size)
    if backend == "mpi":
        from ganfleet.fleet.mpi_fleet import MpiFleet

        return MpiFleet(lanes, settings.reduction)
    from ganfleet.fleet.mindspore_fleet import MindSporeFleet

    return MindSporeFleet(lanes, settings.reduction)


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
        by = "by hand" if started.kind == "none" else f"by {started.kind}"
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
        raise ConfigError(f"train.lanes is {lanes}: {world_size} ranks cannot share them equally, but {possible} can")
    if reduction == "exact" and not power_of_two(world_size):
        raise ConfigError(
            f"fleet.reduction exact needs a power-of-two number of ranks, not {world_size}: use auto or fast"
        )
