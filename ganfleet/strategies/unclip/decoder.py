"""DALL·E 2's decoder (arXiv:2204.06125, section 2.1): from the embedding of an image, and its caption, to the image."""

from typing import Annotated, Literal

import numpy as np
from mindspore import ops
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from ganfleet.strategies.base import Frozen
from ganfleet.strategies.diffusion.sampling import How, invert
from ganfleet.strategies.diffusion.schedule import Schedule
from ganfleet.strategies.diffusion.strategy import Guidance, Share, UNetOptions, unet
from ganfleet.strategies.figure import slerp
from ganfleet.strategies.imagen.strategy import TextDiffusion, TextOptions
from ganfleet.strategies.unclip.figures import Difference, Interpolation, Variations
from ganfleet.strategies.unclip.networks import EmbeddedImage
from ganfleet.strategies.unclip.prior import PriorOptions, drawn_embeddings, embedding_of, scale, transformer
from ganfleet.strategies.unclip.towers import frozen_towers

# Options that the prior's run must have the same values of, and what they are called there.
SAME_PRIOR = {
    **{name: name for name in ("resolution", "embedding", "prior_width", "prior_depth", "prior_heads")},
    "prior_timesteps": "timesteps",
}


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
            "unet": unet(options, self.image.channels, self.outputs, self.text.features),
            "embedded": EmbeddedImage(options.embedding, 4 * options.width, self.text.features),
        }

    def frozen(self, stage):
        options = self.options
        frozen = frozen_towers(options, self.image)
        if options.prior is not None:
            frozen["prior"] = Frozen(
                transformer(options, self.image),
                options.prior,
                prefix="prior.",
                option="prior",
                same=SAME_PRIOR,
            )
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
        figures = {"guidance": Guidance(), "interpolation": Interpolation(self), "variations": Variations(self)}
        return figures | {"difference": Difference(self)}

    def caption(self, nets, inputs):
        """The embedding of a caption, in a graph."""
        return nets.text_tower(inputs["text"], inputs["text_mask"])

    def embedded(self, nets, inputs):
        """That of an image."""
        return nets.image_tower(inputs["image"])

    def prior_step(self, nets, inputs):
        return embedding_of(nets, inputs["x_t"], inputs["time"], inputs)

    def sampler(self, graph):
        predict, caption, embedded = graph(self.predict), graph(self.caption), graph(self.embedded)
        prior = graph(self.prior_step) if self.options.prior is not None else None
        factor, schedule = scale(self.options), Schedule("cosine", self.options.prior_timesteps)

        def of_text(inputs, text, mask):
            """The embedding of an image for each text, and the text's own."""
            told = {"text": text, "text_mask": mask}
            own = caption(told)
            if prior is None:
                return own, own
            given = inputs | told | {"caption": own}
            return drawn_embeddings(prior, given, self.options.prior_steps, factor, schedule), own

        def embedding(inputs):
            if "image" in inputs:
                return embedded({"image": inputs["image"]})
            first, own = of_text(inputs, inputs["text"], inputs["text_mask"])
            if "to_text" not in inputs:
                return first
            second, other = of_text(inputs, inputs["to_text"], inputs["to_mask"])
            if "difference" in inputs:  # not to the other embedding, but where the texts differ
                gap = other - own
                second = gap / np.maximum(np.linalg.norm(gap, axis=1, keepdims=True), 1e-6)
            return np.stack([slerp(*each) for each in zip(first, second, inputs["share"], strict=True)])

        def draw(inputs):
            inputs = inputs | {"embedding": embedding(inputs)}
            if "image" in inputs:
                says, how = self.saying(predict, inputs, 1.0), How.of(inputs)
                noise = invert(says, inputs["image"], how.steps, self.noise_schedule, self.options.predict)
                inputs = inputs | {"noise": noise}
            return self.denoised(predict, inputs)

        return draw

    def conditions(self, inputs):
        condition, without = super().conditions(inputs)
        n = len(inputs["text"])
        if "share" in inputs or "image" in inputs:  # an embedding that no text was written for
            condition = without
        embedding = {"embedding": inputs["embedding"], "keep_embedding": np.ones(n, np.int32)}
        return condition | embedding, without | embedding | {"keep_embedding": np.zeros(n, np.int32)}
