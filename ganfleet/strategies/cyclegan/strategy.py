"""CycleGAN's losses and schedule: least squares, cycles, identity; both generators are one player, as are both Ds."""

from typing import ClassVar

from mindspore import ops
from pydantic import NonNegativeFloat, PositiveInt, field_validator

from ganfleet import nn
from ganfleet.size import Size
from ganfleet.strategies.base import Phase, Player
from ganfleet.strategies.between_images import BetweenImages, least_squares
from ganfleet.strategies.cyclegan.networks import DOWNSCALE, SMALLEST, PatchDiscriminator, ResNetGenerator
from ganfleet.strategies.cyclegan.original import imported
from ganfleet.strategies.cyclegan.pool import exchange
from ganfleet.strategies.translation import Translation


class CycleGAN(BetweenImages):
    """CycleGAN (arXiv:1703.10593): translates images of a domain A to a domain B and back, learned without pairs.

    It learns from ``image_a`` and ``image_b``.

    The generators G_AB and G_BA are updated first. The discriminators D_A and D_B then see the same fakes, or earlier
    ones of the lane's pools.
    """

    class Options(BetweenImages.Options):
        """``cycle_a`` and ``cycle_b`` weigh the cycles that start in A and in B; ``identity`` is relative to these."""

        blocks: PositiveInt | None = None
        cycle_a: NonNegativeFloat = 10.0
        cycle_b: NonNegativeFloat = 10.0
        identity: NonNegativeFloat = 0.5
        pool: PositiveInt = 50

        @field_validator("resolution")
        @classmethod
        def _fits_both_networks(cls, resolution):
            if any(side < 24 or side % DOWNSCALE for side in Size.of(resolution)):
                raise ValueError(f"must be a multiple of {DOWNSCALE}, 24 or more")
            return resolution

    judges: ClassVar[dict[str, tuple[str, ...]]] = {"D_A": ("real", "fake"), "D_B": ("real", "fake")}
    scores_have_signs = False

    def players(self, stage):
        options, channels = self.options, self.image.channels
        blocks = options.blocks or (9 if min(Size.of(options.resolution)) >= 256 else 6)
        generators = {name: ResNetGenerator(channels, options.ngf, blocks) for name in ("G_AB", "G_BA")}
        discriminators = {name: PatchDiscriminator(channels, options.ndf) for name in ("D_A", "D_B")}
        return {
            "G": Player(generators, nn.Adam(options.lr, options.betas)),
            "D": Player(discriminators, nn.Adam(options.lr, options.betas)),
        }

    def phases(self, stage):
        return [Phase("G", self.g_loss), Phase("D", self.d_loss, prepare=self.from_pools, on_device=True)]

    def g_loss(self, nets, real, noise):
        options, a, b = self.options, real["image_a"], real["image_b"]
        n = a.shape[0]
        # Instance norm knows no batch, so a generator translates its source and its target in one go.
        from_ab, from_ba = nets.G_AB(ops.concat((a, b))), nets.G_BA(ops.concat((b, a)))
        fake_b, same_b, fake_a, same_a = from_ab[:n], from_ab[n:], from_ba[:n], from_ba[n:]
        adversarial_b = least_squares(nets.D_B(self.augmented(nets, fake_b, noise, "D_B/fake")), 1.0)
        adversarial_a = least_squares(nets.D_A(self.augmented(nets, fake_a, noise, "D_A/fake")), 1.0)
        cycle_a = l1(nets.G_BA(fake_b), a)
        cycle_b = l1(nets.G_AB(fake_a), b)
        identity_a, identity_b = l1(same_a, a), l1(same_b, b)
        loss = (
            adversarial_a
            + adversarial_b
            + options.cycle_a * (cycle_a + options.identity * identity_a)
            + options.cycle_b * (cycle_b + options.identity * identity_b)
        )
        stats = {
            "adversarial/A": adversarial_a,
            "adversarial/B": adversarial_b,
            "cycle/A": cycle_a,
            "cycle/B": cycle_b,
            "identity/A": identity_a,
            "identity/B": identity_b,
        }
        return loss, stats, {"fake_a": fake_a, "fake_b": fake_b}

    def from_pools(self, rng, kept, memory):
        """What the discriminators are shown as fakes, out of what the generators just made and the lane's pools."""
        return {name: exchange(fakes, memory, name, self.options.pool, rng) for name, fakes in kept.items()}

    def d_loss(self, nets, real, noise):
        real_a = self.augmented(nets, real["image_a"], noise, "D_A/real")
        fake_a = self.augmented(nets, noise["fake_a"], noise, "D_A/fake")
        real_b = self.augmented(nets, real["image_b"], noise, "D_B/real")
        fake_b = self.augmented(nets, noise["fake_b"], noise, "D_B/fake")
        loss_a, loss_b = domain_loss(nets.D_A, real_a, fake_a), domain_loss(nets.D_B, real_b, fake_b)
        return loss_a + loss_b, {"D_A": loss_a, "D_B": loss_b}

    def sample(self, nets, noise):
        """Strips A | B(A) | A(B(A)) | B | A(B) | B(A(B)), (n, channels, h, 6w), of ``image_a`` and ``image_b``."""
        a, b = noise["image_a"], noise["image_b"]
        fake_b, fake_a = nets.G_AB(a), nets.G_BA(b)
        return ops.concat((a, fake_b, nets.G_BA(fake_b), b, fake_a, nets.G_AB(fake_a)), 3)

    def translations(self):
        return {
            "A2B": Translation(self.a_to_b, DOWNSCALE, SMALLEST, reads="image_a", back="B2A"),
            "B2A": Translation(self.b_to_a, DOWNSCALE, SMALLEST, reads="image_b", back="A2B"),
        }

    @classmethod
    def imported(cls, files):
        return imported(files)

    def a_to_b(self, nets, inputs):
        return nets.G_AB(inputs["image_a"])

    def b_to_a(self, nets, inputs):
        return nets.G_BA(inputs["image_b"])


def domain_loss(discriminator, real, fake):
    """½ (E (D(x) − 1)² + E D(G(·))²): half the slope that the generators' loss has, as in the paper."""
    scores = discriminator(ops.concat((real, fake)))
    n = real.shape[0]
    return 0.5 * (least_squares(scores[:n], 1.0) + least_squares(scores[n:], 0.0))


def l1(image, target):
    """E |image − target|."""
    return nn.mean(ops.abs(image - target))
