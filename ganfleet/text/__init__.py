"""Captions as vectors: frozen text encoders, their tokenizers, and a cache of what they make of captions.

Nothing here imports MindSpore before captions are encoded.
"""

from ganfleet.text.spec import Text

__all__ = ["Text"]
