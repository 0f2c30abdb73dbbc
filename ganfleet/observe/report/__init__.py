"""What a run has left, as one HTML page and as a model card. Reads the run, changes nothing in it."""

from ganfleet.observe.report.card import card
from ganfleet.observe.report.page import page
from ganfleet.observe.report.remains import Remains, read

__all__ = ["Remains", "card", "page", "read"]
