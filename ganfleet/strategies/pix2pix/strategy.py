"""What both have in common, and pix2pix (arXiv:1611.07004): a cross-entropy game on pairs, and L1 to the true image."""

import math
from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
from mindspore import nn as ms_nn
from mindspore import ops
from pydantic import Field, NonNegativeFloat, PositiveInt

from ganfleet import nn
from ganfleet.errors import ConfigError
from ganfleet.size import Size
from ganfleet.strategies.base import Frozen, Phase, Player
from ganfleet.strategies.between_images import BetweenImages
from ganfleet.strategies.cyclegan.networks import ResNetGenerator
from ganfleet.strategies.pix2pix import perceptual
from ganfleet.strategies.pix2pix.networks import (
    DEEPEST,
    Discriminators,
    UNetGenerator,
    dropped,
    masks,
    still_masks,
)
from ganfleet.strategies.translation import Translation

LAYERS = 3  # of stride 2, where patches have 70×70 pixels


class PairTranslation(BetweenImages):
    """Base of GANs that learn from pairs what an image of A looks like in B. D sees A beside B, true or made.

    G's loss is the game's, and ``l1`` · E |b − G(a)|, ``feature_matching`` times how far D's features of the two pairs
    are apart, and ``perceptual_weight`` times how far those of a frozen network are.
    """

    class Options(BetweenImages.Options):
        """``layers`` of D have stride 2; None for three, or as many as small images allow.

        ``perceptual`` names the frozen network: ``lite0``, or a file with the weights of VGG19 or VGG16.
        """

        layers: PositiveInt | None = None
        l1: NonNegativeFloat = 0.0
        feature_matching: NonNegativeFloat = 0.0
        perceptual: str | None = Field(None, min_length=1)
        perceptual_weight: NonNegativeFloat = 10.0

    judges: ClassVar[dict[str, tuple[str, ...]]] = {"D": ("real", "fake")}
    reads_pairs = True
    divisor: int
    """Both sides of an image that G takes are multiples of this;"""
    smallest: int
    """and no less than this."""

    @abstractmethod
    def generator(self) -> ms_nn.Cell:
        """G."""

    @abstractmethod
    def discriminators(self) -> Discriminators:
        """D."""

    @abstractmethod
    def adversarial(self, fake):
        """What G minimises in the game; ``fake`` is what D's scales, and in these their layers, give for made pairs."""

    @abstractmethod
    def judgement(self, real, fake):
        """What D minimises."""

    def check(self, stage, lane_size):
        super().check(stage, lane_size)
        if any(side % self.divisor or side < self.smallest for side in Size.of(stage.resolution)):
            raise ConfigError(
                f"strategy.resolution is {stage.resolution}, and this G needs multiples of {self.divisor}, "
                f"{self.smallest} or more: choose such a size, or a G that halves it less often"
            )

    def players(self, stage):
        options = self.options
        nets = {"G": self.generator(), "D": self.discriminators()}
        return {name: Player(net, nn.Adam(options.lr, options.betas)) for name, net in nets.items()}

    def frozen(self, stage):
        named = self.options.perceptual if self.options.perceptual_weight and self.trains else None
        return {"F": Frozen(perceptual.network(named))} if named else {}

    def made(self, nets, image, noise):
        """What G makes of ``image`` in training."""
        return nets.G(image)

    def pair(self, image, other, settings):
        """(n, 2·channels, h, w) for D, both images augmented alike."""
        if self.augment is not None:
            image, other = self.augment(image, settings), self.augment(other, settings)
        return ops.concat((image, other), 1)

    def g_loss(self, nets, real, noise):
        options, a, b = self.options, real["image_a"], real["image_b"]
        fake = self.made(nets, a, noise)
        settings = self.settings(nets, noise, "D/fake")
        of_fake = nets.D(self.pair(a, fake, settings))
        loss = self.adversarial(of_fake)
        stats = {"adversarial": loss}
        if options.l1:
            stats["l1"] = nn.mean(ops.abs(fake - b))
            loss = loss + options.l1 * stats["l1"]
        if options.feature_matching:
            # The same augmentation for both: features are compared pixel by pixel.
            stats["feature_matching"] = matching(of_fake, nets.D(self.pair(a, b, settings)))
            loss = loss + options.feature_matching * stats["feature_matching"]
        if options.perceptual is not None and options.perceptual_weight:
            stats["perceptual"] = perceptual.distance(nets.F.maps(fake), nets.F.maps(b))
            loss = loss + options.perceptual_weight * stats["perceptual"]
        return loss, stats, {"fake": fake}

    def judged(self, nets, real, noise, fake):
        """D's loss, where ``fake`` is what G made of the images of A."""
        a, b = real["image_a"], real["image_b"]
        of_real = nets.D(self.pair(a, b, self.settings(nets, noise, "D/real")))
        of_fake = nets.D(self.pair(a, fake, self.settings(nets, noise, "D/fake")))
        stats = {"scores/real": nn.mean(of_real[0][-1]), "scores/fake": nn.mean(of_fake[0][-1])}
        return self.judgement(of_real, of_fake), self.adapted(nets, of_real[0][-1], stats)

    def sample(self, nets, noise):
        """Strips A | G(A) | B, (n, channels, h, 3w), of ``image_a`` and ``image_b``."""
        a, b = noise["image_a"], noise["image_b"]
        return ops.concat((a, nets.G(a), b), 3)

    def translations(self):
        return {"A2B": Translation(self.a_to_b, self.divisor, self.smallest, reads="image_a")}

    def a_to_b(self, nets, inputs):
        return nets.G(inputs["image_a"])


