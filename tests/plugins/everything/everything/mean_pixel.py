"""A metric."""

from ganfleet.metrics import Metric


class MeanPixel(Metric):
    """The mean over all pixels of 16 images."""

    def measure(self, run):
        return {"mean_pixel": float(run.sample(list(range(16))).mean())}
