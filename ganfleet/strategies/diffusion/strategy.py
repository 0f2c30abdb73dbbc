"""Diffusion of images, unconditional or by class (arXiv:2006.11239, 2102.09672, 2105.05233, 2207.12598)."""

import math
from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ganfleet import nn
from ganfleet.errors import ConfigError
from ganfleet.size import Resolution, Size
from ganfleet.strategies.base import Betas, Decay, Ema, Phase, Player, Strategy, StrategyOptions
from ganfleet.strategies.diffusion import bound
from ganfleet.strategies.diffusion.sampling import How, Method, Predict, SampleOptions, denoise
from ganfleet.strategies.diffusion.schedule import (
    Kind,
    Schedule,
    Target,
    guided,
    per_sample,
    target_weights,
    thresholded,
)
from ganfleet.strategies.diffusion.unet import UNet
from ganfleet.strategies.figure import Figure, Picture
from ganfleet.strategies.options import Numbers, Options

CLOCK = 1000.0  # what time 1 is to the network, as if there were so many steps
BOUND = 0.001  # the weight of the variational bound in the hybrid loss (arXiv:2102.09672, equation 16)

Share = Annotated[float, Field(ge=0, le=1)]


class DenoisingOptions(StrategyOptions):
    """What every diffusion model has, whatever its network.

    Noise: ``schedule``, with ``timesteps`` T, null for continuous time; ``predict`` is the network's target. With
    ``learned_variance`` it also says how large each step's noise is to be, and learns that by the hybrid loss of
    arXiv:2102.09672.
    Training: Adam with ``lr``, ``betas`` and ``eps``, or AdamW with ``weight_decay``; ``lr`` rises over
    ``warmup_kimg`` and then falls along a cosine to 0 at ``decay_kimg``; an average with ``ema_decay``, less in the
    first steps; the condition is left out for a share ``drop`` of samples. Drawing: ``steps``, ``method``,
    ``guidance``, ``eta``, ``variance``, ``percentile``, all of which can be asked for otherwise.
    """

    resolution: Resolution = 32
    schedule: Kind = "cosine"
    timesteps: Annotated[int, Field(ge=2, le=100_000)] | None = 1000
    predict: Target = "epsilon"
    learned_variance: bool = False
    lr: NonNegativeFloat = 2e-4
    betas: Betas = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    warmup_kimg: NonNegativeFloat = 0.0
    decay_kimg: PositiveFloat | None = None
    ema_decay: Decay = 0.9999
    drop: Share = 0.1
    steps: PositiveInt = 50
    method: Method = "ddim"
    guidance: NonNegativeFloat = 1.0
    eta: Share = 0.0
    variance: Share = 0.0
    percentile: Annotated[float, Field(gt=0, le=100)] | None = None

    @model_validator(mode="after")
    def _has_so_many_steps(self):
        if self.timesteps is not None and self.steps > self.timesteps:
            raise ValueError(f"steps is {self.steps}, and can be no more than timesteps, {self.timesteps}")
        if self.learned_variance and self.timesteps is None:
            raise ValueError("learned_variance needs timesteps: in continuous time there is no first step")
        return self


class UNetOptions(StrategyOptions):
    """The U-Net's: ``width`` channels times each level's of ``multipliers``, ``blocks`` per level, attention at the
    heights in ``attention`` with heads of ``head_width`` channels. A pixel of the first level is ``patch`` x ``patch``
    pixels of the image."""

    width: PositiveInt = 64
    multipliers: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 2)
    blocks: PositiveInt = 2
    attention: tuple[PositiveInt, ...] = (8,)
    head_width: PositiveInt = 64
    patch: PositiveInt = 1

    @model_validator(mode="after")
    def _can_be_halved(self):
        times = self.patch * 2 ** (len(self.multipliers) - 1)
        if any(side % times for side in Size.of(self.resolution)):
            raise ValueError(
                f"resolution is {self.resolution}, and {len(self.multipliers)} multipliers with patch {self.patch} "
                f"need one that {times} divides: change it, or give fewer multipliers"
            )
        return self


def unet(options: UNetOptions, channels: int, outputs: int, context_features: int | None = None) -> UNet:
    """The U-Net that ``options`` describe; see there."""
    return UNet(
        channels,
        outputs,
        options.width,
        options.multipliers,
        options.blocks,
        options.attention,
        Size.of(options.resolution).height,
        options.head_width,
        context_features,
        patch=options.patch,
    )