def matching(fake, real):
    """E |Dᵢ(a, b) − Dᵢ(a, G(a))|, summed over the layers but the last, times 4 / their number, and its mean over
    scales (arXiv:1711.11585, eq. 4, with the weights of the authors' code).
    """
    total = 0.0
    for scale in range(len(fake)):
        layers = len(fake[scale]) - 1
        for i in range(layers):
            total = total + nn.mean(ops.abs(fake[scale][i] - real[scale][i])) * (4 / layers / len(fake))
    return total


class Pix2Pix(PairTranslation):
    """pix2pix (arXiv:1611.07004): translates images of A to B, learned from pairs.

    It learns from ``image_a`` and ``image_b``, which show one thing. D is updated first.
    """

    class Options(PairTranslation.Options):
        """``generator: unet`` halves images ``depth`` times; None for as often as that can be, up to eight times.

        ``dropout`` is the share of values that it leaves out in inner layers, with ``test_dropout`` in translations
        too. ``generator: resnet`` is CycleGAN's, which halves images ``downs`` times, once for small ones, and has
        ``blocks``; None for nine at 256 pixels and more, six below. ``residual`` has it make what is to be added to
        the image, for two kinds of image that differ little.
        """

        generator: Literal["unet", "resnet"] = "unet"
        depth: int | None = Field(None, ge=3)
        dropout: float = Field(0.5, ge=0, lt=1)
        test_dropout: bool = True
        downs: PositiveInt = 2
        blocks: PositiveInt | None = None
        residual: bool = False
        l1: NonNegativeFloat = 100.0
        lr_constant_kimg: NonNegativeFloat = 40.0
        lr_decay_kimg: float = Field(40.0, gt=0)

        def without_effect(self):
            of_unet, of_resnet = {"depth", "dropout", "test_dropout"}, {"downs", "blocks", "residual"}
            unread = of_resnet if self.generator == "unet" else of_unet
            return unread | (set() if self.perceptual else {"perceptual_weight"})

    def __init__(self, options, image, batch_size):
        super().__init__(options, image, batch_size)
        self.depth = options.depth or halvings(Size.of(options.resolution))
        is_unet = options.generator == "unet"
        self.divisor = 2 ** (self.depth if is_unet else options.downs)
        self.smallest = self.divisor if is_unet else 2 * self.divisor
        shapes = dropped(options.ngf, self.depth, Size.of(options.resolution)) if self.depth >= 3 else []
        self.shapes = shapes if is_unet and options.dropout else []
        self.mask_names = tuple(f"dropout{i}" for i in range(len(self.shapes)))

    def check(self, stage, lane_size):
        if self.options.generator == "unet" and self.depth < 3:
            raise ConfigError(
                f"strategy.resolution is {stage.resolution}, which a U-Net cannot halve three times: use multiples of "
                "8, or strategy.generator: resnet"
            )
        super().check(stage, lane_size)
        most = patch_layers(Size.of(stage.resolution))
        if (self.options.layers or 1) > most:
            raise ConfigError(
                f"strategy.resolution is {stage.resolution}, and so small images are used up after {most} layers of "
                f"D: lower strategy.layers to {most} or less"
                if most
                else f"strategy.resolution is {stage.resolution}, too small for D: use 8 pixels or more"
            )

    def generator(self):
        options, channels = self.options, self.image.channels
        if options.generator == "resnet":
            blocks = options.blocks or blocks_at(options.resolution)
            return ResNetGenerator(channels, options.ngf, blocks, options.downs, options.residual)
        still = still_masks(options.dropout, self.shapes) if options.test_dropout else []
        return UNetGenerator(channels, options.ngf, self.depth, still)

    def discriminators(self):
        options = self.options
        layers = options.layers or min(LAYERS, patch_layers(Size.of(options.resolution)))
        return Discriminators(1, 2 * self.image.channels, options.ndf, layers, padding=1, by_image=False)

    def phases(self, stage):
        return [Phase("D", self.d_loss), Phase("G", self.g_loss)]

    def draw(self, rng, n, clock):
        drawn = masks(rng, self.options.dropout, [(n, *shape) for shape in self.shapes])
        return dict(zip(self.mask_names, drawn, strict=True))

    def made(self, nets, image, noise):
        if self.options.generator == "resnet":
            return nets.G(image)
        given = ()
        for name in self.mask_names:
            given = (*given, noise[name])
        return nets.G(image, given)

    def a_to_b(self, nets, inputs):
        made = nets.G(inputs["image_a"])
        return ops.minimum(ops.maximum(made, -1.0), 1.0) if self.options.residual else made  # as ONNX has it

    def d_loss(self, nets, real, noise):
        return self.judged(nets, real, noise, self.made(nets, real["image_a"], noise))

    def adversarial(self, fake):
        return nn.nonsaturating_generator_loss(fake[0][-1])

    def judgement(self, real, fake):
        """Half of the sum, so that D learns more slowly than G (section 3.3)."""
        return 0.5 * nn.discriminator_loss(real[0][-1], fake[0][-1])


def halvings(size: Size) -> int:
    """How often both sides can be halved, up to eight times."""
    common = math.gcd(*size)
    return min(DEEPEST, (common & -common).bit_length() - 1)


def patch_layers(size: Size) -> int:
    """How many layers of stride 2 leave D a patch or more."""
    return max(0, int(np.log2(min(size) / 3)))


def blocks_at(resolution) -> int:
    """Nine residual blocks where the shorter side has 256 pixels or more, and six below."""
    return 9 if min(Size.of(resolution)) >= 256 else 6
