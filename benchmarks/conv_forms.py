# ruff: noqa: E402, I001  (the order of imports matters here)
"""How much faster than MindSpore's own operators are the CPU's forms in ganfleet/nn/cpu? Prints one table.

    python benchmarks/conv_forms.py [--cores 1] [--rounds 7] [--only TEXT]

Rounds of the two forms alternate in one process; read the ratios, not the times. One core is how the fleet pins a rank.
"""

import argparse
import os

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--cores", type=int, default=1)
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--only", default="", help="rows whose name has this text")
options = parser.parse_args()
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])  # before MindSpore counts the cores

import time

import numpy as np

import ganfleet  # noqa: F401  (chooses the oneDNN kernels, so before MindSpore)
import mindspore as ms
from mindspore import Tensor, nn, ops

from ganfleet.nn import cpu, forms

# batch, channels in, channels out, side, kernel, stride, padding: layers of the configs, and wider ones
SHAPES = [
    (16, 16, 16, 64, 3, 1, 1),
    (16, 32, 32, 32, 3, 1, 1),
    (16, 96, 96, 16, 3, 1, 1),
    (16, 256, 256, 8, 3, 1, 1),
    (16, 16, 32, 64, 4, 2, 1),
    (64, 1, 64, 32, 4, 2, 1),
    (64, 64, 128, 16, 4, 2, 1),
    (64, 100, 256, 4, 4, 1, 0),
    (16, 16, 3, 64, 1, 1, 0),
    (1, 3, 16, 70, 7, 1, 0),
    (1, 64, 64, 18, 3, 1, 0),
    (1, 16, 32, 64, 3, 2, 1),
]
IMAGES = [(16, 16, 64, 64), (16, 96, 16, 16)]


class Convolve(nn.Cell):
    """x, weight → y."""

    def __init__(self, stride, padding):
        super().__init__()
        self.stride, self.padding = stride, padding

    def construct(self, x, weight):
        return forms.conv2d(x, weight, self.stride, self.padding)


class Apply(nn.Cell):
    """One of the functions of one array; ``factor`` () makes the second argument that tasks have."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def construct(self, x, factor):
        return self.function(x * factor)


def leaky_relu(x):
    return forms.leaky_relu(x, 0.2)


class Task(nn.Cell):
    """One of three workloads: the forward pass, both gradients, or both gradients of a gradient penalty."""

    def __init__(self, run, order):
        super().__init__()
        self.run, self.order = run, order

    @ms.jit
    def construct(self, x, weight):
        def loss(x, weight):
            y = self.run(x, weight)
            return (y * y).sum()

        def penalty(x, weight):
            slope = ms.grad(loss)(x, weight)
            return (slope * slope).sum()

        if self.order == 0:
            return self.run(x, weight)
        to_x, to_weight = ms.grad(loss if self.order == 1 else penalty, (0, 1))(x, weight)
        # One output: on one core, a graph with several stalls for 20 ms and more.
        return ops.concat((to_x.reshape(-1), to_weight.reshape(-1)))


def rows():
    """Name, x, weight, and what makes the cell that runs them."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return Tensor(rng.standard_normal(shape).astype(np.float32))

    for n, c, out, side, kernel, stride, padding in SHAPES:
        weight = normal(out, c, kernel, kernel) / (c * kernel * kernel) ** 0.5
        name = f"{n}x{c}→{out} at {side}², {kernel}x{kernel}/{stride}"
        yield name, normal(n, c, side, side), weight, lambda s=stride, p=padding: Convolve(s, p)
    for shape in IMAGES:
        for function in (leaky_relu, forms.blur):
            name = f"{function.__name__} at {'x'.join(map(str, shape))}"
            yield name, normal(*shape), normal(), lambda f=function: Apply(f)


def milliseconds(task, x, weight):
    start = time.perf_counter()
    task(x, weight).asnumpy()
    return 1e3 * (time.perf_counter() - start)


def main():
    best = cpu.form()
    print(f"{options.cores} core(s), milliseconds, median of {options.rounds} rounds")
    print(f"{'':32}{'work':>14}{'stock':>9}{best:>26}{'stock / own':>13}   quartiles")
    for name, x, weight, make in rows():
        if options.only not in name:
            continue
        for order, work in enumerate(("forward", "gradients", "second order")):
            tasks = []
            for form in ("stock", best):
                cpu.use(form)
                tasks.append(Task(make(), order))
                tasks[-1](x, weight)  # compiled now, while this form is in force
            times = np.array([[milliseconds(task, x, weight) for task in tasks] for _ in range(options.rounds + 1)][1:])
            stock, own = np.median(times, axis=0)
            low, middle, high = np.percentile(times[:, 0] / times[:, 1], [25, 50, 75])
            print(f"{name:32}{work:>14}{stock:9.2f}{own:26.2f}{middle:13.2f}   {low:.2f} – {high:.2f}", flush=True)


main()
