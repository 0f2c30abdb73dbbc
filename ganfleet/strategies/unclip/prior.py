"""DALL·E 2's diffusion prior (arXiv:2204.06125, section 2.2): from a caption to the embedding of an image."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from ganfleet.errors import ConfigError
from ganfleet.strategies.base import Betas
from ganfleet.strategies.captions import text_of
from ganfleet.strategies.diffusion.sampling import How, denoise
from ganfleet.strategies.diffusion.schedule import Schedule, Target
from ganfleet.strategies.diffusion.strategy import CLOCK, Denoising, DenoisingOptions
from ganfleet.strategies.unclip.networks import PriorTransformer
from ganfleet.strategies.unclip.towers import TowerOptions, frozen_towers

SPREAD = 0.54  # of a pixel of ImageNet in [-1, 1], to which each feature of an embedding is scaled


class PriorOptions(TowerOptions):
    """``prior_width``, ``prior_depth`` and ``prior_heads`` of the transformer."""

    prior_width: PositiveInt = 256
    prior_depth: PositiveInt = 6
    prior_heads: PositiveInt = 4

    @model_validator(mode="after")
    def _heads_share_the_width(self):
        if self.prior_width % self.prior_heads:
            raise ValueError(f"prior_width is {self.prior_width}, which {self.prior_heads} heads cannot share evenly")
        return self


def transformer(options: PriorOptions, image) -> PriorTransformer:
    text = text_of(options, image)
    return PriorTransformer(
        text.features,
        text.tokens,
        options.embedding,
        options.prior_width,
        options.prior_depth,
        options.prior_heads,
    )


def scale(options: TowerOptions) -> float:
    """What an embedding of length 1 is multiplied by, so that its features are spread as pixels are: 17.2 for the
    paper's 1024 of them."""
    return SPREAD * options.embedding**0.5


class UnclipPrior(Denoising):
    """DALL·E 2's prior (arXiv:2204.06125): a transformer that takes noise off an image's embedding, told the caption.

    Embeddings are those of two towers that were trained before, ``encoder``, the run or file of theirs. It predicts the
    embedding itself. Grids of a run show the data; ``unclip`` draws with it.
    """

    samples_data: ClassVar[bool] = True

    class Options(DenoisingOptions, PriorOptions):
        encoder: str = Field(min_length=1)
        predict: Target = "x0"
        lr: NonNegativeFloat = 1.1e-4
        betas: Betas = (0.9, 0.96)
        eps: Annotated[float, Field(gt=0)] = 1e-6
        weight_decay: NonNegativeFloat = 6e-2
        steps: PositiveInt = 64

    def networks(self):
        return {"prior": transformer(self.options, self.image)}

    def frozen(self, stage):
        return frozen_towers(self.options, self.image)

    @property
    def shape(self):
        return (self.options.embedding, 1, 1)

    def clean(self, nets, real):
        z = nets.image_tower(real["image"]) * scale(self.options)
        return z.reshape(z.shape[0], -1, 1, 1)

    def told(self, nets, real, noise):
        caption = nets.text_tower(real["text"], real["text_mask"])
        keep = noise["keep"].astype(caption.dtype)
        return {"text": real["text"] * keep.reshape(-1, 1, 1), "caption": caption * keep.reshape(-1, 1)}

    def predicted(self, nets, x_t, time, inputs):
        return embedding_of(nets, x_t, time, inputs)

    def sample_inputs(self, rng, clock, label=None):
        raise ConfigError("a prior draws embeddings and no images: use a model that names it in strategy.prior")

    def sampler(self, graph):
        return graph(self.sample)

    def sample(self, nets, inputs):
        return inputs["image"]


def embedding_of(nets, x_t, time, inputs):
    """What the prior says of noised embeddings (n, features, 1, 1)."""
    n = x_t.shape[0]
    z = nets.prior(x_t.reshape(n, -1), time, inputs["text"], inputs["caption"])
    return z.reshape(x_t.shape)


def drawn_embeddings(
    predict, inputs: dict[str, np.ndarray], steps: int, factor: float, schedule: Schedule
) -> np.ndarray:
    """Embeddings (n, features) of length 1 for captions: of two that are drawn, the one nearer to the caption's.

    Args:
        predict: the graph of ``embedding_of``.
        inputs: ``text``, ``caption`` of length 1, the noise that two start at, ``prior_noise`` (n, 2, features), and
            ``seed`` (n,).
    """
    told = {"text": inputs["text"], "caption": inputs["caption"]}
    tries = []
    for i in range(2):

        def predicted(x_t, t):
            time = np.full(len(x_t), CLOCK * t, np.float32)
            return predict({"x_t": x_t, "time": time, **told}), None

        start = inputs["prior_noise"][:, i, :, None, None]
        z = denoise(predicted, start, inputs["seed"], How(steps), schedule, "x0", lambda x0, percentile: x0)
        z = z[:, :, 0, 0] / factor
        tries.append(z / np.linalg.norm(z, axis=1, keepdims=True))
    first, second = ((each * inputs["caption"]).sum(1, keepdims=True) for each in tries)
    return np.where(second > first, tries[1], tries[0]).astype(np.float32)
