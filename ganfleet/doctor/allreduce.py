"""An all-reduce that is checked and timed, among ranks of this machine or of a whole fleet."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from shlex import quote

import numpy as np

from ganfleet import __file__ as package
from ganfleet.config import FleetConfig
from ganfleet.doctor.device import cards
from ganfleet.doctor.finding import Finding, failure, ok, skipped
from ganfleet.errors import ReplicasDiverged
from ganfleet.fleet import connect, launcher, links

SIZES = {1 << 12: 20, 1 << 20: 8, 1 << 24: 3}  # bytes, and how often: a step's collectives are of such sizes
PRIME = 251
FIRST = f"export PATH={quote(str(Path(sys.executable).parent))}:$PATH"  # what is installed beside this Python
MAIN = str(Path(package).with_name("__main__.py"))
MPI_PROGRAMS = {"Open MPI": "open mpi", "Intel(R) MPI": "intel", "MPICH": "hydra", "MVAPICH": "hydra"}


def check(workers: int = 2) -> Iterator[Finding]:
    """Start ``workers`` ranks on this machine as ``ganfleet train --workers`` does."""
    if len(cards()) == 1:
        yield skipped("there is one card: no other to add with")
        return
    with tempfile.TemporaryDirectory(prefix="ganfleet-doctor-") as logs:
        command = [sys.executable, MAIN, "doctor", "--fleet", logs, "--workers", str(workers)]
        ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        logged = [path.read_text(errors="replace") for path in sorted(Path(logs).glob("worker_*.log"))]
    yield _judged(
        "".join([*logged, ended.stderr]),
        ended.returncode,
        "ganfleet train --workers 2 --log-dir logs … keeps what each rank prints",
    )


def check_mpi() -> Iterator[Finding]:
    """The same through mpiexec, where there is MPI."""
    install = "pip install 'ganfleet[mpi]'"
    if find_spec("mpi4py") is None:
        yield skipped("mpi4py is not installed: only mpiexec needs it", install)
        return
    try:
        import mpi4py

        mpi4py.rc.initialize = False  # a rank may crash where MPI starts, but not this process
        from mpi4py import MPI

        library = MPI.Get_library_version()
    except (ImportError, RuntimeError) as error:
        yield failure(f"mpi4py finds no MPI library ({str(error).splitlines()[0]})", install)
        return
    mpiexec = shutil.which("mpiexec")
    if mpiexec is None:
        yield failure(
            "mpi4py is installed, but there is no mpiexec on the PATH",
            FIRST,
        )
        return
    told = subprocess.run([mpiexec, "--version"], capture_output=True, text=True, errors="replace")
    told = (told.stdout + told.stderr).lower()
    name = next((name for name in MPI_PROGRAMS if name in library), None)
    if name and MPI_PROGRAMS[name] not in told:
        first = next(iter(told.strip().splitlines()), "nothing")
        yield failure(
            f"mpi4py uses {name}, but {mpiexec} is of another MPI (it says {first!r}): each rank would be alone",
            f"{FIRST}, or {install}",
        )
        return
    as_root = ["--allow-run-as-root", "--oversubscribe"] if name == "Open MPI" else []
    ended = subprocess.run(
        [mpiexec, *as_root, "-n", "2", sys.executable, "-m", "mpi4py", "-m", "ganfleet", "doctor", "--json"],
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
    )
    yield _judged(ended.stdout + ended.stderr, ended.returncode, f"{install}, then {mpiexec} -n 2 hostname")


def _judged(printed: str, code: int, remedy: str) -> Finding:
    """What the ranks, which ended with ``code``, have ``printed``."""
    lines = printed.splitlines()
    for line in lines if code == 0 else ():
        if line.startswith('{"backend"'):
            measured = json.loads(line)
            return ok(in_words(measured), **measured)
    errors = [line.partition("error: ")[2] for line in lines if line.startswith("ganfleet: ") and "error: " in line]
    said = errors[0] if errors else next((line for line in reversed(lines) if line.strip()), "nothing")
    return failure(f"an all-reduce between two processes ended with {code}: {said}", remedy)


def in_words(measured: dict) -> str:
    times = ", ".join(
        f"{each['bytes'] / 1024:,.0f} KiB in {each['seconds'] * 1e3:.3g} ms" for each in measured["times"]
    )
    return (
        f"{measured['ranks']} ranks over {measured['backend']} add up right: {times}; "
        f"{measured['bandwidth'] / 1e6:,.0f} MB/s, as a link {measured['link']}"
    )


def measure() -> dict:
    """All-reduce among the ranks that a launcher has started, this being one: checked, and timed at the slowest rank.

    Raises:
        ConfigError: the nodes have different versions.
        PeerLost: the rendezvous failed.
        ReplicasDiverged: a sum is wrong.
    """
    started = launcher.detect()
    with connect(FleetConfig(), started.world_size) as fleet:
        import mindspore
        from mindspore import Tensor

        fleet.same(
            {
                "Python": sys.version.split()[0],
                "MindSpore": mindspore.__version__,
                "numpy": np.__version__,
                "ASCEND_HOME_PATH": os.environ.get("ASCEND_HOME_PATH"),
            }
        )
        times = {}
        for size, repeats in SIZES.items():
            numbers = np.arange(size // 4)
            mine = Tensor(_vector(numbers, fleet.rank))
            expected = sum(_vector(numbers, rank) for rank in range(fleet.world_size))
            seconds = []
            for _ in range(1 + repeats):  # the first one connects, or compiles
                start = time.perf_counter()
                total = fleet.reduce(lambda _, mine=mine: mine).asnumpy()
                seconds.append(time.perf_counter() - start)
            with fleet.agreeing():
                _compare(total, expected)
            times[size] = max(fleet.gather(statistics.median(seconds[1:])))
        hosts = sorted(set(fleet.gather(launcher.host())))
        largest = max(times)
        return {
            "backend": fleet.backend,
            "ranks": fleet.world_size,
            "hosts": hosts,
            "times": [{"bytes": size, "seconds": seconds} for size, seconds in times.items()],
            "bandwidth": largest / times[largest],
            "link": str(links.fitted(times, _exchange(fleet))),
        }


def _vector(numbers: np.ndarray, rank: int) -> np.ndarray:
    """Whole numbers, whose sums over any number of ranks are exact in float32."""
    return ((numbers + rank) % PRIME).astype(np.float32)


def _compare(total: np.ndarray, expected: np.ndarray) -> None:
    """
    Raises:
        ReplicasDiverged: they differ.
    """
    if not np.array_equal(total, expected):
        at = int(np.flatnonzero(total != expected)[0])
        raise ReplicasDiverged(
            f"an all-reduce of {total.nbytes} bytes is wrong: number {at} is {total[at]:g}, expected {expected[at]:g}. "
            "Test this machine's memory and links, and leave it out until then"
        )


def _exchange(fleet) -> links.Exchange:
    """What one rank of ``fleet`` does to reduce a vector."""
    if fleet.reduction == "exact" and fleet.backend == "mpi":
        return links.halving(fleet.world_size)
    if fleet.reduction == "exact" and fleet.world_size > 2:
        return links.gather(fleet.world_size)
    return links.ring(fleet.world_size)
