"""pix2pixHD (arXiv:1711.11585): residual generators, several Ds, least squares, and losses between features."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from ganfleet.strategies.base import Phase
from ganfleet.strategies.between_images import least_squares
from ganfleet.strategies.cyclegan.networks import ResNetGenerator
from ganfleet.strategies.pix2pix.networks import Discriminators, EnhancedGenerator
from ganfleet.strategies.pix2pix.strategy import LAYERS, PairTranslation


class Pix2PixHD(PairTranslation):
    """pix2pixHD (arXiv:1711.11585): translates large images of A to B, learned from pairs.

    It learns from ``image_a`` and ``image_b``, which show one thing. G is updated first; the Ds then see the same
    images.
    """

    class Options(PairTranslation.Options):
        """``generator: global`` halves images ``downs`` times and has ``blocks``; ``ngf`` None is 64.

        ``local`` adds an enhancer with ``local_blocks`` to such a one, which works at half the size; ``ngf`` None is
        32, and the global one has twice as many. ``scales`` are Ds, each at half the size of the one before.
        """

        ngf: PositiveInt | None = None
        generator: Literal["global", "local"] = "global"
        downs: PositiveInt = 4
        blocks: PositiveInt = 9
        local_blocks: PositiveInt = 3
        scales: PositiveInt = 2
        feature_matching: NonNegativeFloat = 10.0
        perceptual: str | None = Field("lite0", min_length=1)

        def without_effect(self):
            unread = {"local_blocks"} if self.generator == "global" else set()
            return unread | (set() if self.perceptual else {"perceptual_weight"})

    scores_have_signs = False

    def __init__(self, options, image, batch_size):
        super().__init__(options, image, batch_size)
        self.divisor = 2 ** (options.downs + (options.generator == "local"))
        self.smallest = 2 * self.divisor

    def generator(self):
        options, channels = self.options, self.image.channels
        if options.generator == "local":
            return EnhancedGenerator(channels, options.ngf or 32, options.blocks, options.downs, options.local_blocks)
        return ResNetGenerator(channels, options.ngf or 64, options.blocks, options.downs)

    def discriminators(self):
        options = self.options
        channels, layers = 2 * self.image.channels, options.layers or LAYERS
        return Discriminators(options.scales, channels, options.ndf, layers, padding=2, by_image=True)

    def phases(self, stage):
        return [Phase("G", self.g_loss), Phase("D", self.d_loss, prepare=self.from_g, on_device=True)]

    def from_g(self, rng, kept, memory):
        return kept

    def d_loss(self, nets, real, noise):
        return self.judged(nets, real, noise, noise["fake"])

    def adversarial(self, fake):
        total = 0.0
        for given in fake:
            total = total + least_squares(given[-1], 1.0)
        return total

    def judgement(self, real, fake):
        """Half of the sum over Ds, as in the authors' code."""
        total = 0.0
        for scale in range(len(real)):
            total = total + least_squares(real[scale][-1], 1.0) + least_squares(fake[scale][-1], 0.0)
        return 0.5 * total
