"""How long does it take two ranks to add up their gradients?

    python benchmarks/allreduce.py [--blocks 8]

    mpi         ganfleet's reduction over MPI, exact, one flat vector, as a run on a CPU reduces by default
    mccl        the same over MindSpore's own collectives
    per tensor  MindSpore's all-reduce once for each of 64 tensors of together as many bytes
    gloo        PyTorch's all-reduce of one flat vector

Two processes each, on a core of their own, on one machine. They take turns in blocks of reductions of one size; a ratio
is of neighbouring blocks: above 1, mpi is faster.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import turns
from turns import Contestant, connected, reply

SIZES = {"4 KB": (1 << 10, 200), "1 MB": (1 << 18, 100), "16 MB": (1 << 22, 10)}  # floats; reductions in a block
TENSORS = 64
FEWER = 10  # as often does "per tensor" reduce less in a block
CONTESTANTS = {
    "mpi": Contestant("ganfleet", ranks=2, backend="mpi"),
    "mccl": Contestant("ganfleet", ranks=2, backend="mccl"),
    "per tensor": Contestant("tensors", ranks=2, backend="mccl"),
    "gloo": Contestant("torch", ranks=2, backend="gloo"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--run", nargs=3, metavar=("NAME", "INDEX", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        name, index, folder = options.run
        return run(CONTESTANTS[name], int(index), Path(folder))
    orders = [f"{floats} {repeats}" for floats, repeats in SIZES.values()]
    with tempfile.TemporaryDirectory(prefix="allreduce-") as folder:
        times = turns.race(CONTESTANTS, [], Path(folder), orders, options.blocks)
    times[:, :, list(CONTESTANTS).index("per tensor")] *= FEWER
    for i, (size, (_, repeats)) in enumerate(SIZES.items()):
        print(f"\n{size}, {options.blocks} blocks of {repeats}")
        turns.table(list(CONTESTANTS), 1e3 * times[:, i] / repeats, "ms")


def run(contestant, index, folder):
    rank = turns.pin(contestant, index)
    reduce = {"ganfleet": flat, "tensors": per_tensor, "torch": gloo}[contestant.side](contestant, rank, folder)
    server = connected(folder)
    for order in server:
        floats, repeats = map(int, order.split())
        vector = np.random.default_rng(rank).standard_normal(floats, dtype=np.float32)
        total = sum(np.random.default_rng(other).standard_normal(floats, dtype=np.float32) for other in range(2))
        np.testing.assert_allclose(reduce(vector, 2), total, rtol=1e-6)  # and both have begun
        start = time.process_time()
        reduce(vector, repeats)
        reply(server, start)


def flat(contestant, rank, folder):
    """ganfleet's one collective of a phase."""
    from mindspore import Tensor

    from ganfleet import fleet
    from ganfleet.config import FleetConfig

    connection = fleet.connect(FleetConfig(backend=contestant.backend), 2)

    def reduce(vector, repeats):
        mine = Tensor(vector)
        for _ in range(repeats):
            total = connection.reduce(lambda lane: mine).asnumpy()
        return total

    return reduce


def per_tensor(contestant, rank, folder):
    from mindspore import Tensor, ops

    from ganfleet import fleet
    from ganfleet.config import FleetConfig

    fleet.connect(FleetConfig(backend=contestant.backend), 2)
    all_reduce = ops.AllReduce()

    def reduce(vector, repeats):
        parts = [Tensor(part) for part in np.split(vector, TENSORS)]
        for _ in range(max(1, repeats // FEWER)):
            total = [each.asnumpy() for each in [all_reduce(part) for part in parts]]
        return np.concatenate(total)

    return reduce


def gloo(contestant, rank, folder):
    import torch
    from peers import loop

    torch.set_num_threads(1)
    loop.join(rank, contestant.ranks, folder / "rendezvous")

    def reduce(vector, repeats):
        for _ in range(repeats):
            total = torch.from_numpy(vector.copy())
            torch.distributed.all_reduce(total)
        return total.numpy()

    return reduce


if __name__ == "__main__":
    main()
