"""DCGAN (arXiv:1511.06434): the GAN with strided convolutions and batch norm."""

from itertools import pairwise

from mindspore import nn as ms_nn
from mindspore import ops
from pydantic import PositiveInt, field_validator

from ganfleet import nn
from ganfleet.size import Resolution, Size
from ganfleet.strategies.doubling import doublings, needed
from ganfleet.strategies.gan import GAN

CONV_INIT = nn.Normal(0.02)
GAIN_INIT = nn.Normal(0.02, mean=1.0)


class DCGAN(GAN):
    """DCGAN (arXiv:1511.06434): the GAN's losses and phases with convolutional networks.

    Batch moments are those of a lane; the running ones, used when sampling, are means over all lanes.
    """

    class Options(GAN.Options):
        resolution: Resolution = 64
        latent: PositiveInt = 100
        ngf: PositiveInt = 64
        ndf: PositiveInt = 64

        @field_validator("resolution")
        @classmethod
        def _can_be_doubled_to(cls, resolution):
            wanted = needed(resolution, times=1)
            if wanted:
                raise ValueError(f"must be {wanted}")
            return resolution

    def networks(self):
        options, channels = self.options, self.image.channels
        return (
            DCGenerator(options.latent, options.ngf, channels, options.resolution),
            DCDiscriminator(options.ndf, channels, options.resolution),
        )


def layer_widths(base: int, resolution: int | Size) -> list[int]:
    """Channels at resolution/2, resolution/4 … down to the start, which is 4x4 for a power of two."""
    return [base * 2**i for i in range(len(doublings(resolution)) - 1)]


class DCGenerator(ms_nn.Cell):
    """Latents (n, latent) → images (n, channels, height, width) in [-1, 1]."""

    def __init__(self, latent: int, ngf: int, channels: int, resolution: int | Size):
        super().__init__()
        start = Size.of(doublings(resolution)[0])
        widths = layer_widths(ngf, resolution)[::-1]
        convs = [nn.ConvTranspose2d(latent, widths[0], start, 1, 0, bias=False, init=CONV_INIT)]
        convs += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False, init=CONV_INIT) for a, b in pairwise(widths)]
        self.convs = ms_nn.CellList(convs)
        self.norms = ms_nn.CellList([nn.BatchNorm(width, init=GAIN_INIT) for width in widths])
        self.last = nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1, bias=False, init=CONV_INIT)

    def construct(self, z):
        x = z.reshape(z.shape[0], -1, 1, 1)
        for i in range(len(self.convs)):
            x = ops.relu(self.norms[i](self.convs[i](x)))
        return nn.tanh(self.last(x))


class DCDiscriminator(ms_nn.Cell):
    """Images (n, channels, height, width) → logits (n, 1); no batch norm on the first layer."""

    def __init__(self, ndf: int, channels: int, resolution: int | Size):
        super().__init__()
        start = Size.of(doublings(resolution)[0])
        widths = layer_widths(ndf, resolution)
        self.first = nn.Conv2d(channels, ndf, 4, 2, 1, bias=False, init=CONV_INIT)
        self.convs = ms_nn.CellList([nn.Conv2d(a, b, 4, 2, 1, bias=False, init=CONV_INIT) for a, b in pairwise(widths)])
        self.norms = ms_nn.CellList([nn.BatchNorm(width, init=GAIN_INIT) for width in widths[1:]])
        self.last = nn.Conv2d(widths[-1], 1, start, 1, 0, bias=False, init=CONV_INIT)

    def construct(self, image):
        x = nn.leaky_relu(self.first(image))
        for i in range(len(self.convs)):
            x = nn.leaky_relu(self.norms[i](self.convs[i](x)))
        return self.last(x).reshape(image.shape[0], 1)

    def path(self):
        return [(self.first,), *zip(self.convs, self.norms, strict=True), (self.last,)]
