"""pix2pix (arXiv:1611.07004) and pix2pixHD (arXiv:1711.11585): translation learned from pairs."""

from ganfleet.strategies.pix2pix.hd import Pix2PixHD
from ganfleet.strategies.pix2pix.strategy import Pix2Pix

__all__ = ["Pix2Pix", "Pix2PixHD"]
