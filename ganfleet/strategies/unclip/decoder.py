"""DALL·E 2's decoder (arXiv:2204.06125, section 2.1): from the embedding of an image, and its caption, to the image."""

from typing import Annotated, Literal

import numpy as np
from mindspore import ops
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from ganfleet.strategies.base import Frozen
from ganfleet.strategies.diffusion.schedule import Schedule
from ganfleet.strategies.diffusion.strategy import Guidance, Share, UNetOptions, unet
from ganfleet.strategies.imagen.strategy import TextDiffusion, TextOptions
from ganfleet.strategies.unclip.networks import EmbeddedImage
from ganfleet.strategies.unclip.prior import PriorOptions, drawn_embeddings, embedding_of, scale, transformer
from ganfleet.strategies.unclip.towers import towers


class Unclip(TextDiffusion):
    """DALL·E 2 (arXiv:2204.06125): a U-Net that is told the embedding of an image, and its caption.

    ``encoder`` is the run or file of the two towers; ``prior`` that of the prior, which makes an embedding of a prompt.
    Without one, the embedding of the caption stands for that of an image. The prior's sizes must be those of its run.
    """

    class Options(TextOptions, UNetOptions, PriorOptions):
        encoder: str = Field(min_length=1)
        prior: str | None = None
        prior_steps: PositiveInt = 64
        prior_timesteps: PositiveInt = 1000
        timesteps: Annotated[int, Field(ge=2, le=100_000)] | None = 1000
        lr: NonNegativeFloat = 1.2e-4
        drop: Share = 0.5
        drop_embedding: Share = 0.1
        learned_variance: bool = True
        method: Literal["ddpm", "ddim"] = "ddpm"
        percentile: Annotated[float, Field(gt=0, le=100)] | None = None

        @model_validator(mode="after")
        def _has_so_many_steps_of_the_prior(self):
            if self.prior_steps > self.prior_timesteps:
                raise ValueError(f"prior_steps is {self.prior_steps}, and can be no more than {self.prior_timesteps}")
            return self

    def networks(self):
        options = self.options
        return {
            "unet": unet(options, self.image.channels, self.outputs, self.features),
            "embedded": EmbeddedImage(options.embedding, 4 * options.width, self.features),
        }

    def frozen(self, stage):
        options = self.options
        found = towers(options, self.image)
        frozen = {name: Frozen(net, options.encoder, prefix=f"{name}.") for name, net in found.items()}
        if options.prior is not None:
            frozen["prior"] = Frozen(transformer(options, self.image), options.prior, prefix="prior.")
        return frozen

    # ── Training

    def draw(self, rng, n, clock):
        drawn = super().draw(rng, n, clock)
        drawn["keep_embedding"] = (rng.random(n) >= self.options.drop_embedding).astype(np.int32)
        return drawn

    def predicted(self, nets, x_t, time, inputs):
        text, mask = self.tokens(inputs)
        keep = inputs["keep_embedding"].astype(text.dtype).reshape(-1, 1)
        condition, tokens = nets.embedded(inputs["embedding"] * keep)
        mask = ops.concat((mask, ops.ones(tokens.shape[:2], mask.dtype)), 1)
        return nets.unet(x_t, time, condition, ops.concat((text, tokens), 1), mask)

    def told(self, nets, real, noise):
        return {
            "text": real["text"],
            "text_mask": real["text_mask"],
            "keep": noise["keep"],
            "keep_embedding": noise["keep_embedding"],
            "embedding": nets.image_tower(real["image"]),
        }

    # ── Drawing

    def sample_inputs(self, rng, clock, label=None):
        inputs = super().sample_inputs(rng, clock, label)
        return inputs | {"prior_noise": rng.standard_normal((1, 2, self.options.embedding), dtype=np.float32)}

    def figures(self):
        return {"guidance": Guidance()}

    def caption(self, nets, inputs):
        """The embedding of a caption."""
        return nets.text_tower(inputs["text"], inputs["text_mask"])

    def prior_step(self, nets, inputs):
        return embedding_of(nets, inputs["x_t"], inputs["time"], inputs)

    def sampler(self, graph):
        draw, caption, prior = super().sampler(graph), graph(self.caption), graph(self.prior_step)
        factor, schedule = scale(self.options), Schedule("cosine", self.options.prior_timesteps)

        def from_prompts(inputs):
            told = {"text": inputs["text"], "text_mask": inputs["text_mask"]}
            embedding = caption(told)
            if self.options.prior is not None:
                given = inputs | {"caption": embedding}
                embedding = drawn_embeddings(prior, given, self.options.prior_steps, factor, schedule)
            return draw(inputs | {"embedding": embedding})

        return from_prompts

    def conditions(self, inputs):
        condition, without = super().conditions(inputs)
        n = len(inputs["text"])
        embedding = {"embedding": inputs["embedding"], "keep_embedding": np.ones(n, np.int32)}
        return condition | embedding, without | embedding | {"keep_embedding": np.zeros(n, np.int32)}
