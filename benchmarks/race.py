"""How fast is ganfleet, next to PyTorch on the same cores, to its own kernels switched off, and to itself alone?

    python benchmarks/race.py WORK [CONTESTANT …] [--blocks 8] [--steps N] [--check] [key=value …]

WORK is dcgan, quickstart, stylegan64, stylegan64-wide or cyclegan: a config of configs/, of which StyleGANs train at
the last resolution only. The first contestant's time is what those of the others are divided by:

    ganfleet     one rank                         torch      PyTorch, one thread
    stock        the same, fleet.kernels=stock    torch-2    PyTorch, one process of two threads
    ganfleet-2   two ranks, under mpiexec         ddp        PyTorch, two processes, DistributedDataParallel on gloo
    stock-2      the same, fleet.kernels=stock    halves     two independent ganfleets, each with half of the batch
    mccl-2       two ranks under MindSpore's mccl ganfleet-4 four ranks, on two cores

Every contestant has as many cores as it has ranks or threads, and trains on the same images in memory. They take turns
in blocks of steps, and while one runs the others wait. A ratio is of neighbouring blocks. Before that, ganfleet records
one step: its weights, inputs, losses, gradients and updates; PyTorch must have the same, or there is no race. CPU
seconds, of all threads, see less of what else the machine does; ranks that wait for each other use them too.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
CONFIGS = HERE.parent / "configs"
IMAGES = 512
FAR = "1e6"  # kimg; what is due every so often is not due in a race
PATIENCE = 300  # seconds for a contestant to start


@dataclass(frozen=True)
class Work:
    """``steps`` of a block, a multiple of the period of lazy R1."""

    config: str
    peer: str
    steps: int
    overrides: tuple[str, ...] = ()


WORKS = {
    "dcgan": Work("dcgan_fashion.yaml", "dcgan", 5),
    "quickstart": Work("quickstart.yaml", "stylegan", 16, ("strategy.start_resolution=32",)),
    "stylegan64": Work("stylegan_emoji64.yaml", "stylegan", 8, ("strategy.start_resolution=64",)),
    "stylegan64-wide": Work(
        "stylegan_emoji64.yaml",
        "stylegan",
        1,
        ("strategy.start_resolution=64", "strategy.fmap_base=2048", "strategy.r1_every=1"),
    ),
    "cyclegan": Work("cyclegan_emoji64.yaml", "cyclegan", 16),
}


@dataclass(frozen=True)
class Contestant:
    """``processes`` share a batch as ranks of a fleet, as threads (of one process), or as ``parts`` of their own."""

    side: str
    ranks: int = 1
    threads: int = 1
    parts: int = 1
    backend: str = ""
    overrides: tuple[str, ...] = field(default=())

    @property
    def processes(self):
        return self.ranks * self.parts


STOCK = ("fleet.kernels=stock",)
CONTESTANTS = {
    "ganfleet": Contestant("ganfleet"),
    "stock": Contestant("ganfleet", overrides=STOCK),
    "ganfleet-2": Contestant("ganfleet", ranks=2, backend="mpi"),
    "stock-2": Contestant("ganfleet", ranks=2, backend="mpi", overrides=STOCK),
    "mccl-2": Contestant("ganfleet", ranks=2, backend="mccl"),
    "ganfleet-4": Contestant("ganfleet", ranks=4, backend="mpi"),
    "halves": Contestant("ganfleet", parts=2),
    "torch": Contestant("torch"),
    "torch-2": Contestant("torch", threads=2),
    "ddp": Contestant("torch", ranks=2, backend="gloo"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=WORKS, metavar="WORK")
    parser.add_argument("words", nargs="*", metavar="CONTESTANT or key=value")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--steps", type=int, help="of a block")
    parser.add_argument("--check", action="store_true", help="only that both sides agree")
    parser.add_argument("--run", nargs=3, metavar=("NAME", "INDEX", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_intermixed_args()
    overrides = [word for word in options.words if "=" in word]
    names = [word for word in options.words if "=" not in word] or ["ganfleet", "torch"]
    unknown = [name for name in names if name not in CONTESTANTS]
    if unknown:
        parser.error(f"there is no contestant {unknown[0]}: there are {', '.join(CONTESTANTS)}")
    if options.run:
        name, index, folder = options.run
        return run(options.work, name, int(index), Path(folder), overrides)
    with tempfile.TemporaryDirectory(prefix="race-") as folder:
        race(options, names, overrides, Path(folder))


# ── The one that calls the turns


def race(options, names, overrides, folder):
    work, arguments = WORKS[options.work], [options.work, *overrides]
    steps = options.steps or work.steps
    subprocess.run(command(arguments, "record", 0, folder), env=environment(folder), check=True)
    facts = json.loads(str(np.load(folder / "reference.npz")["facts"]))
    print(f"{' '.join(arguments)}: batches of {facts['batch_size']}, ganfleet's kernels are {facts['form']}")
    if options.check:
        subprocess.run(command(arguments, "check", 0, folder), env=environment(folder), check=True)
        return
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        server.listen(16)
        server.settimeout(PATIENCE)
        teams = {}
        try:
            for name in names:  # one after the other: each compiles its graphs, or proves that it agrees
                teams[name] = Team(name, arguments, folder, server)
                teams[name].turn(steps)
            seconds = np.array([[team.turn(steps) for team in teams.values()] for _ in range(options.blocks)])
        finally:
            for team in teams.values():
                team.end()
    report(names, 1e3 * seconds / (steps * facts["batch_size"]), steps)


class Team:
    """The processes of one contestant."""

    def __init__(self, name, arguments, folder, server):
        contestant = CONTESTANTS[name]
        self.processes = []
        for index in range(1 if contestant.ranks > 1 and contestant.side == "ganfleet" else contestant.processes):
            words = command(arguments, name, index, folder)
            if contestant.backend == "mpi":
                mpiexec = Path(sys.executable).with_name("mpiexec")
                words = [str(mpiexec), "-n", str(contestant.ranks), words[0], "-m", "mpi4py", *words[1:]]
            if contestant.backend == "mccl":
                launch = f"from ganfleet.fleet import processes; processes.launch({contestant.ranks}, {words!r})"
                words = [sys.executable, "-c", launch]
            with open(folder / f"{name}-{index}.log", "wb") as log:
                made = subprocess.Popen(words, env=environment(folder), stdout=log, stderr=subprocess.STDOUT)
            self.processes.append(made)
        self.logs = sorted(folder.glob(f"{name}-?.log"))
        self.members = [self.accept(server) for _ in range(contestant.processes)]

    def accept(self, server):
        try:
            member = server.accept()[0].makefile("rw")
        except TimeoutError:
            self.fail()
        said = member.readline()  # what it has to say about the agreement
        if said.strip():
            print(said, end="", flush=True)
        return member

    def turn(self, steps):
        """Seconds until the last member has done ``steps`` steps, and CPU seconds of all members."""
        start = time.perf_counter()
        for member in self.members:
            member.write(f"{steps}\n")
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
    return [sys.executable, str(Path(__file__).resolve()), *arguments, "--run", name, str(index), str(folder)]


def environment(folder):
    """The benchmarks can be imported, and a graph is compiled once for all contestants."""
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "GANFLEET_COMPILE_CACHE": str(folder / "graphs")}


def report(names, times, steps):
    """``times`` (blocks, contestants, 2), in seconds and CPU seconds per 1,000 images."""
    print(
        f"{len(times)} blocks of {steps} steps; seconds and CPU seconds per 1,000 images, and their ratio to {names[0]}"
    )
    print("| contestant | seconds | quartiles | ratio | quartiles | CPU s | ratio | quartiles |\n" + "| --- " * 8 + "|")
    for i, name in enumerate(names):
        cells = [name]
        for kind in (0, 1):
            low, middle, high = np.percentile(times[:, i, kind], [25, 50, 75])
            cells += [f"{middle:.2f}", f"{low:.2f} – {high:.2f}"][: 2 - kind]
            low, middle, high = np.percentile(times[:, i, kind] / times[:, 0, kind], [25, 50, 75])
            cells += [f"**{middle:.3f}**", f"{low:.3f} – {high:.3f}"] if i else ["", ""]
        print(f"| {' | '.join(cells)} |")


# ── Those that run


def run(work, name, index, folder, overrides):
    if name == "record":
        return record(WORKS[work], folder, overrides)
    if name == "check":
        return print(agreement(loop_of(folder)))
    contestant = CONTESTANTS[name]
    rank = int(os.environ.get("PMI_RANK", os.environ.get("MS_NODE_ID", index)))
    if os.environ.get("MS_ROLE") != "MS_SCHED":
        cores = sorted(os.sched_getaffinity(0), reverse=True)  # the first one serves the system more than others do
        first, count = rank % len(cores), contestant.threads
        os.sched_setaffinity(0, (cores * 2)[first : first + count])
    if contestant.side == "torch":
        return run_torch(contestant, rank, folder)
    return run_ganfleet(WORKS[work], contestant, folder, overrides)


def run_torch(contestant, rank, folder):
    import torch
    from peers import loop

    torch.set_num_threads(contestant.threads)
    said = agreement(loop_of(folder)) if rank == 0 else ""
    if contestant.ranks > 1:
        loop.join(rank, contestant.ranks, folder / "rendezvous")
    racing = loop_of(folder, contestant.ranks)
    server = connected(folder, said)
    for order in server:
        start = time.process_time()
        racing.run(int(order))
        reply(server, start)


def loop_of(folder, ranks=1):
    from peers.loop import Loop

    with np.load(folder / "reference.npz") as file:
        return Loop(dict(file), ranks)


def agreement(loop):
    worst = loop.assert_agrees()
    return "PyTorch agrees: " + ", ".join(f"{what} to {error:.0e}" for what, error in worst.items())


def run_ganfleet(work, contestant, folder, overrides):
    import ganfleet
    from ganfleet.engine.callbacks import Callback

    class TakingTurns(Callback):
        """Steps when told to, on each rank."""

        def begin(self, run):
            self.server = connected(folder)
            self.wait()

        def after_step(self, run, stats):
            self.left -= 1
            if not self.left:
                reply(self.server, self.start)
                self.wait()

        def wait(self):
            order = self.server.readline()
            if not order:
                os._exit(0)  # nothing is to be saved
            self.left, self.start = int(order), time.process_time()

    sections = config_of(work, overrides).resolved()
    sections["train"]["batch_size"] //= contestant.parts
    sections["train"]["lanes"] = contestant.ranks
    never = (f"train.kimg={FAR}", f"checkpoint.every_kimg={FAR}", f"log.samples_every_kimg={FAR}", "log.samples=1")
    with tempfile.TemporaryDirectory(prefix="runs-", dir=folder) as runs:
        settings = (*never, "train.audit_every=0", f"run.dir={runs}", *contestant.overrides)
        ganfleet.train(sections, *settings, source=images(sections["strategy"]), callbacks=[TakingTurns()])


def reply(server, start):
    server.write(f"{time.process_time() - start}\n")
    server.flush()


def connected(folder, said=""):
    server = socket.socket(socket.AF_UNIX)
    server.connect(str(folder / "socket"))
    file = server.makefile("rw")
    file.write(said + "\n")
    file.flush()
    return file


# ── What both train, and what ganfleet makes of one step


def config_of(work, overrides):
    """The config of ``work``, but for its data."""
    from ganfleet import Config

    sections = Config.load(CONFIGS / work.config, *work.overrides, *overrides).resolved()
    return Config.from_dict(sections | {"data": {"source": "given"}})


def images(strategy):
    """uint8 images by name: the embedded ones, for emoji enlarged and in three channels."""
    from ganfleet.data import open_source

    source = open_source("embedded", resolution=32)
    grey = np.stack([source[i]["image"] for i in range(IMAGES)])
    if strategy["resolution"] == 32:
        return {"image": grey}
    scale = strategy["resolution"] // 32
    large = np.concatenate([grey, np.roll(grey, 1, 0), np.roll(grey, 2, 0)], 1).repeat(scale, 2).repeat(scale, 3)
    if strategy["name"] == "cyclegan":
        return {"image_a": large, "image_b": 255 - np.roll(large, 7, 0)}
    return {"image": large}


def record(work, folder, overrides):
    """Write one step, in which every phase is due, with its networks and images to ``folder``/reference.npz."""
    from ganfleet import rng
    from ganfleet.clock import Clock
    from ganfleet.data import as_source
    from ganfleet.engine import run
    from ganfleet.engine.program import Program
    from ganfleet.engine.tensors import tensors
    from ganfleet.fleet import cpu
    from ganfleet.nn import forms

    config = config_of(work, overrides)
    sections = config.resolved()
    given = images(sections["strategy"])
    strategy = run.strategy_of(config, as_source(given, config.strategy.resolution))
    forms.use(forms.STOCK if config.fleet.kernels == "stock" else None)
    cpu.pin(1)
    clock = Clock(total_nimg=10**9)
    stage = strategy.stage(clock)
    program = Program(strategy, stage, config.train.seed)
    shake(program)
    n = stage.batch_size
    facts = {"peer": work.peer, "options": sections["strategy"], "batch_size": n, "images": list(given)}
    facts["form"] = forms.form()
    arrays = {f"images/{name}": array for name, array in given.items()}
    for player in program.players.values():
        if player.ema is not None:
            facts["ema_beta"] = player.ema.beta(n)
        arrays |= {f"weights/{name}": array for name, array in player.tensors()[f"{player.name}.weights"].items()}
    real = {name: array[:n].astype(np.float32) / 127.5 - 1 for name, array in given.items()}
    kept = {}
    for phase in program.phases:
        player, size = phase.player, phase.player.size
        noise = strategy.draw(rng.stream(0, phase.name), n, clock)
        if phase.phase.prepare:
            noise |= phase.phase.prepare(rng.stream(0, "prepare"), kept, {})
        flat, made = phase.run(tensors(real), tensors(noise), np.zeros(0, np.float32))
        kept |= {name: tensor.asnumpy().copy() for name, tensor in made.items()}
        values = flat.asnumpy().copy()
        arrays[f"{phase.name}/loss"] = values[size + player.seen_size]
        arrays |= {f"{phase.name}/real/{name}": array for name, array in real.items()}
        arrays |= {f"{phase.name}/noise/{name}": np.asarray(array) for name, array in noise.items()}
        parts = np.split(values[:size], np.cumsum([p.size for p in player.weights])[:-1])
        for weight, part in zip(player.weights, parts, strict=True):
            arrays[f"{phase.name}/gradient/{weight.name}"] = part.reshape(weight.shape)
        player.update(flat, 1.0, strategy.hyper(player.name, clock))
        after = player.tensors()[f"{player.name}.weights"]
        arrays |= {f"{phase.name}/after/{name}": array for name, array in after.items()}
    np.savez(folder / "reference.npz", facts=json.dumps(facts), **arrays)


def shake(program):
    """Move every weight a little. At first a StyleGAN's constants and biases are all equal, so that a norm divides
    nothing by nothing, and each side rounds that otherwise."""
    from ganfleet import rng

    state = program.tensors()
    for component in [name for name in state if name.endswith(".weights")]:
        for name, array in state[component].items():
            noise = rng.stream(0, name).standard_normal(array.shape, dtype=np.float32)
            state[component][name] = array + 0.1 * max(array.std(), 0.1) * noise
    program.load(state)


if __name__ == "__main__":
    main()
