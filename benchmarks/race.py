"""How fast is ganfleet, next to PyTorch on the same cores, to its own kernels switched off, and to itself alone?

    python benchmarks/race.py WORK [CONTESTANT …] [--blocks 8] [--steps N] [--check] [key=value …]

WORK is dcgan, quickstart, stylegan64, stylegan64-wide or cyclegan: a config of configs/, of which StyleGANs train at
the last resolution only. The first contestant's time is what those of the others are divided by:

    ganfleet     one rank                         torch      PyTorch, one thread
    stock        the same, fleet.kernels=stock    torch-2    PyTorch, one process of two threads
    ganfleet-2   two ranks, under mpiexec         ddp        PyTorch, two processes, DistributedDataParallel on gloo
    stock-2      the same, fleet.kernels=stock    halves     two independent ganfleets, each with half of the batch
    mccl-2       two ranks under MindSpore's mccl ganfleet-4 four ranks, on two cores
    4-lanes      two ranks with four lanes, so with the model of ganfleet-4

Every contestant has as many cores as it has ranks or threads, and trains on the same images in memory. They take turns
in blocks of steps, and while one runs the others wait. A ratio is of neighbouring blocks. Before that, ganfleet records
one step: its weights, inputs, losses, gradients and updates; PyTorch must have the same, or there is no race. CPU
seconds, of all threads, see less of what else the machine does; ranks that wait for each other use them too.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import turns
from turns import Contestant, command, connected, environment, reply

HERE = Path(__file__).parent
CONFIGS = HERE.parent / "configs"
IMAGES = 512
FAR = "1e6"  # kimg; what is due every so often is not due in a race


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


STOCK = ("fleet.kernels=stock",)
CONTESTANTS = {
    "ganfleet": Contestant("ganfleet"),
    "stock": Contestant("ganfleet", overrides=STOCK),
    "ganfleet-2": Contestant("ganfleet", ranks=2, backend="mpi"),
    "stock-2": Contestant("ganfleet", ranks=2, backend="mpi", overrides=STOCK),
    "mccl-2": Contestant("ganfleet", ranks=2, backend="mccl"),
    "ganfleet-4": Contestant("ganfleet", ranks=4, backend="mpi"),
    "4-lanes": Contestant("ganfleet", ranks=2, backend="mpi", lanes=4),
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
    contestants = {name: CONTESTANTS[name] for name in names}
    (times,) = np.moveaxis(turns.race(contestants, arguments, folder, [str(steps)], options.blocks), 1, 0)
    print(f"{options.blocks} blocks of {steps} steps")
    turns.table(names, 1e3 * times / (steps * facts["batch_size"]), "seconds per 1,000 images")


# ── Those that run


def run(work, name, index, folder, overrides):
    if name == "record":
        return record(WORKS[work], folder, overrides)
    if name == "check":
        return print(agreement(loop_of(folder)))
    contestant = CONTESTANTS[name]
    rank = turns.pin(contestant, index)
    if contestant.side == "torch":
        return run_torch(contestant, rank, folder)
    return run_ganfleet(WORKS[work], contestant, folder, folder / f"runs-{name}-{index}", overrides)


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


def run_ganfleet(work, contestant, folder, runs, overrides):
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
    sections["train"]["lanes"] = contestant.lanes or contestant.ranks
    never = (f"train.kimg={FAR}", f"checkpoint.every_kimg={FAR}", f"log.samples_every_kimg={FAR}", "log.samples=1")
    settings = (*never, "train.audit_every=0", f"run.dir={runs}", *contestant.overrides)
    ganfleet.train(sections, *settings, source=images(sections["strategy"]), callbacks=[TakingTurns()])


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
    from ganfleet.engine.tensors import scalar, tensors
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
        flat, made = phase.run(tensors(real), tensors(noise))
        kept |= {name: tensor.asnumpy().copy() for name, tensor in made.items()}
        values = flat.asnumpy().copy()
        arrays[f"{phase.name}/loss"] = values[size + player.seen_size]
        arrays |= {f"{phase.name}/real/{name}": array for name, array in real.items()}
        arrays |= {f"{phase.name}/noise/{name}": np.asarray(array) for name, array in noise.items()}
        parts = np.split(values[:size], np.cumsum([p.size for p in player.weights])[:-1])
        for weight, part in zip(player.weights, parts, strict=True):
            arrays[f"{phase.name}/gradient/{weight.name}"] = part.reshape(weight.shape)
        player.update(flat, scalar(1.0), strategy.hyper(player.name, clock))
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
