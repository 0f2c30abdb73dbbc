"""Imagen (arXiv:2205.11487): a base model from text to small images, and models that enlarge them."""

from functools import lru_cache
from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from ganfleet import nn
from ganfleet.errors import ConfigError
from ganfleet.strategies.captions import CaptionOptions, text_of
from ganfleet.strategies.diffusion.enlarging import Enlarging, EnlargingOptions
from ganfleet.strategies.diffusion.sampling import Method, SampleOptions
from ganfleet.strategies.diffusion.schedule import Kind, Schedule, per_sample
from ganfleet.strategies.diffusion.strategy import (
    CLOCK,
    Denoising,
    DenoisingOptions,
    Guidance,
    Share,
    UNetOptions,
    unet,
)
from ganfleet.strategies.imagen.networks import EfficientUNet, PooledText
from ganfleet.text.cache import rounded
from ganfleet.text.encoder import find


class TextOptions(DenoisingOptions, CaptionOptions):
    """``prompts`` are drawn in a run's own grids, one for each image by chance."""

    schedule: Kind = "cosine"
    timesteps: Annotated[int, Field(ge=2, le=100_000)] | None = None
    lr: NonNegativeFloat = 1e-4
    method: Method = "ddpm"
    steps: PositiveInt = 100
    percentile: Annotated[float, Field(gt=0, le=100)] | None = 99.5
    prompts: tuple[str, ...] = ()


class PromptOptions(SampleOptions):
    prompt: str | None = Field(None, description="what the image is to show")


class TextDiffusion(Denoising):
    """A diffusion model that is told a text: tokens of a frozen encoder, left out for a share of samples."""

    SampleOptions = PromptOptions

    def __init__(self, options, image, batch_size):
        super().__init__(options, image, batch_size)
        self.text = text_of(options, image)

    # ── Text

    def told(self, nets, real, noise):
        return {"text": real["text"], "text_mask": real["text_mask"], "keep": noise["keep"]}

    def tokens(self, inputs):
        """The tokens and the mask that a network sees, in a graph: zeros where the text is left out."""
        keep = inputs["keep"].astype(inputs["text"].dtype)
        return inputs["text"] * keep.reshape(-1, 1, 1), inputs["text_mask"] * keep.reshape(-1, 1)

    def encoded(self, prompt: str) -> dict[str, np.ndarray]:
        """``prompt`` as the network is told it.

        Raises:
            ConfigError: the encoder is not there, or another one than the model was trained with.
        """
        encoder = find(self.text.encoder)
        if encoder.sha256 != self.text.sha256:
            raise ConfigError(
                f"the text encoder {self.text.encoder} has other weights than that of training (SHA-256 "
                f"{encoder.sha256[:12]}…, then {self.text.sha256[:12]}…): bring the files of then back"
            )
        features, mask = _encoded(self.text.encoder, prompt, self.text.tokens)
        return {"text": features, "text_mask": mask}

    def sample_inputs(self, rng, clock, label=None):
        inputs = super().sample_inputs(rng, clock, label)
        prompts = self.options.prompts
        return inputs | (self.encoded(prompts[rng.integers(len(prompts))]) if prompts else self.nothing())

    def nothing(self) -> dict[str, np.ndarray]:
        """No text."""
        shape = (1, self.text.tokens, self.text.features)
        return {"text": np.zeros(shape, np.float32), "text_mask": np.zeros(shape[:2], np.float32)}

    def with_options(self, inputs, options):
        inputs = super().with_options(inputs, options)
        return inputs if options.prompt is None else inputs | self.encoded(options.prompt)

    def conditions(self, inputs):
        keep = np.ones(len(inputs["text"]), np.int32)
        condition = {"text": inputs["text"], "text_mask": inputs["text_mask"]}
        return condition | {"keep": keep}, condition | {"keep": 0 * keep}


