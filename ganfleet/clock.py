"""The only time there is: images seen and steps done. Schedules, EMA, logs and checkpoints read it."""

from dataclasses import dataclass


@dataclass
class Clock:
    """Counts global batches and the images in them, up to ``total_nimg`` images or ``total_steps`` steps."""

    total_nimg: int
    total_steps: int | None = None
    step: int = 0
    nimg: int = 0

    @property
    def kimg(self) -> float:
        """Thousands of images seen."""
        return self.nimg / 1000

    @property
    def done(self) -> bool:
        return self.nimg >= self.total_nimg or (self.total_steps is not None and self.step >= self.total_steps)

    def tick(self, batch_size: int) -> None:
        """One more step over a global batch of ``batch_size`` images."""
        self.step += 1
        self.nimg += batch_size

    def crossed(self, every_nimg: float, batch_size: int) -> bool:
        """Whether the last tick of ``batch_size`` images passed a multiple of ``every_nimg`` images."""
        return self.nimg // every_nimg != (self.nimg - batch_size) // every_nimg
