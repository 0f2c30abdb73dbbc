"""The two towers that DALL·E 2 needs, trained on the data: a small CLIP (arXiv:2103.00020) on frozen text features."""

from typing import Annotated, ClassVar

from mindspore import ops
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from ganfleet import nn
from ganfleet.errors import ConfigError
from ganfleet.size import Size
from ganfleet.strategies.base import Betas, Frozen, Phase, Player, Strategy
from ganfleet.strategies.captions import CaptionOptions, text_of
from ganfleet.strategies.unclip import clip
from ganfleet.strategies.unclip.networks import ImageTower, Scale, TextTower


class TowerOptions(CaptionOptions):
    """``tower`` are the channels of the image tower's levels; ``text_width`` and ``text_heads`` the text tower's;
    ``embedding`` the features that both give."""

    tower: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32, 64, 128)
    text_width: PositiveInt = 128
    text_heads: PositiveInt = 4
    embedding: PositiveInt = 128

    @model_validator(mode="after")
    def _can_be_halved(self):
        times = 2 ** len(self.tower)
        if any(side % times for side in Size.of(self.resolution)):
            raise ValueError(
                f"resolution is {self.resolution}, and a tower of {len(self.tower)} levels needs one that {times} "
                "divides"
            )
        if self.text_width % self.text_heads:
            raise ValueError(f"text_width is {self.text_width}, which {self.text_heads} heads cannot share evenly")
        return self


def towers(options: TowerOptions, image) -> dict:
    """``image_tower`` and ``text_tower`` for data like ``image``.

    Raises:
        ConfigError: the data have no captions.
    """
    text = text_of(options, image)
    return {
        "image_tower": ImageTower(image.channels, options.tower, options.embedding),
        "text_tower": TextTower(text.features, options.text_width, options.text_heads, options.embedding),
    }


def frozen_towers(options, image) -> dict[str, Frozen]:
    """The towers that ``options.encoder`` names, for data like ``image``: a run's, or those of CLIP in a folder.

    Raises:
        ConfigError: the data have no captions; CLIP does not fit.
    """
    kind = clip.model_type(options.encoder)
    if kind == "clip":
        return clip.towers(options.encoder, options.embedding, image)
    if kind is not None:
        raise ConfigError(
            f"strategy.encoder is {options.encoder}, whose config.json says model_type {kind}: name a run of "
            "unclip_towers, or the folder of a whole CLIP, whose model_type is clip"
        )
    same = {name: name for name in ("resolution", "tower", "text_width", "text_heads", "embedding")}
    return {
        name: Frozen(net, options.encoder, prefix=f"{name}.", option="encoder", same=same)
        for name, net in towers(options, image).items()
    }


class Towers(Strategy):
    """Two towers that learn which caption goes with which image (arXiv:2103.00020); they draw nothing.

    Each image is told from the captions of the other images of its lane, and each caption from their images: with more
    lanes there are fewer to tell it from. Grids of a run show the data.
    """

    samples_data: ClassVar[bool] = True

    class Options(TowerOptions):
        lr: NonNegativeFloat = 5e-4
        betas: Betas = (0.9, 0.98)
        weight_decay: NonNegativeFloat = 0.1

    def players(self, stage):
        optimizer = nn.AdamW(self.options.lr, self.options.betas, weight_decay=self.options.weight_decay)
        return {"towers": Player({**towers(self.options, self.image), "scale": Scale()}, optimizer)}

    def phases(self, stage):
        return [Phase("towers", self.loss)]

    def check(self, stage, lane_size):
        if lane_size < 2:
            raise ConfigError(
                "a lane of one sample has nothing to tell it from: lower train.lanes, or raise batch_size"
            )

    def draw(self, rng, n, clock):
        return {}

    def loss(self, nets, real, noise):
        images = nets.image_tower(real["image"])
        captions = nets.text_tower(real["text"], real["text_mask"])
        logits = nets.scale(ops.matmul(images, captions.transpose(1, 0)))
        n = logits.shape[0]
        right = (logits * ops.eye(n, n, logits.dtype)).sum() / n
        of_images = nn.logsumexp(logits, 1).mean() - right
        of_captions = nn.logsumexp(logits, 0).mean() - right
        return 0.5 * (of_images + of_captions), {"of_images": of_images, "of_captions": of_captions}

    def sample_inputs(self, rng, clock, label=None):
        raise ConfigError("towers draw nothing: draw with a model that names their run in strategy.encoder")

    def sample(self, nets, inputs):
        return inputs["image"]

    def paths(self):
        return {}
