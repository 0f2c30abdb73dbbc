"""CycleGAN (arXiv:1703.10593): translation between two domains, learned from images that are no pairs."""

from ganfleet.strategies.cyclegan.strategy import CycleGAN

__all__ = ["CycleGAN"]
