"""StyleGAN (arXiv:1812.04948) and, as ``variant: progan``, Progressive GAN (arXiv:1710.10196): grown by the clock."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from mindspore import ops
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ganfleet import nn, rng
from ganfleet.errors import ConfigError
from ganfleet.nn import forms
from ganfleet.size import Resolution, Size
from ganfleet.strategies.base import Decay, Ema, Phase, Player, Stage
from ganfleet.strategies.doubling import doublings, needed
from ganfleet.strategies.export import Export
from ganfleet.strategies.figure import Interpolate
from ganfleet.strategies.image_gan import ImageGAN
from ganfleet.strategies.path import LatentPath
from ganfleet.strategies.stylegan.figures import Mix, Noise, StyleOptions
from ganfleet.strategies.stylegan.networks import Discriminator, Generator, ProGenerator, height_of
from ganfleet.strategies.stylegan.original import imported

BETAS = (0.0, 0.99)
LEARNING_RATES = {128: 1.5e-3, 256: 2e-3, 512: 3e-3, 1024: 3e-3}  # elsewhere, ``lr``
LARGEST = 1024


@dataclass(frozen=True)
class Growth(Stage):
    """A stage at one resolution, in which its new layers fade in or stand alone."""

    fades: bool = False


class StyleGAN(ImageGAN):
    """StyleGAN (arXiv:1812.04948), and with variant: progan Progressive GAN (arXiv:1710.10196), grown by the clock.

    Both networks grow from ``start_resolution`` by doubling: new layers fade in over ``fade_kimg``, then train alone
    for ``stable_kimg``. Batch size and learning rate change where a fade begins; optimizers start afresh where it
    begins and where it ends.
    """

    SampleOptions = StyleOptions

    class Options(ImageGAN.Options):
        variant: Literal["stylegan", "progan"] = "stylegan"
        resolution: Resolution = 64

        # Growth. What is None takes the value of the variant's paper. Resolutions are told by their heights.
        start_resolution: PositiveInt | None = None
        stable_kimg: PositiveFloat = 600
        fade_kimg: NonNegativeFloat = 600
        batch_sizes: dict[int, PositiveInt] = Field(default_factory=dict)  # by resolution; elsewhere train.batch_size
        lr: NonNegativeFloat = 1e-3
        lrs: dict[int, NonNegativeFloat] = Field(
            default_factory=lambda: dict(LEARNING_RATES)
        )  # by resolution; elsewhere lr

        # Networks
        latent: PositiveInt = 512
        mapping_layers: PositiveInt = 8
        mapping_lr: PositiveFloat = 0.01  # relative to that of the other layers
        fmap_base: PositiveInt = 8192
        fmap_max: PositiveInt = 512
        mbstd_group: PositiveInt = 4
        conditional: bool = False  # on the classes of the data

        # Losses
        loss: Literal["logistic", "wgan_gp"] | None = None
        r1_gamma: NonNegativeFloat = 10.0
        r1_every: PositiveInt = 1
        gp_weight: NonNegativeFloat = 10.0
        drift: NonNegativeFloat = 1e-3
        n_critic: PositiveInt = 1

        style_mixing: float = Field(0.9, ge=0, le=1)
        noise: NonNegativeFloat = 1.0  # its standard deviation, before the learned strengths
        w_avg_beta: Decay = 0.995
        ema_kimg: NonNegativeFloat | None = None  # half-life
        ema_decay: Decay | None = None  # per step
        mirror: bool = False  # half of the real images, left to right

        @model_validator(mode="after")
        def _complete(self):
            pro = self.variant == "progan"
            wanted = needed(self.resolution, times=0, most=LARGEST)
            if wanted:
                raise ValueError(f"resolution is {self.resolution}, but it must be {wanted}")
            heights = [Size.of(each).height for each in doublings(self.resolution)]
            if self.start_resolution is None:
                self.start_resolution = heights[0] * (1 if pro else 2)
            if self.start_resolution > heights[-1]:
                raise ValueError(f"start_resolution {self.start_resolution} is above resolution {self.resolution}")
            if self.start_resolution not in heights:
                raise ValueError(
                    f"start_resolution is {self.start_resolution}, but it must be one of {', '.join(map(str, heights))}"
                )
            self.loss = self.loss or ("wgan_gp" if pro else "logistic")
            if self.ema_kimg is not None and self.ema_decay is not None:
                raise ValueError("ema_kimg and ema_decay are both set: leave one out")
            if self.ema_kimg is None and self.ema_decay is None:
                self.ema_kimg, self.ema_decay = (None, 0.999) if pro else (10.0, None)
            return self

        def without_effect(self):
            of_style = {"mapping_layers", "mapping_lr", "w_avg_beta", "style_mixing", "noise"}
            of_loss = {"gp_weight", "drift"} if self.loss == "logistic" else {"r1_gamma", "r1_every"}
            return of_loss if self.variant == "stylegan" else of_style | of_loss

    def __init__(self, options, image, batch_size):
        super().__init__(options, image, batch_size)
        if options.conditional and not image.classes:
            raise ConfigError(
                "strategy.conditional is true, but the data have no classes: set data.classes or data.labels"
            )
        self.classes = image.classes if options.conditional else 0

    @property
    def scores_have_signs(self) -> bool:
        return self.options.loss == "logistic"

    # ── Growth

    def schedule(self):
        """The stages of arXiv:1812.04948's lod schedule, in images, whatever the length of the run."""
        options, stages = self.options, []
        stable, fade = round(options.stable_kimg * 1000), round(options.fade_kimg * 1000)
        grown = [each for each in doublings(options.resolution) if Size.of(each).height >= options.start_resolution]
        start = 0
        stages.append(self._growth(grown[0], start, fades=False))
        for resolution in grown[1:]:
            start += stable
            if fade:
                # At the very image the fade begins with, the schedule's lod is still whole and the old stage in force.
                stages.append(self._growth(resolution, start + 1, fades=True))
            start += fade
            stages.append(self._growth(resolution, start, fades=False))
        return stages

    def _growth(self, resolution, starts_at, fades):
        batch_size = self.options.batch_sizes.get(Size.of(resolution).height, self.batch_size)
        return Growth(resolution, batch_size, starts_at, f"{resolution}-fade" if fades else f"{resolution}", fades)

    def schedule_values(self, clock):
        return {"fade_in": self.fade_in(clock)}

    def fade_in(self, clock) -> float:
        """The weight of the newest layers, from 0 where a fade begins to 1 where it ends, and 1 outside of fades."""
        stage = self.stage(clock)
        return (clock.nimg - (stage.starts_at - 1)) / (self.options.fade_kimg * 1000) if stage.fades else 1.0

    def hyper(self, player, clock):
        lr = self.options.lrs.get(Size.of(self.stage(clock).resolution).height, self.options.lr)
        return {"lr": lr * lazy_share(self.lazy if player == "D" else 1)}

    def check(self, stage, lane_size):
        super().check(stage, lane_size)
        group = self.options.mbstd_group
        if lane_size % group:
            raise ConfigError(
                f"stage {stage.name!r} leaves {lane_size} samples to a lane, which strategy.mbstd_group {group} does "
                "not divide: use fewer lanes, larger batches or a smaller group"
            )

    # ── Networks

    def players(self, stage):
        options, channels = self.options, self.image.channels
        maps = {"base": options.fmap_base, "maximum": options.fmap_max}
        common = (stage.resolution, channels, stage.fades)
        styled = options.variant == "stylegan"
        if styled:
            mapping = {"mapping_layers": options.mapping_layers, "mapping_lr": options.mapping_lr}
            mapping["w_avg_beta"] = options.w_avg_beta
            g = Generator(*common, latent=options.latent, classes=self.classes, **mapping, **maps)
        else:
            g = ProGenerator(*common, latent=options.latent, classes=self.classes, **maps)
        d = Discriminator(*common, group=options.mbstd_group, classes=self.classes, blur=styled, **maps)
        ema = Ema(decay=options.ema_decay, half_life_kimg=options.ema_kimg)
        return {"G": Player(g, self._adam(), ema=ema), "D": Player(d, self._adam(self.lazy))}

    def _adam(self, lazy: int = 1) -> nn.Adam:
        """The papers' Adam, corrected for a player that has another phase on every ``lazy``-th step."""
        share = lazy_share(lazy)
        return nn.Adam(lr=self.options.lr * share, betas=tuple(beta**share if beta else beta for beta in BETAS))

    @property
    def lazy(self) -> int:
        """R1 is computed on every how many-th step."""
        return self.options.r1_every if self.options.loss == "logistic" else 1

    def works_at(self, name, stage):
        return height_of(name, stage.resolution)

    @classmethod
    def imported(cls, files):
        return imported(files)

    # ── Phases and losses

    def phases(self, stage):
        d_loss, g_loss = {
            "logistic": (self.logistic_d_loss, self.logistic_g_loss),
            "wgan_gp": (self.wgan_gp_d_loss, self.wgan_g_loss),
        }[self.options.loss]
        phases = [Phase("D", d_loss), Phase("G", g_loss, every=self.options.n_critic)]
        if self.lazy > 1:
            phases.insert(1, Phase("D", self.lazy_r1, every=self.lazy, name="D_r1"))
        return phases

    def logistic_d_loss(self, nets, real, noise):
        """E softplus(D(fake)) + E softplus(−D(real)), and γ/2 · R1 (arXiv:1801.04406) unless that has its own phase."""
        image, fake, conditions = self._judged(nets, real, noise)
        if self.lazy > 1:
            image = self.augmented(nets, image, noise, "D/real")
            real_logit, fake_logit = self._scores(nets.D, image, fake, conditions)
            loss = nn.discriminator_loss(real_logit, fake_logit)
            stats = {"scores/real": nn.mean(real_logit), "scores/fake": nn.mean(fake_logit)}
            return loss, self.adapted(nets, real_logit, stats)
        fake_logit = nets.D(fake, *conditions)
        settings = self.settings(nets, noise, "D/real")
        real_logit, penalty = nn.scored_r1(nets.D, image, conditions, self.augment, settings)
        loss = nn.discriminator_loss(real_logit, fake_logit) + self.options.r1_gamma / 2 * penalty
        stats = {"scores/real": nn.mean(real_logit), "scores/fake": nn.mean(fake_logit), "r1": penalty}
        return loss, self.adapted(nets, real_logit, stats)

    def lazy_r1(self, nets, real, noise):
        """R1 on every ``lazy``-th step, with the weight of as many (arXiv:1912.04958, B)."""
        image, conditions = self._shown(real, noise), (noise["alpha"], self._label(real))
        penalty = nn.r1(nets.D, image, conditions, self.augment, self.settings(nets, noise, "D/real"))
        return self.options.r1_gamma / 2 * self.lazy * penalty, {"r1": penalty}

    def wgan_gp_d_loss(self, nets, real, noise):
        """E D(fake) − E D(real), the gradient penalty, and E D(real)² so that scores do not drift."""
        image, fake, conditions = self._judged(nets, real, noise)
        image = self.augmented(nets, image, noise, "D/real")
        real_score, fake_score = self._scores(nets.D, image, fake, conditions)
        penalty = nn.gradient_penalty(nets.D, image, fake, noise["u"], conditions)
        drift = nn.mean(real_score * real_score)
        loss = nn.mean(fake_score) - nn.mean(real_score) + self.options.gp_weight * penalty + self.options.drift * drift
        stats = {"scores/real": nn.mean(real_score), "scores/fake": nn.mean(fake_score), "gradient_penalty": penalty}
        return loss, stats

    def _judged(self, nets, real, noise):
        """The images D's losses are about, real ones before augmentation and generated ones after it, and what else D
        takes.
        """
        label = self._label(real)
        fake = self.augmented(nets, ops.stop_gradient(self._generate(nets, noise, label)), noise, "D/fake")
        return self._shown(real, noise), fake, (noise["alpha"], label)

    def _scores(self, d, image, fake, conditions):
        """D's scores of real and of generated images, (n,) each."""
        if not forms.joins_batches():
            return d(image, *conditions), d(fake, *conditions)
        (alpha, label), group = conditions, self.options.mbstd_group
        both = None if label is None else nn.joined(label, label, group)
        return nn.parted(d(nn.joined(image, fake, group), alpha, both), group)

    def logistic_g_loss(self, nets, real, noise):
        """E softplus(−D(fake))."""
        label = self._label(real)
        fake = self.augmented(nets, self._generate(nets, noise, label, record=True), noise, "D/fake")
        return nn.nonsaturating_generator_loss(nets.D(fake, noise["alpha"], label)), {}

    def wgan_g_loss(self, nets, real, noise):
        """−E D(fake)."""
        label = self._label(real)
        fake = self.augmented(nets, self._generate(nets, noise, label, record=True), noise, "D/fake")
        return -nn.mean(nets.D(fake, noise["alpha"], label)), {}

    def _label(self, real):
        return real["label"] if self.classes else None

    def _shown(self, real, noise):
        """Real images as D gets them: some mirrored, and in a fade blended with themselves at half the resolution."""
        image = real["image"]
        if self.options.mirror:
            image = image + (image[:, :, :, ::-1] - image) * noise["mirror"]
        coarse = nn.upsample(nn.downsample(image))
        return coarse + (image - coarse) * noise["alpha"]

    def _generate(self, nets, noise, label, record=False):
        """Fakes; G's phase also records their mean w, which moves the centre of truncation."""
        if self.options.variant == "progan":
            return nets.G(noise["z"], noise["alpha"], label)
        w = nets.G.mapping(noise["z"], label)
        if record:
            nets.G.w_avg.add(nn.mean(w, 0))
        styles = repeated(w, nets.G.layers)
        if self.options.style_mixing:
            other = repeated(nets.G.mapping(noise["z_mixed"], label), nets.G.layers)
            styles = ops.where(ops.arange(nets.G.layers).reshape(1, -1, 1) < noise["cutoff"], styles, other)
        return nets.G.synthesis(styles, noise, noise["alpha"])

    def draw(self, rng, n, clock):
        options, stage = self.options, self.stage(clock)
        drawn = {"z": latents(rng, n, options.latent), "alpha": np.float32(self.fade_in(clock))}
        if options.variant == "stylegan":
            layers = layers_at(stage.resolution)
            if options.style_mixing:
                drawn["z_mixed"] = latents(rng, n, options.latent)
                mixed, cutoff = rng.random() < options.style_mixing, rng.integers(1, layers)
                drawn["cutoff"] = np.int32(cutoff if mixed else layers)
            drawn |= self._noise(rng, n, stage.resolution)
        if options.loss == "wgan_gp":
            drawn["u"] = rng.random((n, 1, 1, 1), dtype=np.float32)
        if options.mirror:
            drawn["mirror"] = rng.integers(0, 2, (n, 1, 1, 1)).astype(np.float32)
        return drawn

    def _noise(self, rng, n: int, resolution: int | Size) -> dict[str, np.ndarray]:
        """One value per pixel of each layer, N(0, noise²)."""
        sizes = [Size.of(each) for each in doublings(resolution) for _ in range(2)]
        scale = np.float32(self.options.noise)
        return {
            f"noise{i}": scale * rng.standard_normal((n, 1, *size), dtype=np.float32) for i, size in enumerate(sizes)
        }

    # ── Sampling

    def sample_inputs(self, rng, clock, label=None):
        """``psi`` and ``mixed`` say for each layer how far w is truncated, and whether it comes from ``z_mixed``."""
        options = self.options
        inputs = {"z": latents(rng, 1, options.latent), "alpha": np.float32(self.fade_in(clock))}
        if options.variant == "stylegan":
            resolution = self.stage(clock).resolution
            layers = layers_at(resolution)
            inputs |= {"z_mixed": inputs["z"]} | self._noise(rng, 1, resolution)
            inputs |= {"mixed": np.zeros((1, layers), np.float32), "psi": np.ones((1, layers), np.float32)}
        if self.classes:
            label = rng.integers(self.classes) if label is None else label
            if label >= self.classes:
                raise ConfigError(f"there is no class {label}: there are the classes 0-{self.classes - 1}")
            inputs["label"] = np.array([label], np.int32)
        elif label is not None:
            raise ConfigError("this model was trained without classes (strategy.conditional): leave classes out")
        return inputs

    def sample(self, nets, noise):
        label = noise["label"] if self.classes else None
        if self.options.variant == "progan":
            return nets.G(noise["z"], noise["alpha"], label)
        own, other = nets.G.mapping(noise["z"], label), nets.G.mapping(noise["z_mixed"], label)
        styles = blended(repeated(own, nets.G.layers), repeated(other, nets.G.layers), noise["mixed"])
        return self._styled(nets, noise, styles)

    def sample_in_w(self, nets, noise):
        """The image at the part ``t`` (n, 1) of the straight way in w from ``z`` to ``z_end``."""
        label = noise["label"] if self.classes else None
        first, last = nets.G.mapping(noise["z"], label), nets.G.mapping(noise["z_end"], label)
        return self._styled(nets, noise, repeated(first + (last - first) * noise["t"], nets.G.layers))

    def sample_of_one(self, nets, noise):
        """``sample`` without style mixing."""
        own = nets.G.mapping(noise["z"], noise["label"] if self.classes else None)
        return self._styled(nets, noise, repeated(own, nets.G.layers))

    def _styled(self, nets, noise, styles):
        """Images of ``styles`` (n, layers, latent), truncated as ``psi`` says."""
        centre = ops.broadcast_to(nets.G.w_avg.value.reshape(1, 1, -1), styles.shape)
        styles = blended(centre, styles, noise["psi"])
        return nets.G.synthesis(styles, noise, noise["alpha"])

    def exports(self, clock):
        if self.options.variant == "progan":
            return super().exports(clock)
        inputs = self.sample_inputs(rng.stream(0, "export"), clock)
        del inputs["z_mixed"], inputs["mixed"]
        return {"G": Export(self.sample_of_one, inputs)}

    def with_options(self, inputs, options):
        return options.applied(inputs)

    def paths(self):
        return super().paths() if self.options.variant == "progan" else {"w": LatentPath(to_w, self.sample_in_w)}

    def figures(self):
        if self.options.variant == "progan":
            return {"interpolate": Interpolate()}
        return {"mix": Mix(), "noise": Noise(), "interpolate": Interpolate(("z", "z_mixed"))}


def lazy_share(lazy: int) -> float:
    """By how much a player learns slower that has another phase on every ``lazy``-th step (arXiv:1912.04958, B)."""
    return lazy / (lazy + 1) if lazy > 1 else 1.0


def to_w(first, second, t):
    """The inputs of ``sample_in_w``; everything but w is that of the ``first`` image."""
    return first | {"z_end": second["z"], "t": np.full((1, 1), t, np.float32)}


def layers_at(resolution: int | Size) -> int:
    """Two for the start and two for every doubling."""
    return 2 * len(doublings(resolution))


def latents(rng, n: int, size: int) -> np.ndarray:
    return rng.standard_normal((n, size), dtype=np.float32)


def repeated(w, layers):
    """(n, latent) → (n, layers, latent)."""
    return ops.broadcast_to(w.reshape(w.shape[0], 1, -1), (w.shape[0], layers, w.shape[1]))


def blended(a, b, share):
    """``a`` with ``share`` (n, layers) of ``b``; both (n, layers, latent)."""
    return a + (b - a) * share.reshape(share.shape[0], share.shape[1], 1)
