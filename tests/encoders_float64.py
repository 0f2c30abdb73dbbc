"""BERT, T5's encoder and both of CLIP's in float64 NumPy, on tensors by their names in Hugging Face's files, and
small files of random ones."""

import json
import math

import numpy as np
from PIL import Image
from scipy.special import erf

from ganfleet.store import weights

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "car", "cat", "blue", "heart", "on", "white"]
BERT = {
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 20,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}
T5 = {
    "model_type": "t5",
    "vocab_size": len(WORDS),
    "d_model": 8,
    "d_kv": 3,
    "d_ff": 12,
    "num_layers": 2,
    "feed_forward_proj": "gated-gelu",
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 9,
    "layer_norm_epsilon": 1e-6,
}
CLIP = {
    "model_type": "clip",
    "text_config": {
        "model_type": "clip_text_model",
        "vocab_size": len(WORDS),
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 20,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
    "vision_config": {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 12,
        "image_size": 12,
        "patch_size": 4,
    },
    "projection_dim": 6,
}
CLIP_MEAN, CLIP_DEVIATION = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
            "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
        },
    },
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(WORDS)}, "unk_token": "[UNK]"},
}


def write_encoder(folder, config, shapes, seed=0):
    """A folder as the user would name it, with random weights; these."""
    draw = np.random.default_rng(seed)
    tensors = {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    half = len(tensors) // 2  # large models come in several files
    for i, names in enumerate((list(tensors)[:half], list(tensors)[half:])):
        weights.write(folder / f"model-{i}.safetensors", {name: tensors[name] for name in names})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    return tensors


def linear_shapes(name, fan_in, fan_out, bias=True):
    return {f"{name}.weight": (fan_out, fan_in)} | ({f"{name}.bias": (fan_out,)} if bias else {})


def norm_shapes(name, features, bias=True):
    return {f"{name}.weight": (features,)} | ({f"{name}.bias": (features,)} if bias else {})


def bert_shapes(c=BERT):
    d, h = c["hidden_size"], c["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (c["vocab_size"], d),
        "embeddings.position_embeddings.weight": (c["max_position_embeddings"], d),
        "embeddings.token_type_embeddings.weight": (c["type_vocab_size"], d),
        "pooler.dense.weight": (d, d),  # which nobody asks for
    } | norm_shapes("embeddings.LayerNorm", d)
    for i in range(c["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for each in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= linear_shapes(f"{layer}.attention.{each}", d, d)
        shapes |= norm_shapes(f"{layer}.attention.output.LayerNorm", d) | norm_shapes(f"{layer}.output.LayerNorm", d)
        shapes |= linear_shapes(f"{layer}.intermediate.dense", d, h) | linear_shapes(f"{layer}.output.dense", h, d)
    return shapes


def t5_shapes(c=T5):
    d, inner, h = c["d_model"], c["num_heads"] * c["d_kv"], c["d_ff"]
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    shapes = {"shared.weight": (c["vocab_size"], d), bias: (c["relative_attention_num_buckets"], c["num_heads"])}
    for i in range(c["num_layers"]):
        layer = f"encoder.block.{i}.layer"
        for each in "qkv":
            shapes |= linear_shapes(f"{layer}.0.SelfAttention.{each}", d, inner, False)
        shapes |= linear_shapes(f"{layer}.0.SelfAttention.o", inner, d, False)
        for each in ("wi_0", "wi_1"):
            shapes |= linear_shapes(f"{layer}.1.DenseReluDense.{each}", d, h, False)
        shapes |= linear_shapes(f"{layer}.1.DenseReluDense.wo", h, d, False)
        shapes |= norm_shapes(f"{layer}.0.layer_norm", d, False) | norm_shapes(f"{layer}.1.layer_norm", d, False)
    return shapes | norm_shapes("encoder.final_layer_norm", d, False)


def clip_shapes(c=CLIP["text_config"]):
    d = c["hidden_size"]
    shapes = {
        "text_model.embeddings.token_embedding.weight": (c["vocab_size"], d),
        "text_model.embeddings.position_embedding.weight": (c["max_position_embeddings"], d),
    } | norm_shapes("text_model.final_layer_norm", d)
    return shapes | clip_layer_shapes("text_model", c)


def clip_layer_shapes(model, c):
    d, h, shapes = c["hidden_size"], c["intermediate_size"], {}
    for i in range(c["num_hidden_layers"]):
        layer = f"{model}.encoder.layers.{i}"
        for each in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear_shapes(f"{layer}.self_attn.{each}", d, d)
        shapes |= norm_shapes(f"{layer}.layer_norm1", d) | norm_shapes(f"{layer}.layer_norm2", d)
        shapes |= linear_shapes(f"{layer}.mlp.fc1", d, h) | linear_shapes(f"{layer}.mlp.fc2", h, d)
    return shapes


def whole_clip_shapes(c=CLIP):
    """With the image encoder and both projections."""
    vision, out = c["vision_config"], c["projection_dim"]
    d, patch = vision["hidden_size"], vision["patch_size"]
    embeddings = "vision_model.embeddings"
    return (
        clip_shapes(c["text_config"])
        | {
            f"{embeddings}.class_embedding": (d,),
            f"{embeddings}.patch_embedding.weight": (d, 3, patch, patch),
            f"{embeddings}.position_embedding.weight": (1 + (vision["image_size"] // patch) ** 2, d),
        }
        | norm_shapes("vision_model.pre_layrnorm", d)  # as it is spelt there
        | clip_layer_shapes("vision_model", vision)
        | norm_shapes("vision_model.post_layernorm", d)
        | linear_shapes("visual_projection", d, out, False)
        | linear_shapes("text_projection", c["text_config"]["hidden_size"], out, False)
    )


# ── Forward, one caption (t,) at a time, without padding


def linear(w, name, x):
    y = x @ w[f"{name}.weight"].astype(np.float64).T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def layer_norm(w, name, x, eps):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


def rms_norm(w, name, x, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * w[f"{name}.weight"]


def attention(q, k, v, heads, scale, bias=0.0):
    t = len(q)
    q, k, v = (each.reshape(t, heads, -1).transpose(1, 0, 2) for each in (q, k, v))
    logits = scale * q @ k.transpose(0, 2, 1) + bias
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return (weights @ v).transpose(1, 0, 2).reshape(t, -1)


def bert(w, numbers, c=BERT):
    heads, eps = c["num_attention_heads"], c["layer_norm_eps"]
    table = w["embeddings.word_embeddings.weight"].astype(np.float64)
    x = table[numbers] + w["embeddings.position_embeddings.weight"][: len(numbers)]
    x = layer_norm(w, "embeddings.LayerNorm", x + w["embeddings.token_type_embeddings.weight"][0], eps)
    for i in range(c["num_hidden_layers"]):
        n = f"encoder.layer.{i}"
        q, k, v = (linear(w, f"{n}.attention.self.{each}", x) for each in ("query", "key", "value"))
        y = attention(q, k, v, heads, 1 / math.sqrt(c["hidden_size"] / heads))
        x = layer_norm(w, f"{n}.attention.output.LayerNorm", x + linear(w, f"{n}.attention.output.dense", y), eps)
        y = linear(w, f"{n}.intermediate.dense", x)
        y = linear(w, f"{n}.output.dense", y * (1 + erf(y / math.sqrt(2))) / 2)
        x = layer_norm(w, f"{n}.output.LayerNorm", x + y, eps)
    return x


def t5_bucket(distance, buckets, farthest):
    """The bucket of a key ``distance`` tokens behind the query, one at a time."""
    half = buckets // 2
    first = half if distance > 0 else 0
    distance, exact = abs(distance), half // 2
    if distance < exact:
        return first + distance
    spread = math.log(distance / exact) / math.log(farthest / exact) * (half - exact)
    return first + min(exact + int(spread), half - 1)


def t5(w, numbers, c=T5):
    eps, t = c["layer_norm_epsilon"], len(numbers)
    table = w["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"].astype(np.float64)
    sizes = c["relative_attention_num_buckets"], c["relative_attention_max_distance"]
    bias = np.array([[table[t5_bucket(j - i, *sizes)] for j in range(t)] for i in range(t)]).transpose(2, 0, 1)
    x = w["shared.weight"].astype(np.float64)[numbers]
    for i in range(c["num_layers"]):
        n = f"encoder.block.{i}.layer"
        y = rms_norm(w, f"{n}.0.layer_norm", x, eps)
        q, k, v = (linear(w, f"{n}.0.SelfAttention.{each}", y) for each in "qkv")
        x = x + linear(w, f"{n}.0.SelfAttention.o", attention(q, k, v, c["num_heads"], 1.0, bias))
        y = rms_norm(w, f"{n}.1.layer_norm", x, eps)
        gate = linear(w, f"{n}.1.DenseReluDense.wi_0", y)
        gate = 0.5 * gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
        x = x + linear(w, f"{n}.1.DenseReluDense.wo", gate * linear(w, f"{n}.1.DenseReluDense.wi_1", y))
    return rms_norm(w, "encoder.final_layer_norm", x, eps)


def clip(w, numbers, c=CLIP["text_config"]):
    eps, t = c["layer_norm_eps"], len(numbers)
    x = w["text_model.embeddings.token_embedding.weight"].astype(np.float64)[numbers]
    x = x + w["text_model.embeddings.position_embedding.weight"][:t]
    later = np.where(np.arange(t)[None, :] > np.arange(t)[:, None], -np.inf, 0.0)
    return layer_norm(w, "text_model.final_layer_norm", clip_layers(w, "text_model", x, c, later), eps)


def clip_image(w, image, c=CLIP["vision_config"]):
    """The embedding of length 1 of an image (3, h, w) in [-1, 1]."""
    side, patch, eps = c["image_size"], c["patch_size"], 1e-5
    shorter = min(image.shape[1:])
    size = [int(side * each / shorter) for each in image.shape[1:]]
    top, left = (round((each - side) / 2) for each in size)
    rows = []
    for channel, mean, deviation in zip(image, CLIP_MEAN, CLIP_DEVIATION, strict=True):
        resized = np.asarray(Image.fromarray(channel.astype(np.float32)).resize(size[::-1], Image.Resampling.BICUBIC))
        rows.append((resized[top : top + side, left : left + side] / 2 + 0.5 - mean) / deviation)
    pixels = np.array(rows, np.float64)
    n = "vision_model.embeddings"
    kernel = w[f"{n}.patch_embedding.weight"].astype(np.float64)
    patches = [
        (kernel * pixels[:, y : y + patch, x : x + patch]).sum((1, 2, 3))
        for y in range(0, side, patch)
        for x in range(0, side, patch)
    ]
    x = np.array([w[f"{n}.class_embedding"], *patches]) + w[f"{n}.position_embedding.weight"]
    x = clip_layers(w, "vision_model", layer_norm(w, "vision_model.pre_layrnorm", x, eps), c)
    return unit(linear(w, "visual_projection", layer_norm(w, "vision_model.post_layernorm", x[0], eps)))


def unit(x):
    return x / np.linalg.norm(x)


def clip_layers(w, model, x, c, bias=0.0):
    heads, eps = c["num_attention_heads"], 1e-5
    for i in range(c["num_hidden_layers"]):
        n = f"{model}.encoder.layers.{i}"
        y = layer_norm(w, f"{n}.layer_norm1", x, eps)
        q, k, v = (linear(w, f"{n}.self_attn.{each}_proj", y) for each in "qkv")
        y = attention(q, k, v, heads, 1 / math.sqrt(c["hidden_size"] / heads), bias)
        x = x + linear(w, f"{n}.self_attn.out_proj", y)
        y = linear(w, f"{n}.mlp.fc1", layer_norm(w, f"{n}.layer_norm2", x, eps))
        x = x + linear(w, f"{n}.mlp.fc2", y / (1 + np.exp(-1.702 * y)))
    return x
