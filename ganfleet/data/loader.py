"""Batches for the lanes one process owns, decoded ahead of training by threads.

What the lanes are and who owns them is the fleet's; how many bad images are too many is the trainer's.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ganfleet import rng
from ganfleet.data.order import index_at, replacement_at
from ganfleet.data.sources import BadImage, RandomSource, Source
from ganfleet.data.threads import leave_pinned_core
from ganfleet.errors import ConfigError, DataExhausted, GanfleetError

TRIES = 16


@dataclass(frozen=True)
class Batch:
    """One global batch, as far as this process owns it.

    Attributes:
        lanes: for each owned lane in order, arrays (samples of a lane, ...) by name. Images are float32 in [-1, 1].
        bad: (index, reason) of each image that could not be read and was replaced by another.
    """

    lanes: list[dict[str, np.ndarray]]
    bad: list[tuple[int, str]]


class Loader:
    """An endless stream of batches. Lane ``l`` of the batch at position ``p`` has the samples at positions
    ``p + l * k`` to ``p + (l + 1) * k - 1``, with ``k = batch_size / lanes``, whoever owns it.

    Attributes:
        position: of the first sample of the batch that ``next`` will return.
        batch_size: of the whole fleet.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        lanes: int,
        owned: Sequence[int],
        seed: int,
        position: int = 0,
        workers: int = 2,
        prefetch: int = 2,
    ):
        """Decodes with ``workers`` threads, up to ``prefetch`` batches ahead, from now on.

        Raises:
            ConfigError: ``batch_size`` is no multiple of ``lanes``.
        """
        self._lanes, self._owned, self._seed, self._prefetch = lanes, tuple(owned), seed, prefetch
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader", initializer=leave_pinned_core)
        self._ahead: deque[list[Future]] = deque()
        self._source = source
        self.restart(position, batch_size)

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def next(self) -> Batch:
        """The batch at ``position``, which moves on by ``batch_size``.

        Raises:
            DataExhausted: an image and all of its replacements cannot be read.
        """
        results = [future.result() for future in self._ahead[0]]
        self._ahead.popleft()
        self.position += self.batch_size
        self._read_ahead()
        return Batch([arrays for arrays, _ in results], [bad for _, lane_bad in results for bad in lane_bad])

    def restart(self, position: int, batch_size: int, source: Source | None = None) -> None:
        """Go on from ``position``, with another batch size or source from now on."""
        if batch_size % self._lanes:
            raise ConfigError(
                f"a batch of {batch_size} cannot be cut into {self._lanes} equal lanes: change train.lanes"
            )
        self._drop()
        self.position, self.batch_size = position, batch_size
        self._source = source or self._source
        self._read_ahead()

    def close(self) -> None:
        """Stop the threads and wait for their end."""
        self._drop()
        self._pool.shutdown(cancel_futures=True)

    def _drop(self) -> None:
        for lanes in self._ahead:
            for future in lanes:
                future.cancel()
        self._ahead.clear()

    def _read_ahead(self) -> None:
        """Keep the next batch and ``prefetch`` more in the making."""
        count = self.batch_size // self._lanes
        while len(self._ahead) <= self._prefetch:
            start = self.position + len(self._ahead) * self.batch_size
            self._ahead.append(
                [
                    self._pool.submit(read_lane, self._source, start + lane * count, count, self._seed)
                    for lane in self._owned
                ]
            )


def read_lane(source: Source, start: int, count: int, seed: int) -> tuple[dict, list[tuple[int, str]]]:
    """The samples at positions ``start`` to ``start + count - 1`` as stacked arrays, and the bad ones met."""
    bad: list[tuple[int, str]] = []
    samples = [read_sample(source, position, seed, bad) for position in range(start, start + count)]
    return {name: to_network(np.stack([sample[name] for sample in samples])) for name in samples[0]}, bad


def read_sample(source: Source, position: int, seed: int, bad: list[tuple[int, str]]) -> dict[str, np.ndarray]:
    """The sample at ``position``; if it is bad, one drawn by position, so that every fleet replaces it alike."""
    epoch = position // len(source)
    for index in candidates(position, len(source), seed):
        try:
            if isinstance(source, RandomSource):
                return source.sample(index, rng.stream(seed, "augment", epoch, index))
            return source[index]
        except GanfleetError as error:
            bad.append((error.index if isinstance(error, BadImage) else index, str(error)))
    raise DataExhausted(f"{TRIES + 1} images drawn in a row cannot be used; the last: {bad[-1][1]}")


def candidates(position: int, size: int, seed: int) -> Iterator[int]:
    """The index at ``position``, then those to try in its place."""
    yield index_at(position, size, seed)
    yield from replacement_at(position, size, seed, TRIES)


def to_network(array: np.ndarray) -> np.ndarray:
    """Bytes 0..255, which are pixels, as float32 in [-1, 1]; anything else as it is."""
    if array.dtype != np.uint8:
        return array
    scaled = array.astype(np.float32)
    scaled /= 127.5
    scaled -= 1
    return scaled
