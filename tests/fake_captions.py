"""Images with captions: in memory with fake features of them, and in a folder with a small encoder beside it."""

import json
from pathlib import Path

import encoders_float64
import numpy as np
import pytest
from PIL import Image

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


def cars_in(folder: Path, count: int, config=encoders_float64.BERT, shapes=encoders_float64.bert_shapes) -> str:
    """Put ``count`` images, each called a red or a blue car, and an encoder into ``folder``; the config's ``data``."""
    pytest.importorskip("tokenizers")
    encoders_float64.write_encoder(folder / "encoder", config, shapes())
    (folder / "data").mkdir()
    rows = []
    for i in range(count):
        Image.new("RGB", (8, 8), (255 * i // count, 0, 99)).save(folder / "data" / f"{i}.png")
        rows.append(json.dumps({"file": f"{i}.png", "name": f"a {('red', 'blue')[i % 2]} car"}))
    (folder / "data" / "metadata.jsonl").write_text("\n".join(rows))
    return f"{{source: captioned, path: {folder}/data, encoder: {folder}/encoder, tokens: 6, cache: {folder}/cache}}"
