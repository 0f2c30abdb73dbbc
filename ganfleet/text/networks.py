"""The networks of text encoders: those of BERT (arXiv:1810.04805), T5 (arXiv:1910.10683) and CLIP (arXiv:2103.00020).

Each takes token numbers int32 (n, t) and a mask float32 (n, t), 1 for tokens that count, and gives features (n, t, d).
``origin`` of each class says which tensor of a file in Hugging Face's layout is which parameter. Nobody trains them, so
rows of tables are looked up: no gradient's order of summing matters.
"""

import math

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from ganfleet.nn.activation import gelu
from ganfleet.nn.attention import attend, future, unseen
from ganfleet.nn.dense import Dense
from ganfleet.nn.init import Normal, parameter
from ganfleet.nn.norm import LayerNorm, RMSNorm


class Lookup(nn.Cell):
    """Numbers (n, t) → rows (n, t, features) of a table."""

    def __init__(self, rows, features):
        super().__init__()
        self.weight = parameter("weight", (rows, features), Normal(1.0))

    def construct(self, numbers):
        return ops.gather(self.weight, numbers, 0)


class SelfAttention(nn.Cell):
    """Attention whose heads may be of another width than features / heads."""

    def __init__(self, features, heads, inner=None, bias=True, scale=None):
        super().__init__()
        inner = inner or features
        self.heads, self.scale = heads, scale
        self.query, self.key, self.value = (Dense(features, inner, bias=bias) for _ in range(3))
        self.out = Dense(inner, features, bias=bias)

    def construct(self, x, added):
        y = attend(self.query(x), self.key(x), self.value(x), self.heads, added, self.scale)
        return self.out(y)


# ── BERT


class BertLayer(nn.Cell):
    def __init__(self, features, heads, hidden, eps):
        super().__init__()
        self.attention = SelfAttention(features, heads)
        self.norm, self.out_norm = LayerNorm(features, eps), LayerNorm(features, eps)
        self.up, self.down = Dense(features, hidden), Dense(hidden, features)

    def construct(self, x, added):
        x = self.norm(x + self.attention(x, added))
        return self.out_norm(x + self.down(gelu(self.up(x))))


class Bert(nn.Cell):
    """BERT's last hidden states; MiniLM (arXiv:2002.10957) is one."""

    def __init__(self, config):
        super().__init__()
        features, eps = config["hidden_size"], config["layer_norm_eps"]
        self.features = features
        self.words = Lookup(config["vocab_size"], features)
        self.positions = Lookup(config["max_position_embeddings"], features)
        self.types = Lookup(config["type_vocab_size"], features)
        self.norm = LayerNorm(features, eps)
        sizes = (features, config["num_attention_heads"], config["intermediate_size"], eps)
        self.layers = nn.CellList([BertLayer(*sizes) for _ in range(config["num_hidden_layers"])])

    @ms.jit
    def construct(self, numbers, mask):
        t = numbers.shape[1]
        x = self.words(numbers) + self.positions.weight[:t] + self.types.weight[:1]
        x, added = self.norm(x), unseen(mask)
        for layer in self.layers:
            x = layer(x, added)
        return x

    @staticmethod
    def origin(config):
        """A file's names by those of parameters; both may end with a dot and stand for all that begin so."""
        names = {
            "words.": "embeddings.word_embeddings.",
            "positions.": "embeddings.position_embeddings.",
            "types.": "embeddings.token_type_embeddings.",
            **norm_names("norm", "embeddings.LayerNorm"),
        }
        for i in range(config["num_hidden_layers"]):
            ours, theirs = f"layers.{i}", f"encoder.layer.{i}"
            for each in ("query", "key", "value"):
                names[f"{ours}.attention.{each}."] = f"{theirs}.attention.self.{each}."
            names[f"{ours}.attention.out."] = f"{theirs}.attention.output.dense."
            names |= norm_names(f"{ours}.norm", f"{theirs}.attention.output.LayerNorm")
            names[f"{ours}.up."] = f"{theirs}.intermediate.dense."
            names[f"{ours}.down."] = f"{theirs}.output.dense."
            names |= norm_names(f"{ours}.out_norm", f"{theirs}.output.LayerNorm")
        return names


# ── T5


class T5Layer(nn.Cell):
    def __init__(self, config):
        super().__init__()
        features, heads, eps = config["d_model"], config["num_heads"], config["layer_norm_epsilon"]
        self.norm, self.mlp_norm = RMSNorm(features, eps), RMSNorm(features, eps)
        self.attention = SelfAttention(features, heads, heads * config["d_kv"], bias=False, scale=1.0)
        self.gate, self.up = (Dense(features, config["d_ff"], bias=False) for _ in range(2))
        self.down = Dense(config["d_ff"], features, bias=False)

    def construct(self, x, added):
        x = x + self.attention(self.norm(x), added)
        y = self.mlp_norm(x)
        return x + self.down(ops.gelu(self.gate(y), approximate="tanh") * self.up(y))


