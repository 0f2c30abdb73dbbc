"""Contestants that take turns: each is one process or a few, started by this, and works when it is told to.

A benchmark calls ``race`` in the process that its user starts, and ``connected`` and ``reply`` in those that run. They
are the same script, with ``--run NAME INDEX FOLDER`` at the end of its arguments.
"""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
PATIENCE = 300  # seconds for a contestant to start


@dataclass(frozen=True)
class Contestant:
    """``processes`` work together as ranks of a fleet, as threads (of one process), or as ``parts`` of their own.

    ``lanes`` of a fleet are as many as its ranks if that is 0.
    """

    side: str
    ranks: int = 1
    threads: int = 1
    parts: int = 1
    backend: str = ""
    lanes: int = 0
    overrides: tuple[str, ...] = field(default=())

    @property
    def processes(self):
        return self.ranks * self.parts


def race(contestants, arguments, folder, orders, blocks):
    """The seconds and CPU seconds (blocks, orders, contestants, 2) that each of ``contestants``, by name, took.

    In each block they do each of ``orders`` (lines of text) in turn. Before that, each has done all of them once.
    """
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        server.listen(16)
        server.settimeout(1)
        teams = []
        try:
            for name, contestant in contestants.items():  # one after the other: each may compile
                for compiles in (True, False):  # a process that has compiled is slower than one that found the graphs
                    teams.append(Team(name, contestant, arguments, folder, server))
                    for order in orders:
                        teams[-1].turn(order)
                    if compiles:
                        teams.pop().end()
            return np.array([[[team.turn(o) for team in teams] for o in orders] for _ in range(blocks)])
        finally:
            for team in teams:
                team.end()


class Team:
    """The processes of one contestant."""

    def __init__(self, name, contestant, arguments, folder, server):
        self.processes = []
        launched = contestant.ranks > 1 and contestant.backend in ("mpi", "mccl")
        for index in range(1 if launched else contestant.processes):
            words = command(arguments, name, index, folder)
            if contestant.backend == "mpi":
                mpiexec = Path(sys.executable).with_name("mpiexec")
                words = [str(mpiexec), "-n", str(contestant.ranks), words[0], "-m", "mpi4py", *words[1:]]
            if contestant.backend == "mccl":
                launch = "from ganfleet.fleet.supervisor import Settings, launch; "
                launch += f"launch(Settings({contestant.ranks}), {words!r})"
                words = [sys.executable, "-c", launch]
            with open(folder / f"{name}-{index}.log", "wb") as log:
                made = subprocess.Popen(words, env=environment(folder), stdout=log, stderr=subprocess.STDOUT)
            self.processes.append(made)
        self.logs = sorted(folder.glob(f"{name}-?.log"))
        self.members = [self.accept(server) for _ in range(contestant.processes)]

    def accept(self, server):
        end = time.monotonic() + PATIENCE
        while True:
            try:
                member = server.accept()[0].makefile("rw")
                break
            except TimeoutError:
                if any(process.poll() is not None for process in self.processes) or time.monotonic() > end:
                    self.fail()
        said = member.readline()  # what it has to say first
        if said.strip():
            print(said, end="", flush=True)
        return member

    def turn(self, order):
        """Seconds until the last member has done ``order``, and CPU seconds of all members."""
        start = time.perf_counter()
        for member in self.members:
            member.write(f"{order}\n")
            member.flush()
        replies = [member.readline() for member in self.members]
        if not all(replies):
            self.fail()
        return time.perf_counter() - start, sum(map(float, replies))

    def fail(self):
        ends = (log.read_text(errors="replace")[-2000:] for log in self.logs)
        raise SystemExit("\n".join(["a contestant has ended:", *ends]))

    def end(self):
        for member in self.members:
            member.close()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.terminate()
                process.wait()


def command(arguments, name, index, folder):
    """That runs this benchmark as member ``index`` of contestant ``name``."""
    return [sys.executable, str(Path(sys.argv[0]).resolve()), *arguments, "--run", name, str(index), str(folder)]


def environment(folder):
    """The benchmarks can be imported, and a graph is compiled once for all contestants."""
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "GANFLEET_COMPILE_CACHE": str(folder / "graphs")}


def table(names, times, unit):
    """A Markdown table of ``times`` (blocks, contestants, 2), wall and CPU, in ``unit``, and of ratios to the first."""
    print(f"| contestant | {unit} | quartiles | ratio | quartiles | CPU | ratio | quartiles |\n" + "| --- " * 8 + "|")
    for i, name in enumerate(names):
        cells = [name]
        for kind in (0, 1):
            low, middle, high = np.percentile(times[:, i, kind], [25, 50, 75])
            cells += [f"{middle:.2f}", f"{low:.2f} – {high:.2f}"][: 2 - kind]
            low, middle, high = np.percentile(times[:, i, kind] / times[:, 0, kind], [25, 50, 75])
            cells += [f"**{middle:.3f}**", f"{low:.3f} – {high:.3f}"] if i else ["", ""]
        print(f"| {' | '.join(cells)} |")


# ── In those that run


def pin(contestant, index):
    """Take a core for each rank or thread of ``contestant``; returns the number of this process among them."""
    rank = int(os.environ.get("PMI_RANK", os.environ.get("MS_NODE_ID", index)))
    if os.environ.get("MS_ROLE") != "MS_SCHED":
        cores = sorted(os.sched_getaffinity(0), reverse=True)  # the first one serves the system more than others do
        first, count = rank % len(cores), contestant.threads
        os.sched_setaffinity(0, (cores * 2)[first : first + count])
    return rank


def connected(folder, said=""):
    """The one that calls the turns, as a file: a line read from it is an order."""
    server = socket.socket(socket.AF_UNIX)
    server.connect(str(folder / "socket"))
    file = server.makefile("rw")
    file.write(said + "\n")
    file.flush()
    return file


def reply(server, start):
    """Say that the order is done, which was begun at process time ``start``."""
    server.write(f"{time.process_time() - start}\n")
    server.flush()
