"""Numbers about generated images: what a metric is, and how one is found by name.

How the images are drawn, and how the fleet shares the work, is the engine's business.
"""

from typing import Any

from ganfleet.plugins import METRICS

__all__ = ["METRICS", "Metric"]


class Metric:
    """Base of every metric; a package offers its own in the entry point group ``ganfleet.metrics``."""

    def measure(self, run: Any) -> dict[str, float]:
        """The numbers by name, such as ``{"fid": 12.3}``, equal on every rank. Every rank calls it alike.

        Args:
            run: gives what is measured: the images that the trained networks draw, and the data.
        """
        raise NotImplementedError
