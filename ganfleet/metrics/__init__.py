"""Numbers about generated images: what a metric is, and how one is found by name.

How the images are drawn, and how the fleet shares the work, is the engine's business.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np

from ganfleet.metrics.networks import FeatureNetwork
from ganfleet.metrics.rows import Rows
from ganfleet.plugins import METRICS

__all__ = ["METRICS", "FeatureNetwork", "Measured", "Metric", "Pictures", "Rows"]


class Pictures(Protocol):
    """Images that are read or drawn a few at a time: ``images(indices)`` gives (n, channels, h, w), uint8 or floats in
    [-1, 1]."""

    def __len__(self) -> int: ...

    def images(self, indices: range) -> np.ndarray: ...


class Measured(Protocol):
    """What a metric is given. Every rank calls each method at the same point.

    Attributes:
        generated: the images that the networks draw, of as many seeds as were asked for; or translations.
        real: the images of the data.
        network: the network of features, EfficientNet-Lite0 or Inception-v3.
        seed: the first of the images, and of whatever else a metric leaves to chance.
        source, stage, strategy, clock, config, fleet: of the run or the checkpoint.
    """

    generated: Pictures
    real: Pictures
    network: FeatureNetwork
    seed: int
    source: Any
    stage: Any
    strategy: Any
    clock: Any
    config: Any
    fleet: Any

    def features(self, pictures: Pictures) -> Rows:
        """The features (n, d) of ``pictures``, on every rank."""

    def pair_distances(self, pictures: Pictures) -> Rows:
        """How far apart the images 0 and 1, 2 and 3 … look: (pairs, 1), by ``metrics.layers.on_pairs``."""

    def rows(self, what: str, compute: Callable[..., np.ndarray], *pictures: Pictures) -> Rows:
        """What ``compute`` makes of the images of a block, an array with a row for each; the fleet shares the blocks.

        Args:
            what: says what ``compute`` is and depends on: the rows are kept under this name.
            compute: gets an array of images for each of ``pictures``, of the same indices.
        """

    def paths(self, space: str, ends: bool, epsilon: float) -> Pictures:
        """Pairs of images ``epsilon`` apart on the paths between two images' latents; see ``Strategy.paths``."""

    def sample(self, seeds: list[int]) -> np.ndarray:
        """Images (n, channels, height, width) in [-1, 1] of ``seeds``, on every rank."""

    def warn(self, message: str) -> None:
        """Tell the user, once."""


class Metric:
    """Base of every metric; a package offers its own in the entry point group ``ganfleet.metrics``.

    The attributes say what ``measure`` asks for, so that what is missing is found before anything starts.

    Attributes:
        reads_generated: whether it is about the images that networks draw of seeds, or of other images.
        reads_real: whether it compares with real images.
        reads_features: whether it needs the network of features.
        paired: whether generated and real images of one index must be meant to show the same.
    """

    reads_generated: ClassVar[bool] = False
    reads_real: ClassVar[bool] = False
    reads_features: ClassVar[bool] = False
    paired: ClassVar[bool] = False

    def check(self, strategy: Any) -> None:
        """Called before anything starts.

        Raises:
            ConfigError: it cannot be measured of images of such a ``strategy``.
        """

    def measure(self, run: Measured) -> dict[str, float]:
        """The numbers by name, such as ``{"fid": 12.3}``, equal on every rank. Every rank calls it at the same point.

        Args:
            run: gives what is measured: the images that the networks draw, and the data.
        """
        raise NotImplementedError
