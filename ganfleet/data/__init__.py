"""Training data: where samples come from, in which order, and how they reach the lanes. No MindSpore here."""

from ganfleet.data.loader import Batch, Loader
from ganfleet.data.opening import as_source, open_section, open_source
from ganfleet.data.sources import ImageOptions, RandomSource, Source, SourceOptions

__all__ = [
    "Batch",
    "ImageOptions",
    "Loader",
    "RandomSource",
    "Source",
    "SourceOptions",
    "as_source",
    "open_section",
    "open_source",
]