class T5Encoder(nn.Cell):
    """The encoder of T5 1.1: gated GELU, no biases, and one table of biases by distance for all layers."""

    def __init__(self, config):
        super().__init__()
        self.features, self.heads = config["d_model"], config["num_heads"]
        self.words = Lookup(config["vocab_size"], self.features)
        buckets = config["relative_attention_num_buckets"]
        self.distances = Lookup(buckets, self.heads)
        self.buckets, self.farthest = buckets, config.get("relative_attention_max_distance", 128)
        self.layers = nn.CellList([T5Layer(config) for _ in range(config["num_layers"])])
        self.norm = RMSNorm(self.features, config["layer_norm_epsilon"])

    @ms.jit
    def construct(self, numbers, mask):
        t = numbers.shape[1]
        bias = self.distances(distance_buckets(t, self.buckets, self.farthest))
        added = bias.transpose(2, 0, 1).reshape(1, self.heads, t, t) + unseen(mask)
        x = self.words(numbers)
        for layer in self.layers:
            x = layer(x, added)
        return self.norm(x)

    @staticmethod
    def origin(config):
        names = {
            "words.": "shared.",
            "distances.": "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.",
            "norm.gain": "encoder.final_layer_norm.weight",
        }
        for i in range(config["num_layers"]):
            ours, theirs = f"layers.{i}", f"encoder.block.{i}.layer"
            for each in ("query", "key", "value", "out"):
                names[f"{ours}.attention.{each}."] = f"{theirs}.0.SelfAttention.{each[0]}."
            names[f"{ours}.norm.gain"] = f"{theirs}.0.layer_norm.weight"
            names[f"{ours}.gate."] = f"{theirs}.1.DenseReluDense.wi_0."
            names[f"{ours}.up."] = f"{theirs}.1.DenseReluDense.wi_1."
            names[f"{ours}.down."] = f"{theirs}.1.DenseReluDense.wo."
            names[f"{ours}.mlp_norm.gain"] = f"{theirs}.1.layer_norm.weight"
        return names


@ops.constexpr
def distance_buckets(t, buckets, farthest):
    """int32 (t, t): which bias query i has for key j. Half of the buckets are for keys behind the query; of each half
    one part has a bucket for each distance, and the other ever wider ones, up to ``farthest``."""
    distance = np.arange(t)[None, :] - np.arange(t)[:, None]
    half = buckets // 2
    exact = half // 2
    far = np.maximum(np.abs(distance), 1) / exact
    wide = exact + (np.log(far) / math.log(farthest / exact) * (half - exact)).astype(np.int64)
    of_its_half = np.where(np.abs(distance) < exact, np.abs(distance), np.minimum(wide, half - 1))
    return ms.Tensor((of_its_half + half * (distance > 0)).astype(np.int32))


# ── CLIP


class ClipLayer(nn.Cell):
    def __init__(self, config):
        super().__init__()
        features, eps = config["hidden_size"], config.get("layer_norm_eps", 1e-5)
        self.norm, self.mlp_norm = LayerNorm(features, eps), LayerNorm(features, eps)
        self.attention = SelfAttention(features, config["num_attention_heads"])
        self.up = Dense(features, config["intermediate_size"])
        self.down = Dense(config["intermediate_size"], features)
        self.quick = config.get("hidden_act", "quick_gelu") == "quick_gelu"

    def construct(self, x, added):
        x = x + self.attention(self.norm(x), added)
        y = self.up(self.mlp_norm(x))
        y = y * ops.sigmoid(1.702 * y) if self.quick else gelu(y)
        return x + self.down(y)


class ClipText(nn.Cell):
    """The text encoder of CLIP, causal, up to its last norm and without the projection."""

    def __init__(self, config):
        super().__init__()
        self.features = config["hidden_size"]
        self.words = Lookup(config["vocab_size"], self.features)
        self.positions = Lookup(config["max_position_embeddings"], self.features)
        self.layers = nn.CellList([ClipLayer(config) for _ in range(config["num_hidden_layers"])])
        self.norm = LayerNorm(self.features, config.get("layer_norm_eps", 1e-5))

    @ms.jit
    def construct(self, numbers, mask):
        t = numbers.shape[1]
        x, added = self.words(numbers) + self.positions.weight[:t], future(t) + unseen(mask)
        for layer in self.layers:
            x = layer(x, added)
        return self.norm(x)

    @staticmethod
    def origin(config):
        names = {
            "words.": "text_model.embeddings.token_embedding.",
            "positions.": "text_model.embeddings.position_embedding.",
            **norm_names("norm", "text_model.final_layer_norm"),
        }
        return names | clip_layers("layers", "text_model.encoder.layers", config)


def clip_layers(ours: str, theirs: str, config: dict) -> dict[str, str]:
    """A file's names of CLIP's layers by those of parameters."""
    names = {}
    for i in range(config["num_hidden_layers"]):
        layer, inner = f"{ours}.{i}", f"{theirs}.{i}"
        for each in ("query", "key", "value"):
            names[f"{layer}.attention.{each}."] = f"{inner}.self_attn.{each[0]}_proj."
        names[f"{layer}.attention.out."] = f"{inner}.self_attn.out_proj."
        names |= norm_names(f"{layer}.norm", f"{inner}.layer_norm1")
        names |= norm_names(f"{layer}.mlp_norm", f"{inner}.layer_norm2")
        names |= {f"{layer}.up.": f"{inner}.mlp.fc1.", f"{layer}.down.": f"{inner}.mlp.fc2."}
    return names


def norm_names(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.gain": f"{theirs}.weight", f"{ours}.bias": f"{theirs}.bias"}
