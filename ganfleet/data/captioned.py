"""Image files with captions, which a sample has as the features of a frozen text encoder."""

from contextlib import suppress
from itertools import compress
from typing import Literal

import numpy as np
from pydantic import Field

from ganfleet.data.captions import Captions, Kind, captions_of, held_out
from ganfleet.data.files import FileSource
from ganfleet.data.places import Files, files_at
from ganfleet.document import expanded
from ganfleet.errors import ConfigError, DataError
from ganfleet.text import Text
from ganfleet.text.cache import Embeddings
from ganfleet.text.encoder import MINILM, find


class Captioned(FileSource):
    """The image files in a folder or a ZIP file, with captions, and no classes.

    A sample has ``image``, ``text`` float32 (tokens, features) and ``text_mask`` float32 (tokens,), 1 where there is a
    token.
    """

    class Options(FileSource.Options):
        """
        Attributes:
            captions: ``metadata.jsonl`` or ``txt``; None for whichever there is.
            template: what a caption is made of, from the keys of its row in metadata.jsonl and ``folder``.
            encoder: ``minilm``, or the folder of a BERT, T5 or CLIP in Hugging Face's layout.
            tokens: of a caption at most.
            hold_out: the share of things whose images are not trained on.
            hold_out_by: the key of a row that says what its image is of; None for the caption.
            split: ``test`` for the images that are held out.
        """

        captions: Kind | None = None
        template: str | None = None
        encoder: str = Field(MINILM, min_length=1)
        tokens: int = Field(32, ge=2, le=512)
        hold_out: float = Field(0.0, ge=0, lt=1)
        hold_out_by: str | None = None
        split: Literal["train", "test"] | None = None

    files_in = staticmethod(files_at)

    def __init__(self, files: Files, captions: list[str], about: Captions, options: Options, resolution):
        super().__init__(files, None, options, resolution)
        self._encoder, self._captions = find(options.encoder), captions
        self._kinds = list(dict.fromkeys(captions))  # each once
        numbers = {caption: i for i, caption in enumerate(self._kinds)}
        self._caption_of = [numbers[caption] for caption in captions]
        self.text = Text(options.encoder, options.tokens, self._encoder.features, self._encoder.sha256)
        self._embedded: list[Embeddings] = []  # views at other resolutions share it
        self._about_captions = about

    @classmethod
    def open(cls, options, resolution):
        if options.classes not in (None, "none"):
            raise ConfigError("data.classes goes with images that have classes, and these have captions: leave it out")
        if options.cache == "none":
            raise ConfigError("data.cache is none, and features of captions need a place: set it to auto, or a folder")
        path = expanded(options.path, "data.path")
        if not path.exists():
            raise ConfigError(f"data.path: there is nothing at {path}: correct the path")
        if options.split and not options.hold_out:
            raise ConfigError("data.split chooses among images that are held out and the others: set data.hold_out")
        files = cls.files_in(path)
        found = captions_of(files, options.captions, options.template, options.hold_out_by)
        texts = found.texts
        if options.hold_out:
            kept = [out == (options.split == "test") for out in held_out(found.things, options.hold_out)]
            files, texts = files.only(list(compress(files.names, kept))), list(compress(texts, kept))
        images = cls(files, texts, found, options, resolution)
        with suppress(DataError):  # that the first image may be damaged is the loader's business
            images._reduced(0)  # and not images[0]: captions are encoded when training begins
        return images

    def caption(self, index: int) -> str:
        """Of image ``index``."""
        return self._captions[index]

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        text, mask = self._embeddings()[self._caption_of[index]]
        return {"image": self._reduced(index), "text": text, "text_mask": mask}

    def prepare(self, resolutions) -> None:
        super().prepare(resolutions)
        self._embeddings()

    def _embeddings(self) -> Embeddings:
        if not self._embedded:
            self._embedded.append(Embeddings(self._encoder, self._kinds, self.text.tokens, self._cached_in))
        return self._embedded[0]

    def notes(self):
        cut = self._encoder.tokenize(self._captions, self.text.tokens).cut
        told = (
            [f"{cut:,} of {len(self):,} captions have more than {self.text.tokens} tokens, and are cut"] if cut else []
        )
        return [*told, *self._about_captions.notes, *self._files.notes(used=self._about_captions.files)]

    def _identity(self):
        return [self._files.names, self._captions, self.text.sha256, self.text.tokens]
