"""Images from fixed seeds: the grids a run writes, and ``ganfleet sample``. The fleet shares the work."""

from contextlib import ExitStack, contextmanager

import mindspore as ms
import numpy as np
from mindspore import nn

from ganfleet import rng
from ganfleet.clock import Clock
from ganfleet.engine.model import Model
from ganfleet.engine.tensors import named, tensors
from ganfleet.fleet import Fleet
from ganfleet.strategies.base import Strategy

CHUNK = 16  # images per graph run: one shape, so one compiled graph


class Sampler:
    """Draws what seed ``s`` looks like: the same latents for the same seed, whatever the run."""

    def __init__(self, strategy: Strategy, model: Model):
        self._strategy = strategy
        self._model = model
        self._graph: _SampleGraph | None = None  # made when the first draw tells its names

    def images(self, seeds: list[int], clock: Clock, fleet: Fleet, ema: bool = True) -> np.ndarray:
        """Images (len(seeds), channels, height, width) in [-1, 1], on every rank; each rank generates its share."""
        with ExitStack() as weights, _evaluating(self._model.nets):
            if ema:
                for player in self._model.players.values():
                    weights.enter_context(player.averaged())
            world_size = 1 if fleet.backend == "simulated" else fleet.world_size
            shares = fleet.gather(self._generate(seeds[fleet.rank :: world_size], clock))
        images = np.empty((len(seeds), *shares[0].shape[1:]), np.float32)
        for rank, share in enumerate(shares):
            images[rank :: len(shares)] = share
        return images

    def _generate(self, seeds, clock):
        chunks = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)] or [[]]
        return np.concatenate([self._chunk(chunk, clock) for chunk in chunks])

    def _chunk(self, seeds, clock):
        padded = [*seeds, *[0] * (CHUNK - len(seeds))]
        drawn = [self._strategy.draw(rng.stream(seed, "sample"), 1, clock) for seed in padded]
        noise = {
            name: np.concatenate([each[name] for each in drawn]) if np.ndim(drawn[0][name]) else drawn[0][name]
            for name in drawn[0]
        }
        if self._graph is None:
            self._graph = _SampleGraph(self._strategy, self._model.nets, tuple(noise))
        return self._graph(*tensors(noise).values()).asnumpy()[: len(seeds)]


class _SampleGraph(nn.Cell):
    def __init__(self, strategy, nets, names):
        super().__init__(auto_prefix=False)
        self.sample = strategy.sample
        self.nets = nets
        self.names = names

    @ms.jit
    def construct(self, *arrays):
        return self.sample(self.nets, named(self.names, arrays))


@contextmanager
def _evaluating(nets):
    for net in vars(nets).values():
        net.set_train(False)
    try:
        yield
    finally:
        for net in vars(nets).values():
            net.set_train(True)
