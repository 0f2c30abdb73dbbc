"""Training data: where samples come from, in which order, and how they reach the lanes. No MindSpore here."""

from ganfleet.data.loader import Batch, Loader
from ganfleet.data.sources import Source, open_source

__all__ = ["Batch", "Loader", "Source", "open_source"]