class Guidance(Figure):
    """Each seed with more and more guidance, from left to right."""

    help = "each seed with more and more guidance"
    varies = ("guidance",)

    class Options(Options):
        seeds: Numbers = Field((0, 1, 2, 3), description="a row each")
        weights: Numbers = Field((0, 1, 2, 4), description="of guidance, a column each")

    def draw(self, inputs_of, draw, given):
        inputs = [inputs_of(seed) for seed in given.seeds]
        columns = [draw([each | {"how_guidance": np.float64(weight)} for each in inputs]) for weight in given.weights]
        images = np.stack(columns, 1).reshape(-1, *columns[0].shape[1:])
        rows = [f"seed {seed}" for seed in given.seeds]
        return Picture(images, len(columns), rows, [f"guidance {weight}" for weight in given.weights])


class Denoising(Strategy):
    """What diffusion models share: noise, times, the loss, and how images are drawn.

    A subclass gives ``networks`` and ``predicted``. The player is ``unet``.
    """

    SampleOptions = SampleOptions

    def __init__(self, options, image, batch_size):
        super().__init__(options, image, batch_size)
        self.noise_schedule = Schedule(options.schedule, options.timesteps)

    def networks(self) -> dict:
        """The player's networks by name."""
        raise NotImplementedError

    def predicted(self, nets, x_t, time, inputs):
        """What the network says of ``x_t`` (n, channels, h, w) at ``time`` (n,), in a graph.

        ``inputs`` is what ``told`` returns, or in drawing one of the two that ``conditions`` returns.
        """
        raise NotImplementedError

    # ── Training

    def players(self, stage):
        options = self.options
        settings = {"betas": options.betas, "eps": options.eps}
        optimizer = nn.Adam(options.lr, **settings)
        if options.weight_decay:
            optimizer = nn.AdamW(options.lr, **settings, weight_decay=options.weight_decay)
        return {"unet": Player(self.networks(), optimizer, ema=Ema(decay=options.ema_decay))}

    def phases(self, stage):
        return [Phase("unet", self.hybrid_loss if self.options.learned_variance else self.loss)]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of what noise is taken away from, an image: channels, height, width."""
        return (self.image.channels, *Size.of(self.options.resolution))

    def draw(self, rng, n, clock):
        times = self.noise_schedule.draw(rng, n)
        alpha, sigma = self.noise_schedule.alpha_sigma(times)
        of_x, of_epsilon = target_weights(self.options.predict, alpha, sigma)
        numbers = {"alpha": alpha, "sigma": sigma, "of_x": of_x, "of_epsilon": of_epsilon}
        learned = self.options.learned_variance
        return {
            "epsilon": rng.standard_normal((n, *self.shape), dtype=np.float32),
            "time": (CLOCK * times).astype(np.float32),
            "keep": (rng.random(n) >= self.options.drop).astype(np.int32),
            **{name: per_sample(values, 4) for name, values in numbers.items()},
            **(bound.coefficients(self.noise_schedule, self.options.predict, times) if learned else {}),
        }

    def clean(self, nets, real):
        """What noise is added to in training, (n, channels, height, width), in a graph."""
        return real["image"]

    def told(self, nets, real, noise):
        """What ``predicted`` takes as ``inputs`` in training, in a graph."""
        return noise

    def loss(self, nets, real, noise):
        x = self.clean(nets, real)
        x_t = noise["alpha"] * x + noise["sigma"] * noise["epsilon"]
        predicted = self.predicted(nets, x_t, noise["time"], self.told(nets, real, noise))
        error = predicted - noise["of_x"] * x - noise["of_epsilon"] * noise["epsilon"]
        return (error * error).mean(), {}

    def hybrid_loss(self, nets, real, noise):
        x = self.clean(nets, real)
        x_t = noise["alpha"] * x + noise["sigma"] * noise["epsilon"]
        output = self.predicted(nets, x_t, noise["time"], self.told(nets, real, noise))
        channels = self.shape[0]
        predicted, raw_variance = output[:, :channels], output[:, channels:]
        error = predicted - noise["of_x"] * x - noise["of_epsilon"] * noise["epsilon"]
        simple = (error * error).mean()
        bits = bound.bound(x, x_t, predicted, raw_variance, noise).mean() * self.options.timesteps
        return simple + BOUND * bits, {"simple": simple, "bits": bits}

    def hyper(self, player, clock):
        options = self.options
        lr, now = options.lr, clock.kimg + self.batch_size / 1000
        if options.warmup_kimg:
            lr *= min(1.0, now / options.warmup_kimg)
        if options.decay_kimg:
            gone = (clock.kimg - options.warmup_kimg) / max(options.decay_kimg - options.warmup_kimg, 1e-9)
            lr *= 0.5 * (1 + math.cos(math.pi * min(max(gone, 0.0), 1.0)))
        # An average that begins at untrained weights would keep them for as long as 1 / (1 - decay) steps.
        return {"lr": lr, "ema_decay": min(options.ema_decay, (1 + clock.step) / (10 + clock.step))}

    # ── Drawing

    @property
    def how(self) -> How:
        """How images are drawn where nothing else is asked for."""
        return How(**{name: getattr(self.options, name) for name in How.__dataclass_fields__})

    def sample_inputs(self, rng, clock, label=None):
        if label is not None:
            return super().sample_inputs(rng, clock, label)
        return {
            "noise": rng.standard_normal((1, *self.shape), dtype=np.float32),
            "seed": rng.integers(2**63, size=1),
            **self.how.as_inputs(),
        }

    def with_options(self, inputs, options):
        return inputs | self.how.changed(options, self.noise_schedule).as_inputs()

    def paths(self):
        return {}

    def predict(self, nets, inputs):
        """One step's graph: ``x_t`` and ``time`` are what changes from step to step."""
        return self.predicted(nets, inputs["x_t"], inputs["time"], inputs)

    def conditions(self, inputs: dict[str, np.ndarray]) -> tuple[dict, dict | None]:
        """What the network is told, and what it is told where the condition is left out; None where it has none."""
        return {}, None

    def sampler(self, graph):
        predict = graph(self.predict)
        return lambda inputs: self.denoised(predict, inputs)

    def denoised(self, predict, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """The images of ``inputs``; ``predict`` is the graph of the method of that name."""
        how = How.of(inputs)
        says = self.saying(predict, inputs, how.guidance)
        schedule, target = self.noise_schedule, self.options.predict
        return denoise(says, inputs["noise"], inputs["seed"], how, schedule, target, self.bounded)

    def saying(self, predict, inputs: dict[str, np.ndarray], guidance: float) -> Predict:
        """What the networks say under the conditions among ``inputs``, with ``guidance``."""
        condition, without = self.conditions(inputs)

        def told(x_t, t, condition):
            time = np.full(len(x_t), CLOCK * t, np.float32)
            return self.parted(predict({"x_t": x_t, "time": time, **condition}))

        def says(x_t, t):
            if without is None or guidance == 1:
                return told(x_t, t, condition)
            if guidance == 0:
                return told(x_t, t, without)
            value, fraction = told(x_t, t, condition)
            return guided(value, told(x_t, t, without)[0], guidance), fraction

        return says

    @property
    def outputs(self) -> int:
        """Channels that a network gives: twice as many where it says how large the noise is, too."""
        return self.image.channels * (2 if self.options.learned_variance else 1)

    def parted(self, output: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """What a network gives: its prediction, and the fraction of log β in the variance that it has learned."""
        if not self.options.learned_variance:
            return output, None
        channels = self.shape[0]
        return output[:, :channels], 0.5 * (output[:, channels:] + 1)

    def bounded(self, x0: np.ndarray, percentile: float | None) -> np.ndarray:
        """Estimates of images, brought into [−1, 1]."""
        return thresholded(x0, percentile)


class Diffusion(Denoising):
    """Diffusion of images (arXiv:2006.11239), unconditional or by class (arXiv:2105.05233).

    Where the data have classes, the U-Net is told them (``conditional: false`` keeps it from that), and guidance
    without a classifier (arXiv:2207.12598) leans on them.
    """

    class Options(DenoisingOptions, UNetOptions):
        conditional: bool = True

    def __init__(self, options, image, batch_size):
        super().__init__(options, image, batch_size)
        self.classes = image.classes if options.conditional else 0

    def networks(self):
        options = self.options
        # One row more, for a class that is left out.
        labels = {"labels": nn.Embedding(self.classes + 1, 4 * options.width)} if self.classes else {}
        return {"unet": unet(options, self.image.channels, self.outputs), **labels}

    def predicted(self, nets, x_t, time, inputs):
        if not self.classes:
            return nets.unet(x_t, time)
        keep = inputs["keep"]
        label = inputs["label"] * keep + self.classes * (1 - keep)
        return nets.unet(x_t, time, nets.labels(label))

    def told(self, nets, real, noise):
        return {"label": real["label"], "keep": noise["keep"]} if self.classes else noise

    def sample_inputs(self, rng, clock, label=None):
        if not self.classes:
            return super().sample_inputs(rng, clock, label)
        if label is not None and not 0 <= label < self.classes:
            raise ConfigError(f"there is no class {label}: the data have classes 0 to {self.classes - 1}")
        inputs, drawn = super().sample_inputs(rng, clock), rng.integers(self.classes, size=1, dtype=np.int32)
        return inputs | {"label": drawn if label is None else np.int32([label])}

    def figures(self):
        return {"guidance": Guidance()} if self.classes else {}

    def conditions(self, inputs):
        if not self.classes:
            return super().conditions(inputs)
        condition = {"label": inputs["label"], "keep": np.ones_like(inputs["label"])}
        return condition, condition | {"keep": np.zeros_like(inputs["label"])}
