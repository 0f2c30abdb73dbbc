"""Fix how many cores the kernels of one rank may use: the bits of a oneDNN weight gradient depend on that number."""

import os

from ganfleet.errors import ConfigError


def pin(threads: int, rank: int) -> None:
    """Bind this process to ``threads`` cores, different ones for neighbouring ranks.

    MindSpore sizes its thread pools by the cores a process may run on when the first kernel runs, so call this
    before. Threads started earlier keep their cores. Does nothing where the system has no affinity calls.

    Raises:
        ConfigError: the machine allows this process fewer cores.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        raise ConfigError(f"fleet.cpu_threads is {threads}, but this process may use {len(allowed)} cores: lower it")
    # Ranks of one launcher share a parent; counting from its id keeps two fleets on one machine off the same cores.
    first = os.getppid() + rank * threads
    os.sched_setaffinity(0, {allowed[(first + i) % len(allowed)] for i in range(threads)})
