"""CLIP (arXiv:2103.00020) out of a folder in Hugging Face's layout, in the place of towers that are trained here."""

import json

import mindspore as ms
import numpy as np
from mindspore import nn as ms_nn
from mindspore import ops

from ganfleet import nn
from ganfleet.document import expanded
from ganfleet.errors import ConfigError
from ganfleet.strategies.base import Frozen
from ganfleet.strategies.unclip.networks import unit
from ganfleet.text import encoder, networks

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of values in [0, 1]
VISION = encoder.Kind(
    "ClipImageTower",
    ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size", "image_size", "patch_size"),
    ("layer_norm_eps",),
    {"hidden_act": ("quick_gelu", "gelu")},
    # Of CLIP's smallest model: its config.json leaves these out.
    defaults={
        "hidden_size": 768,
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "intermediate_size": 3072,
        "image_size": 224,
        "patch_size": 32,
        "layer_norm_eps": 1e-5,
    },
)

PROJECTION = encoder.Kind("ClipTextTower", ("projection_dim",))


class ClipImageTower(ms_nn.Cell):
    """Images (n, 3, h, w) in [-1, 1] → embeddings (n, features) of length 1.

    As CLIP was trained, an image's shorter side is brought to ``image_size`` by cubic interpolation, and the middle is
    cut out. A transformer sees its patches, and a first token that stands for the whole.
    """

    def __init__(self, config: dict, features: int):
        super().__init__()
        width, self.side, patch = config["hidden_size"], config["image_size"], config["patch_size"]
        eps = config.get("layer_norm_eps", 1e-5)
        self.patches = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.whole = nn.parameter("whole", (width,), nn.Normal(1.0))
        self.positions = networks.Lookup(1 + (self.side // patch) ** 2, width)
        self.first_norm, self.norm = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.layers = ms_nn.CellList([networks.ClipLayer(config) for _ in range(config["num_hidden_layers"])])
        self.last = nn.Dense(width, features, bias=False)

    def construct(self, image):
        rows, columns = _to_middle(image.shape[2:], self.side)
        x = ops.matmul(ops.matmul(rows, image), columns.transpose(1, 0))
        x = self.patches((0.5 * x + 0.5 - _by_channel(MEAN)) / _by_channel(DEVIATION))
        n, width = x.shape[:2]
        whole = ops.broadcast_to(self.whole.reshape(1, 1, width), (n, 1, width))
        x = ops.concat((whole, x.reshape(n, width, -1).transpose(0, 2, 1)), 1)
        x = self.first_norm(x + self.positions.weight)
        for layer in self.layers:
            x = layer(x, None)
        return unit(self.last(self.norm(x[:, 0])))

    @staticmethod
    def origin(config):
        return networks.clip_layers("layers", "vision_model.encoder.layers", config) | {
            "patches.": "vision_model.embeddings.patch_embedding.",
            "whole": "vision_model.embeddings.class_embedding",
            "positions.": "vision_model.embeddings.position_embedding.",
            "last.": "visual_projection.",
            **networks.norm_names("first_norm", "vision_model.pre_layrnorm"),  # as it is spelt there
            **networks.norm_names("norm", "vision_model.post_layernorm"),
        }


class ClipTextTower(ms_nn.Cell):
    """What CLIP's text encoder gives for tokens (n, t, width), and their mask (n, t) → embeddings (n, features) of
    length 1, from the last token that counts."""

    def __init__(self, width: int, features: int):
        super().__init__()
        self.last = nn.Dense(width, features, bias=False)

    def construct(self, text, mask):
        is_last = mask - ops.concat((mask[:, 1:], ops.zeros((mask.shape[0], 1), mask.dtype)), 1)
        return unit(self.last((text * is_last.reshape(*mask.shape, 1)).sum(1)))

    @staticmethod
    def origin():
        return {"last.": "text_projection."}


def model_type(name: str) -> str | None:
    """The ``model_type`` of the config.json in the folder ``name``; None where there is none."""
    try:
        config = json.loads((expanded(name, "strategy.encoder") / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return str(config.get("model_type")) if isinstance(config, dict) else None


def towers(name: str, embedding: int, image) -> dict[str, Frozen]:
    """``image_tower`` and ``text_tower`` of the CLIP in the folder ``name``, with their weights, for data like
    ``image``, whose captions that CLIP has encoded.

    Raises:
        ConfigError: another encoder has; embeddings are of another size than ``embedding``; images have no three
            channels; a weight is missing.
    """
    found = encoder.find(name)
    vision = found.checked(found.whole.get("vision_config") or {}, VISION)
    features = found.checked({"projection_dim": 512} | found.whole, PROJECTION)["projection_dim"]
    if image.text is not None and image.text.sha256 not in ("", found.sha256):
        raise ConfigError(
            f"strategy.encoder is the CLIP in {name}, and data.encoder is {image.text.encoder}: its text tower reads "
            f"what its own text encoder gives, so set data.encoder to {name} too"
        )
    if embedding != features:
        raise ConfigError(
            f"strategy.embedding is {embedding}, and the CLIP in {name} gives {features} features: set it to {features}"
        )
    if image.channels != 3:
        raise ConfigError(f"the CLIP in {name} sees images of 3 channels, not {image.channels}: set data.channels to 3")
    tensors = found.tensors()
    own = (ClipImageTower(vision, features), ClipTextTower(found.features, features))
    origins = (ClipImageTower.origin(vision), ClipTextTower.origin())
    image_tower, text_tower = (found.filled(net, names, tensors) for net, names in zip(own, origins, strict=True))
    return {
        "image_tower": Frozen(image_tower, option="encoder", computes=encoder.described(vision, VISION)),
        "text_tower": Frozen(text_tower, option="encoder"),
    }


# ── Constants of a graph


@ops.constexpr
def _by_channel(numbers):
    return ms.Tensor(np.float32(numbers).reshape(1, -1, 1, 1))


@ops.constexpr
def _to_middle(sides, wanted):
    """The matrices (wanted, h) and (wanted, w) that bring an image's shorter side to ``wanted`` and cut out the
    middle."""
    matrices = []
    for side in sides:
        after = int(wanted * side / min(sides))
        start = round((after - wanted) / 2)
        matrices.append(ms.Tensor(cubic(side, after)[start : start + wanted].astype(np.float32)))
    return tuple(matrices)


def cubic(before: int, after: int) -> np.ndarray:
    """The matrix (after, before) that resizes a line of pixels by cubic interpolation as Pillow does: with a = −1/2,
    and over as many more pixels as the line gets shorter."""
    ratio = before / after
    wider = max(ratio, 1.0)
    middle = (np.arange(after) + 0.5) * ratio
    distance = np.abs((np.arange(before) + 0.5)[None] - middle[:, None]) / wider
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)
