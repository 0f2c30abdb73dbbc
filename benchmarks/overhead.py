"""What a step costs under ganfleet, over the same networks in a loop written by hand for one process, and over a bare
loop of the run's own compiled phases.

    python benchmarks/overhead.py [--config F] [--blocks 8] [--steps 5] [key=value ...]

The hand-written loop has one graph per player, with the gradients, MindSpore's fused Adam and the buffers in it, and
one for G's average where the config wants one. It draws its own noise and never asks whether a gradient is finite.

The bare loop calls the graphs that ganfleet compiles, in its order, on a batch and draws made beforehand. What
the engine takes beyond it is its own: loading, drawing, schedules, checks, the log.

All loops live in one process on one core, as a rank does, and take turns in blocks of steps: the others run as a
callback, between two of the run's steps. Every ratio is of neighbouring blocks. The wall clock sees whatever
else the machine does; the CPU seconds of the process hardly do, but count the threads that load and draw too.
"""

import argparse
import tempfile
import time
from functools import reduce
from operator import add
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

import ganfleet
from ganfleet import rng
from ganfleet.data.loader import to_network
from ganfleet.engine.callbacks import Callback
from ganfleet.engine.program import Program
from ganfleet.engine.tensors import scalar, tensors
from ganfleet.nn import buffers_of, discriminator_loss, initialize, nonsaturating_generator_loss, reproducible

CONFIGS = Path(__file__).parent.parent / "configs"


class Loss(nn.Cell):
    """The loss of one player, from the arguments of a micro-batch."""

    def __init__(self, g, d):
        super().__init__(auto_prefix=False)
        self.g, self.d = g, d


class DLoss(Loss):
    def construct(self, real, z):
        return discriminator_loss(self.d(real), self.d(self.g(z)))


class GLoss(Loss):
    def construct(self, real, z):
        return nonsaturating_generator_loss(self.d(self.g(z)))


class HandStep(nn.Cell):
    """One player's update over a whole batch, as one graph: gradients, MindSpore's fused Adam, buffers."""

    def __init__(self, loss, net, lr, betas):
        super().__init__(auto_prefix=False)
        self.loss = loss
        self.weights = ParameterTuple(net.trainable_params())
        self.optimizer = nn.Adam(self.weights, lr, *betas)
        self.buffers = tuple(buffers_of(net))

    @ms.jit
    def construct(self, real, z):
        self.forget()
        loss, gradients = ms.value_and_grad(self.loss, None, self.weights)(real, z)
        loss = ops.depend(loss, self.optimizer(gradients))
        self.move_buffers()
        return loss

    def forget(self):
        for buffer in self.buffers:
            ops.assign(buffer.seen, ops.zeros_like(buffer.seen))

    def move_buffers(self):
        for buffer in self.buffers:
            mean = (buffer.seen[:-1] / buffer.seen[-1]).reshape(buffer.shape)
            ops.assign(buffer.value, buffer.move(buffer.value, mean))


class Accumulate(HandStep):
    """The gradients of one micro-batch, added up."""

    def __init__(self, loss, net, lr, betas):
        super().__init__(loss, net, lr, betas)
        self.sums = ParameterTuple(
            [Parameter(ops.zeros_like(p), name=f"sum.{p.name}", requires_grad=False) for p in self.weights]
        )

    @ms.jit
    def construct(self, real, z):
        loss, gradients = ms.value_and_grad(self.loss, None, self.weights)(real, z)
        for i in range(len(gradients)):
            ops.assign_add(self.sums[i], gradients[i])
        return loss


class ApplySums(nn.Cell):
    """The update with the mean of what ``accumulate`` added up, which starts anew."""

    def __init__(self, accumulate, micro_batches):
        super().__init__(auto_prefix=False)
        self.accumulate, self.micro_batches = accumulate, micro_batches

    @ms.jit
    def construct(self):
        gradients = ()
        for total in self.accumulate.sums:
            gradients += (total / self.micro_batches,)
        done = self.accumulate.optimizer(gradients)
        self.accumulate.move_buffers()
        for total in self.accumulate.sums:
            ops.assign(total, ops.zeros_like(total))
        self.accumulate.forget()
        return done


class AccumulatingHandStep:
    """One player's update over several micro-batches: one graph adds up gradients, another applies their mean."""

    def __init__(self, loss, net, lr, betas, micro_batches):
        self.accumulate = Accumulate(loss, net, lr, betas)
        self.apply = ApplySums(self.accumulate, micro_batches)

    def __call__(self, real, z):
        losses = [self.accumulate(x, y) for x, y in zip(real, z, strict=True)]
        self.apply()
        return losses[-1]


class Average(nn.Cell):
    """An exponential moving average of a network's weights, as one graph."""

    def __init__(self, net, beta):
        super().__init__(auto_prefix=False)
        self.weights, self.beta = ParameterTuple(net.trainable_params()), beta
        self.averages = ParameterTuple(
            [Parameter(p.asnumpy(), name=f"average.{p.name}", requires_grad=False) for p in self.weights]
        )

    @ms.jit
    def construct(self):
        for i in range(len(self.weights)):
            weight, average = self.weights[i], self.averages[i]
            ops.assign(average, weight + (average - weight) * self.beta)
        return self.beta


