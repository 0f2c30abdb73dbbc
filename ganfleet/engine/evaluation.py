"""What metrics are given: images, and what is computed of them. The ranks share the work; their number changes no bit.

Images are taken in blocks by their indices, whatever the number of ranks. One rank computes a block, in graphs of one
shape; all ranks get its rows, and every host keeps them in files, where an evaluation that was killed finds them again.
"""

import math
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ganfleet import __version__
from ganfleet.engine import compile_cache
from ganfleet.engine.pictures import Drawn, OnPaths, Pictures, Read
from ganfleet.errors import ConfigError
from ganfleet.fleet import launcher
from ganfleet.metrics import FeatureNetwork, Metric, pixels, rows
from ganfleet.metrics.layers import on_pairs
from ganfleet.metrics.rows import BLOCK, Folder, Rows

FORMAT = 1  # of what is kept
BATCH = 16  # images per run of a network of features
Progress = Callable[[str, int, int], None]
"""Is told what is computed, and how many images of how many are done."""


class Evaluation:
    """One measurement; see ``ganfleet.metrics.Measured``.

    Args:
        of: a run or a loaded checkpoint, which has the fleet, the strategy, the stage, the clock and the config.
        extractor: the network of features; None where no metric reads any.
        warn: is told once what a user should know of a number.
    """

    def __init__(
        self,
        of,
        generated: Pictures,
        real: Read | None,
        extractor: "Extractor | None",
        seed: int = 0,
        warn: Callable[[str], None] = print,
        progress: Progress = lambda what, done, total: None,
    ):
        self.generated, self.real, self.seed, self.warn = generated, real, seed, warn
        self.fleet, self.strategy, self.stage = of.fleet, of.strategy, of.stage
        self.clock, self.config, self.sample = of.clock, of.config, of.sample
        self.source = real and real.source
        self.network = extractor and extractor.network
        self._extractor, self._progress = extractor, progress
        self._drawn: list[Folder] = []  # of rows of images that were drawn
        self._rows: dict[tuple[str, ...], Rows] = {}  # what was asked for before

    def measure(self, metrics: Iterable[Metric]) -> dict[str, float]:
        """The values of all ``metrics``, those of rank 0 on every rank."""
        values = {}
        with one_thread() if self._extractor else nullcontext():
            for metric in metrics:
                values |= {name: float(value) for name, value in metric.measure(self).items()}
        if self.real:
            self.real.bad = set().union(*self.fleet.gather(self.real.bad))
            if self.real.bad:
                self.warn(f"{len(self.real.bad):,} of the real images cannot be read, and are left out")
        return self.fleet.gather(values)[0]

    def record(self, values: dict[str, float], **more: Any) -> dict[str, Any]:
        """What is kept of ``values``: all that they depend on."""
        network = self.network and {"name": self.network.name, "sha256": self.network.sha256}
        return {
            "step": self.clock.step,
            "nimg": self.clock.nimg,
            "kimg": self.clock.kimg,
            "metrics": {name: value if math.isfinite(value) else None for name, value in values.items()},
            "count": len(self.generated),
            "real": self.real and len(self.real) - len(self.real.bad),
            "seed": self.seed,
            "features": network,
            "resize": network and pixels.RESIZE,
            "data": self.source and self.source.digest(),
            **more,
            "ganfleet": __version__,
        }

    # ── What metrics ask for

    def features(self, pictures: Pictures) -> Rows:
        return self.rows("features", self._extractor.features, pictures)

    def pair_distances(self, pictures: Pictures) -> Rows:
        return self.rows("pair distances", self._extractor.pair_distances, pictures)

    def paths(self, space: str, ends: bool, epsilon: float) -> Pictures:
        if not isinstance(self.generated, Drawn):
            raise ConfigError("translations have no latents to go along: leave ppl out of the metrics")
        return OnPaths(self.generated.of, len(self.generated), self.seed, space, ends, epsilon)

    def rows(self, what: str, compute: Callable[..., np.ndarray], *pictures: Pictures) -> Rows:
        """What ``compute`` makes of the images of every block; see ``Measured.rows``.

        Raises:
            GanfleetError: whatever one rank meets, on every rank.
        """
        asked = (what, *(repr(each.facts) for each in pictures))
        if asked not in self._rows:
            self._rows[asked] = self._collected(what, compute, pictures)
        return self._rows[asked]

    def _collected(self, what: str, compute: Callable[..., np.ndarray], pictures: tuple[Pictures, ...]) -> Rows:
        count = min(map(len, pictures))
        if not count:
            raise ConfigError("there are no images to measure: give some")
        key = rows.key(FORMAT, what, self._surroundings(), [each.facts for each in pictures])
        folder = Folder(rows.place() / key)
        rank, ranks = (0, 1) if self.fleet.backend == "simulated" else (self.fleet.rank, self.fleet.world_size)
        blocks = [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
        names, lengths = [], []
        with ExitStack() as stack:
            with self.fleet.agreeing():
                for each in pictures:
                    stack.enter_context(each.ready())
            for start in range(0, len(blocks), ranks):
                with self.fleet.agreeing():
                    mine = [self._block(folder, compute, pictures, each) for each in blocks[start:][rank : rank + 1]]
                made = [block for share in self.fleet.gather(mine) for block in share]
                with self.fleet.agreeing():
                    if not launcher.detect().local_rank:  # one rank of each host
                        for name, found in made:
                            folder.write(name, found)
                names += [name for name, _ in made]
                lengths += [len(found) for _, found in made]
                self._progress(
                    f"{what} of {' and '.join(each.title for each in pictures)}",
                    min((start + ranks) * BLOCK, count),
                    count,
                )
        if not launcher.detect().local_rank:
            folder.used()
        if any(isinstance(each, Drawn | OnPaths) for each in pictures):
            self._drawn.append(folder)
        return Rows(folder, names, lengths)

    def forget(self) -> None:
        """Remove the rows of images that were drawn with weights that will not come back."""
        if not launcher.detect().local_rank:
            for folder in self._drawn:
                folder.remove()

    # ── One block

    def _block(self, folder: Folder, compute, pictures: tuple[Pictures, ...], indices: range) -> tuple[str, np.ndarray]:
        """The name of a block's file, and its rows."""
        name = "+".join(each.name(indices) for each in pictures)
        name = rows.key(name) if len(name) > 128 else name
        found = folder.read(name)
        if found is None:
            found = np.asarray(compute(*(each.images(indices) for each in pictures)))
        return name, found

    def _surroundings(self) -> list:
        """What the bits of a result depend on beside the images."""
        network = [self.network.name, self.network.sha256] if self.network else []
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return [__version__, ms.__version__, ms.get_context("device_target"), cores, pixels.RESIZE, network]


class Extractor:
    """A network of features, with the graphs in which it runs."""

    def __init__(self, network: FeatureNetwork):
        _threadpool_limits()  # metrics of features need it: that it is missing is found out here
        self.network = network
        self._graphs: dict[bool, _Graph] = {}

    def features(self, images: np.ndarray) -> np.ndarray:
        """(n, channels, h, w), uint8 or floats in [-1, 1], which are rounded to 8 bits → float32 (n, d)."""
        return self._through(pixels.eight_bits(images), pairs=False)

    def pair_distances(self, images: np.ndarray) -> np.ndarray:
        """Of images 0 and 1, 2 and 3 …: float32 (n // 2, 1). Floats are not rounded: on a path they differ by less."""
        images = pixels.levels(images) if images.dtype != np.uint8 else images
        return self._through(images[: len(images) // 2 * 2], pairs=True)

    def _through(self, images: np.ndarray, pairs: bool) -> np.ndarray:
        if pairs not in self._graphs:
            ms.set_context(mode=ms.GRAPH_MODE)
            self._graphs[pairs] = _Graph(self.network.cell, pairs)
        found = []
        for start in range(0, len(images), BATCH):
            own = images[start : start + BATCH]
            filled = np.concatenate([own, np.repeat(own[:1], BATCH - len(own), 0)])  # one shape, so one graph
            result = self._graphs[pairs](Tensor(self.network.prepared(filled))).asnumpy()
            found.append(result[: len(own) // 2 if pairs else len(own)].reshape(-1, 1 if pairs else result.shape[1]))
        return np.concatenate(found) if found else np.empty((0, 1), np.float32)


class _Graph(compile_cache.Graph):
    """Prepared images → features, or with ``pairs`` the distance of each two images."""

    def __init__(self, net: nn.Cell, pairs: bool):
        super().__init__()
        self.net, self.pairs = net, pairs

    @ms.jit
    def construct(self, images):
        return on_pairs(self.net.maps(images)) if self.pairs else self.net(images)


@contextmanager
def one_thread():
    """While it lasts, matrix products of numpy and SciPy run on one core: their bits depend on how many there are.

    Raises:
        ConfigError: what can see to that is not installed.
    """
    with _threadpool_limits()(1):
        yield


def _threadpool_limits() -> Callable[[int], AbstractContextManager]:
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise ConfigError("metrics need threadpoolctl: run `pip install 'ganfleet[metrics]'`") from None
    return threadpool_limits
