# ruff: noqa: E402, I001  (the order of imports matters here)
"""Which form of convolution should ganfleet/nn/conv.py run on a CPU? Prints one table; read the ratios, not the times.

    python benchmarks/conv_forms.py [CORES]

CORES (default 1, how the fleet pins a rank) is how many cores the process may use. Rounds of the two forms alternate.
"""

import os
import sys

os.sched_setaffinity(0, range(int(sys.argv[1]) if len(sys.argv) > 1 else 1))  # before MindSpore counts the cores

import time

import numpy as np

import ganfleet  # noqa: F401  (chooses the oneDNN kernels, so before MindSpore)
import mindspore as ms
from mindspore import Tensor, nn, ops

# batch, channels in, channels out, side, kernel, stride
SHAPES = [
    (16, 64, 64, 32, 3, 1),
    (16, 128, 128, 16, 3, 1),
    (16, 256, 256, 8, 3, 1),
    (16, 1, 32, 32, 3, 1),
    (16, 64, 64, 32, 4, 2),
    (16, 128, 128, 16, 4, 2),
    (16, 256, 256, 8, 4, 2),
    (16, 1, 32, 32, 4, 2),
]
ROUNDS = 7


def stock(x, weight, stride):
    return ops.conv2d(x, weight, stride=stride, pad_mode="pad", padding=1)


def unfold(x, weight, stride):
    """Patches as columns, then one matrix product per sample."""
    n, out, kernel = x.shape[0], weight.shape[0], weight.shape[-1]
    side = (x.shape[-1] + 2 - kernel) // stride + 1
    columns = ops.unfold(x, kernel, 1, 1, stride)
    rows = ops.broadcast_to(weight.reshape(1, out, -1), (n, out, columns.shape[1]))
    return ops.bmm(rows, columns).reshape(n, out, side, side)


class Task(nn.Cell):
    """One of three workloads: the forward pass, both gradients, or both gradients of a gradient penalty."""

    def __init__(self, form, stride, order):
        super().__init__()
        self.form, self.stride, self.order = form, stride, order

    @ms.jit
    def construct(self, x, weight):
        def loss(x, weight):
            y = self.form(x, weight, self.stride)
            return (y * y).sum()

        def penalty(x, weight):
            slope = ms.grad(loss)(x, weight)
            return (slope * slope).sum()

        if self.order == 0:
            return self.form(x, weight, self.stride)
        to_x, to_weight = ms.grad(loss if self.order == 1 else penalty, (0, 1))(x, weight)
        # One output: on one core, a graph with several stalls for 20 ms and more.
        return ops.concat((to_x.reshape(-1), to_weight.reshape(-1)))


def seconds(task, x, weight):
    start = time.perf_counter()
    task(x, weight).asnumpy()
    return time.perf_counter() - start


def main():
    rng = np.random.default_rng(0)
    print(f"{len(os.sched_getaffinity(0))} core(s), milliseconds, median of {ROUNDS}")
    print(f"{'shape':24}{'work':>14}{'stock':>9}{'unfold':>9}{'unfold/stock':>14}")
    for n, c, out, side, kernel, stride in SHAPES:
        x = Tensor(rng.standard_normal((n, c, side, side)).astype(np.float32))
        weight = Tensor(0.05 * rng.standard_normal((out, c, kernel, kernel)).astype(np.float32))
        for order, work in enumerate(("forward", "gradients", "second order")):
            tasks = [Task(form, stride, order) for form in (stock, unfold)]
            rounds = [[seconds(task, x, weight) for task in tasks] for _ in range(ROUNDS + 1)][1:]
            a, b = 1e3 * np.median(rounds, axis=0)
            name = f"{n}x{c}x{side}x{side} {kernel}x{kernel}/{stride}"
            print(f"{name:24}{work:>14}{a:9.1f}{b:9.1f}{b / a:14.2f}", flush=True)


main()