class HandLoop:
    """What one would write without a framework: arrays in memory, a shuffle per epoch, D then G, losses as tensors."""

    def __init__(self, config, strategy, source):
        options = config.strategy
        with reproducible(config.train.seed):
            self.g, self.d = strategy.networks()
        for name, net in (("hand.G", self.g), ("hand.D", self.d)):
            net.update_parameters_name(f"{name}.")
            net.set_train(True)
            for parameter in net.get_parameters():
                initialize(parameter, config.train.seed)
        self.lanes, self.batch_size, self.latent = config.train.lanes, config.train.batch_size, options.latent
        arguments = (options.lr, options.betas) + ((self.lanes,) if self.lanes > 1 else ())
        step = HandStep if self.lanes == 1 else AccumulatingHandStep
        self.d_step = step(DLoss(self.g, self.d), self.d, *arguments)
        self.g_step = step(GLoss(self.g, self.d), self.g, *arguments)
        self.average = None
        if options.ema_kimg:
            self.average = Average(self.g, 0.5 ** (config.train.batch_size / (1000 * options.ema_kimg)))
        self.images = np.stack([source[i]["image"] for i in range(len(source))])
        self.rng = np.random.default_rng(0)
        self.order = np.empty(0, int)

    def run(self, steps):
        for _ in range(steps):
            real = self.real()
            losses = self.d_step(real, self.noise()), self.g_step(real, self.noise())
            if self.average:
                self.average()
        return [float(loss.asnumpy()) for loss in losses]

    def real(self):
        if len(self.order) < self.batch_size:
            self.order = self.rng.permutation(len(self.images))
        chosen, self.order = np.split(self.order, [self.batch_size])
        return self.micro(self.images[chosen].astype(np.float32) / 127.5 - 1)

    def noise(self):
        return self.micro(self.rng.standard_normal((self.batch_size, self.latent), dtype=np.float32))

    def micro(self, array):
        return Tensor(array) if self.lanes == 1 else [Tensor(part) for part in np.split(array, self.lanes)]


class BareLoop:
    """The graphs of the run's stage, called one after the other on the same arrays at each step."""

    def __init__(self, run):
        self.program = Program(run.strategy, run.stage, run.config.train.seed, run.config.train.precision)
        self.lanes, self.batch_size = run.config.train.lanes, run.stage.batch_size
        n = self.batch_size // self.lanes
        samples = [run.source.at(run.stage.resolution)[i] for i in range(n)]
        self.real = {name: to_network(np.stack([sample[name] for sample in samples])) for name in samples[0]}
        streams = {compiled.name: rng.stream(0, compiled.name) for compiled in self.program.phases}
        self.noise = {name: run.strategy.draw(stream, n, run.clock) for name, stream in streams.items()}
        self.hyper = {name: run.strategy.hyper(name, run.clock) for name in self.program.players}

    def run(self, steps):
        for _ in range(steps):
            real = tensors(self.real)
            for compiled in self.program.phases:
                flats = [compiled.run(real, tensors(self.noise[compiled.name]))[0] for _ in range(self.lanes)]
                player = compiled.player
                summary = player.update(reduce(add, flats), scalar(1 / self.lanes), self.hyper[player.name])
            for player in self.program.players.values():
                if player.ema is not None:
                    player.average(player.ema.beta(self.batch_size))
            summary.asnumpy()


class TakingTurns(Callback):
    """After every block of the run's steps, one of the hand-written loop and one of the bare one; ``blocks`` (n, 3, 2)
    are [ganfleet, by hand, bare] by [wall, CPU] seconds per step, the first block with its compilation left out.
    """

    def __init__(self, steps):
        self.steps = steps
        self.blocks = []

    def begin(self, run):
        self.others = HandLoop(run.config, run.strategy, run.source), BareLoop(run)

    def after_step(self, run, stats):
        if run.clock.step % self.steps:
            return
        times = [now()]
        for loop in self.others:
            loop.run(self.steps)
            times.append(now())
        if run.clock.step > self.steps:
            self.blocks.append(np.diff([self.start, *times], axis=0) / self.steps)
        self.start = now()


def now():
    return np.array([time.perf_counter(), time.process_time()])


def measure(config, overrides, steps, blocks):
    """``TakingTurns.blocks`` of a run with no samples, checkpoints or audits between its first step and its last."""
    turns = TakingTurns(steps)
    with tempfile.TemporaryDirectory() as runs:
        never = ["checkpoint.every_kimg=1e6", "log.samples_every_kimg=1e6", "train.audit_every=0", f"run.dir={runs}"]
        end = ["train.kimg=1e6", f"train.steps={(blocks + 1) * steps}"]
        ganfleet.train(config, *never, *end, *overrides, callbacks=[turns])
    return np.array(turns.blocks)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CONFIGS / "dcgan_fashion.yaml")
    parser.add_argument("--steps", type=int, default=5, help="of a block")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    blocks = measure(options.config, options.overrides, options.steps, options.blocks)
    print(f"{options.config.name} {' '.join(options.overrides)}: {len(blocks)} blocks of {options.steps} steps")
    print(f"{'':24}{'ganfleet':>10}{'other':>10}{'ratio':>8}   quartiles of the blocks' ratios")
    for other, who in ((1, "by hand"), (2, "bare loop")):
        for column, clock in enumerate(("wall", "CPU")):
            mine, theirs = np.median(blocks[:, [0, other], column], axis=0)
            low, middle, high = np.percentile(blocks[:, 0, column] / blocks[:, other, column], [25, 50, 75])
            label = f"{who}, {clock} ms/step"
            print(f"{label:24}{1e3 * mine:10.1f}{1e3 * theirs:10.1f}{middle:8.3f}   {low:.3f} – {high:.3f}")


if __name__ == "__main__":
    main()