@lru_cache(maxsize=256)
def _encoded(encoder: str, prompt: str, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Kept, as many images are drawn of one prompt."""
    features, mask = find(encoder).encode([prompt], tokens)
    return rounded(features), mask


class Imagen(TextDiffusion):
    """Imagen's base model (arXiv:2205.11487): from text to images, 64x64 in the paper."""

    class Options(TextOptions, UNetOptions):
        pass

    def networks(self):
        options = self.options
        heads = max(1, options.width // options.head_width)
        return {
            "unet": unet(options, self.image.channels, self.outputs, self.text.features),
            "pooled": PooledText(self.text.features, 4 * options.width, options.width, heads),
        }

    def figures(self):
        return {"guidance": Guidance()}

    def predicted(self, nets, x_t, time, inputs):
        tokens, mask = self.tokens(inputs)
        return nets.unet(x_t, time, nets.pooled(tokens, mask), tokens, mask)


class ImagenSROptions(TextOptions, EnlargingOptions):
    """``widths`` and ``depths`` are the channels and the blocks of each level; ``pixels`` says whether the last level
    attends among pixels, too.

    ``noise`` is the level of noise, from 0 to 1, in the small image when drawing; in training it is uniform. The noise
    follows ``noise_schedule``.
    """

    resolution: PositiveInt = 64
    widths: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32, 64, 128)
    depths: tuple[PositiveInt, ...] = (1, 2, 2)
    heads: PositiveInt = 8
    pixels: bool = True
    noise: Share = 0.1
    noise_schedule: Kind = "linear"

    @model_validator(mode="after")
    def _fits(self):
        if len(self.depths) != len(self.widths):
            raise ValueError(f"there are {len(self.depths)} depths for {len(self.widths)} widths: give one for each")
        times = 2 ** len(self.widths)
        if self.resolution % times:
            raise ValueError(
                f"resolution is {self.resolution}, and must be one that {times} divides, with {len(self.widths)} widths"
            )
        if self.widths[-1] % self.heads:
            raise ValueError(f"the last of widths is {self.widths[-1]}, which {self.heads} heads cannot share evenly")
        return self


class NoisePromptOptions(PromptOptions):
    noise: float | None = Field(None, ge=0, le=1, description="in the small image: 0 for none, more to paint anew")


class ImagenSR(Enlarging, TextDiffusion):
    """Imagen's super-resolution (arXiv:2205.11487): from small images and text to ones ``factor`` times as large.

    The small image has noise of a level that the network is told (arXiv:2106.15282), so that it learns to repair what
    the model before it does wrong.
    """

    SampleOptions = NoisePromptOptions
    SPOILING = ("level", "small_alpha", "small_sigma", "small_epsilon")

    class Options(ImagenSROptions):
        pass

    def __init__(self, options, image, batch_size):
        super().__init__(options, image, batch_size)
        self.small_noise = Schedule(options.noise_schedule, None)
        self.any_size = not options.pixels

    def networks(self):
        options, channels = self.options, self.image.channels
        embedding = 4 * options.widths[0]
        sizes = options.widths, options.depths, self.text.features, options.heads, options.pixels
        return {
            "unet": EfficientUNet(2 * channels, self.outputs, *sizes),
            "pooled": PooledText(self.text.features, embedding, options.widths[-1], options.heads),
            "level": nn.TimeEmbedding(options.widths[0], embedding),
        }

    def predicted(self, nets, x_t, time, inputs):
        tokens, mask = self.tokens(inputs)
        condition = nets.pooled(tokens, mask) + nets.level(inputs["level"])
        return nets.unet(self.beside(x_t, inputs), time, condition, tokens, mask)

    def spoilt(self, inputs):
        return inputs["small_alpha"] * inputs["small"] + inputs["small_sigma"] * inputs["small_epsilon"]

    # ── Training

    def draw(self, rng, n, clock):
        drawn = super().draw(rng, n, clock)
        epsilon = rng.standard_normal((n, *self.small_shape), dtype=np.float32)
        return drawn | self.noised_by(rng.random(n), epsilon)

    def noised_by(self, level: np.ndarray, epsilon: np.ndarray) -> dict[str, np.ndarray]:
        """Noise of ``level`` (n,) for small images, as ``predicted`` takes it."""
        alpha, sigma = self.small_noise.alpha_sigma(level)
        return {
            "level": (CLOCK * level).astype(np.float32),
            "small_alpha": per_sample(alpha, 4),
            "small_sigma": per_sample(sigma, 4),
            "small_epsilon": epsilon,
        }

    def told(self, nets, real, noise):
        return {
            "text": real["text"],
            "text_mask": real["text_mask"],
            "keep": noise["keep"],
            "small": self.reduced(real["image"]),
            "small_alpha": noise["small_alpha"],
            "small_sigma": noise["small_sigma"],
            "small_epsilon": noise["small_epsilon"],
            "level": noise["level"],
        }

    # ── Drawing

    def spoiling(self, rng, shape):
        return self.noised_by(np.full(shape[0], self.options.noise), rng.standard_normal(shape, dtype=np.float32))

    def with_options(self, inputs, options):
        inputs = super().with_options(inputs, options)
        if options.noise is None:
            return inputs
        return inputs | self.noised_by(np.array([options.noise]), inputs["small_epsilon"])

    def conditions(self, inputs):
        small = {name: inputs[name] for name in ("small", *self.SPOILING)}
        return tuple(each | small for each in super().conditions(inputs))
