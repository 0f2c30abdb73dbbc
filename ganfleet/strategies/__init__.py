"""What one GAN is, one model a module; found by the name a config gives it. Nothing is imported before it is asked for.

How they are found is the business of :mod:`ganfleet.plugins`.
"""

from ganfleet.plugins import STRATEGIES, Listed

__all__ = ["BUILTIN", "Listed", "find", "listed", "names"]

BUILTIN = STRATEGIES.builtin
find, listed, names = STRATEGIES.find, STRATEGIES.listed, STRATEGIES.names
