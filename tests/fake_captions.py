"""Fake images with fake features of captions, in memory."""

import numpy as np

from ganfleet import Size, rng, testing
from ganfleet.text import Text

TOKENS, FEATURES = 3, 6
TEXT = Text("nowhere", TOKENS, FEATURES, "0" * 64)


class Captioned(testing.FakeImages):
    """A caption has two tokens or three."""

    text = TEXT

    def __getitem__(self, index):
        mask = np.float32([1, 1, index % 2])
        features = rng.stream(0, "fake/text", index).standard_normal((TOKENS, FEATURES), dtype=np.float32)
        return super().__getitem__(index) | {"text": features * mask[:, None], "text_mask": mask}

    def at(self, resolution):
        view = Captioned(self.channels, self.classes)
        view._size = Size.of(resolution)
        return view
