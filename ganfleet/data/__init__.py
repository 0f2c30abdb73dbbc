"""Training data: where samples come from, in which order, and how they reach the lanes. No MindSpore here."""

from ganfleet.data.loader import Batch, Loader
from ganfleet.data.sources import Source, open_source
from ganfleet.data.unpaired import open_unpaired

__all__ = ["Batch", "Loader", "Source", "open_source", "open_unpaired"]
