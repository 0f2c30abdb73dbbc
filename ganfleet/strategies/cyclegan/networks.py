"""CycleGAN's networks (arXiv:1703.10593, section 7.2): a residual generator and a discriminator of 70×70 patches."""

from mindspore import nn as ms_nn
from mindspore import ops

from ganfleet import nn

INIT = nn.Normal(0.02)
DOWNSCALE = 4  # the generator's with two strided convolutions: sides of its images are multiples of this
SMALLEST = 8  # pixels per side, of which two are left where the blocks mirror one more


class ResNetTrunk(ms_nn.Cell):
    """Images (n, channels, h, w) → (n, width, h, w); h and w multiples of 2^downs, twice that or more.

    ``downs`` strided convolutions, ``blocks`` residual blocks, and as many transposed convolutions back, ``width``
    channels at the first.
    """

    def __init__(self, channels: int, width: int, blocks: int, downs: int = 2):
        super().__init__()
        widths = [width * 2**i for i in range(downs)]
        self.first = nn.Conv2d(channels, width, 7, init=INIT)
        self.down = ms_nn.CellList([nn.Conv2d(each, 2 * each, 3, stride=2, padding=1, init=INIT) for each in widths])
        self.blocks = ms_nn.CellList([ResidualBlock(2**downs * width) for _ in range(blocks)])
        self.up = ms_nn.CellList(
            [
                nn.ConvTranspose2d(2 * each, each, 3, stride=2, padding=1, output_padding=1, init=INIT)
                for each in widths[::-1]
            ]
        )
        self.norm = nn.InstanceNorm()

    def features(self, image):
        x = ops.relu(self.norm(self.first(nn.reflection_pad(image, 3))))
        for conv in self.down:
            x = ops.relu(self.norm(conv(x)))
        for block in self.blocks:
            x = block(x)
        for conv in self.up:
            x = ops.relu(self.norm(conv(x)))
        return x


class ResNetGenerator(ResNetTrunk):
    """Images (n, channels, h, w) → images of the same shape in [-1, 1], see ``ResNetTrunk``.

    With ``residual``, what it makes is added to its image (arXiv:1511.04587), and may leave [-1, 1] a little.
    """

    def __init__(self, channels: int, width: int, blocks: int, downs: int = 2, residual: bool = False):
        super().__init__(channels, width, blocks, downs)
        self.last = nn.Conv2d(width, channels, 7, init=INIT)
        self.residual = residual

    def construct(self, image):
        made = self.last(nn.reflection_pad(self.features(image), 3))
        return image + made if self.residual else nn.tanh(made)


class ResidualBlock(ms_nn.Cell):
    """(n, width, h, w), same shape out: two convolutions on mirrored borders, added to their input."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, init=INIT)
        self.conv2 = nn.Conv2d(width, width, 3, init=INIT)
        self.norm = nn.InstanceNorm()

    def construct(self, x):
        y = ops.relu(self.norm(self.conv1(nn.reflection_pad(x, 1))))
        return x + self.norm(self.conv2(nn.reflection_pad(y, 1)))


class PatchDiscriminator(ms_nn.Cell):
    """Images (n, channels, h, w) → scores (n, 1, h/8 − 2, w/8 − 2), each of a patch of 70×70 pixels."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width, 8 * width]
        self.convs = ms_nn.CellList(
            [nn.Conv2d(widths[i], widths[i + 1], 4, (2, 2, 2, 1)[i], padding=1, init=INIT) for i in range(4)]
        )
        self.last = nn.Conv2d(widths[-1], 1, 4, padding=1, init=INIT)
        self.norm = nn.InstanceNorm()

    def construct(self, image):
        x = nn.leaky_relu(self.convs[0](image))
        for conv in self.convs[1:]:
            x = nn.leaky_relu(self.norm(conv(x)))
        return self.last(x)

    def path(self):
        return [(layer,) for layer in (*self.convs, self.last)]
