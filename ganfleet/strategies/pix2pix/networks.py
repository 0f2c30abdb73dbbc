"""The networks of pix2pix (arXiv:1611.07004, section 6.1) and of pix2pixHD (arXiv:1711.11585, section 3)."""

from itertools import pairwise

import numpy as np
from mindspore import Tensor, ops
from mindspore import nn as ms_nn

from ganfleet import nn, rng
from ganfleet.size import Size
from ganfleet.strategies.cyclegan.networks import INIT, ResidualBlock, ResNetTrunk

GAIN = nn.Normal(0.02, mean=1.0)
DEEPEST = 8  # the U-Net of the paper halves 256 pixels eight times
WIDEST = 8  # times the channels of the first layer


# ── Generators


def dropped(width: int, depth: int, size: Size) -> list[tuple[int, int, int]]:
    """The shapes (channels, h, w) of what dropout acts on in a U-Net, for images of ``size``, from the inside.

    These are the layers above the innermost: three in a U-Net that halves eight times, two where it does seven times,
    and one below.
    """
    widths = widths_of(width, depth)
    levels = range(depth - 2, depth - 2 - max(1, depth - 5), -1)
    return [(widths[i - 1], size.height >> i, size.width >> i) for i in levels]


def widths_of(width: int, depth: int) -> list[int]:
    """The channels after each halving."""
    return [width * min(2**i, WIDEST) for i in range(depth)]


class UNetGenerator(ms_nn.Cell):
    """Images (n, channels, h, w) → images of the same shape in [-1, 1]; h and w multiples of 2^depth.

    ``masks`` are what the results of inner layers are multiplied by: arrays (n, …) of the shapes that ``dropped``
    says, 0 where a value is left out. In evaluation they are ``still``, arrays (…) of these shapes at one size of
    image, repeated where an image is larger; none leaves dropout out.
    """

    def __init__(self, channels: int, width: int, depth: int, still: list[np.ndarray]):
        super().__init__()
        self.depth, self.still = depth, tuple(Tensor(each[None]) for each in still)
        widths = widths_of(width, depth)
        self.down = ms_nn.CellList(
            [nn.Conv2d(a, b, 4, 2, 1, bias=False, init=INIT) for a, b in pairwise([channels, *widths])]
        )
        self.down_norms = ms_nn.CellList([nn.LaneNorm(each, init=GAIN) for each in widths[1:-1]])
        joined = [2 * each for each in widths[:-1]] + widths[-1:]  # channels that a layer up gets, by its level
        self.up = ms_nn.CellList(
            [nn.ConvTranspose2d(joined[i], widths[i - 1], 4, 2, 1, bias=False, init=INIT) for i in range(1, depth)]
        )
        self.up_norms = ms_nn.CellList([nn.LaneNorm(each, init=GAIN) for each in widths[:-1]])
        self.last = nn.ConvTranspose2d(joined[0], channels, 4, 2, 1, init=INIT)

    def construct(self, image, masks=()):
        x = self.down[0](image)
        levels = (x,)
        for i in range(1, self.depth):
            x = self.down[i](nn.leaky_relu(x))
            if i < self.depth - 1:
                x = self.down_norms[i - 1](x)
            levels = (*levels, x)
        for i in range(self.depth - 1, 0, -1):
            x = self.up_norms[i - 1](self.up[i - 1](ops.relu(x)))
            x = self.with_dropout(x, self.depth - 2 - i, masks)
            x = ops.concat((levels[i - 1], x), 1)
        return nn.tanh(self.last(ops.relu(x)))

    def with_dropout(self, x, layer, masks):
        """``x`` of the layer that is number ``layer`` of those that dropout acts on, if it is one."""
        if self.training:
            return x * masks[layer] if 0 <= layer < len(masks) else x
        return x * repeated(self.still[layer], x) if 0 <= layer < len(self.still) else x


def repeated(pattern, x):
    """``pattern`` (1, c, h, w), repeated to the height and width of ``x``."""
    height, width = x.shape[2:]
    rows, columns = pattern.shape[2:]
    times = (1, 1, (height + rows - 1) // rows, (width + columns - 1) // columns)
    return ops.tile(pattern, times)[:, :, :height, :width]


def masks(draw: np.random.Generator, share: float, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """Dropout (arXiv:1207.0580): 0 for the ``share`` of values that is left out, 1 / (1 − share) for the others."""
    kept = [draw.random(shape, dtype=np.float32) >= share for shape in shapes]
    return [each.astype(np.float32) / np.float32(1 - share) for each in kept]


def still_masks(share: float, shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """The one draw of ``masks`` that every translation is made with, whatever the run's seed."""
    return masks(rng.stream(0, "pix2pix/still"), share, shapes)


class EnhancedGenerator(ResNetTrunk):
    """Images (n, channels, h, w) → images of the same shape in [-1, 1]: a trunk at half the size, and a local enhancer.

    The features of the trunk, which has twice the ``width``, are added to those that the enhancer has at its half size
    (section 3.1). h and w are multiples of 2^(downs + 1), twice that or more.
    """

    def __init__(self, channels: int, width: int, blocks: int, downs: int, local_blocks: int):
        super().__init__(channels, 2 * width, blocks, downs)
        self.local_first = nn.Conv2d(channels, width, 7, init=INIT)
        self.local_down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, init=INIT)
        self.local_blocks = ms_nn.CellList([ResidualBlock(2 * width) for _ in range(local_blocks)])
        self.local_up = nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1, init=INIT)
        self.local_last = nn.Conv2d(width, channels, 7, init=INIT)

    def construct(self, image):
        x = ops.relu(self.norm(self.local_first(nn.reflection_pad(image, 3))))
        x = ops.relu(self.norm(self.local_down(x))) + self.features(halved(image))
        for block in self.local_blocks:
            x = block(x)
        x = ops.relu(self.norm(self.local_up(x)))
        return nn.tanh(self.local_last(nn.reflection_pad(x, 3)))


# ── Discriminators


class PatchDiscriminator(ms_nn.Cell):
    """Pairs (n, 2·channels, h, w) → what each layer gives, the last (n, 1, h', w'): a score of each patch.

    ``layers`` convolutions of stride 2 and two of stride 1: with three, a patch has 70×70 pixels, with two 34, with one
    16. ``padding`` is 1 in pix2pix and 2 in pix2pixHD. All layers but the first and the last have batch norm, or with
    ``by_image`` instance norm.
    """

    def __init__(self, channels: int, width: int, layers: int, padding: int, by_image: bool):
        super().__init__()
        widths = [channels, *widths_of(width, layers + 1)]
        convs = [
            nn.Conv2d(a, b, 4, 2 if i < layers else 1, padding, bias=by_image or i == 0, init=INIT)
            for i, (a, b) in enumerate(pairwise(widths))
        ]
        self.convs = ms_nn.CellList(convs)
        self.by_image = by_image
        if by_image:
            self.norm = nn.InstanceNorm()
        else:
            self.norms = ms_nn.CellList([nn.LaneNorm(each, init=GAIN) for each in widths[2:]])
        self.last = nn.Conv2d(widths[-1], 1, 4, 1, padding, init=INIT)

    def construct(self, pair):
        x = nn.leaky_relu(self.convs[0](pair))
        given = (x,)
        for i in range(1, len(self.convs)):
            x = self.convs[i](x)
            x = nn.leaky_relu(self.norm(x) if self.by_image else self.norms[i - 1](x))
            given = (*given, x)
        return (*given, self.last(x))

    def path(self):
        first, *inner = self.convs
        inner = [(conv,) for conv in inner] if self.by_image else zip(inner, self.norms, strict=True)
        return [(first,), *inner, (self.last,)]


class Discriminators(ms_nn.Cell):
    """Several PatchDiscriminators, each of which sees the pairs at half the size of the one before; what each gives."""

    def __init__(self, count: int, channels: int, width: int, layers: int, padding: int, by_image: bool):
        super().__init__()
        self.scales = ms_nn.CellList(
            [PatchDiscriminator(channels, width, layers, padding, by_image) for _ in range(count)]
        )

    def construct(self, pair):
        given = ()
        for i in range(len(self.scales)):
            pair = halved(pair) if i else pair
            given = (*given, self.scales[i](pair))
        return given

    def path(self):
        return [sum(layers, ()) for layers in zip(*(each.path() for each in self.scales), strict=True)]


def halved(x):
    """(n, c, h, w) → (n, c, ⌈h/2⌉, ⌈w/2⌉): means of 3×3 pixels, stride 2; at the border, of those there are.

    As two matrix products, which have exact derivatives and run on a card's matrix unit.
    """
    n, c, h, w = x.shape
    along_w = ops.matmul(x.reshape(n * c * h, w), halving(w))
    turned = along_w.reshape(n * c, h, -1).transpose(0, 2, 1)
    along_h = ops.matmul(turned.reshape(-1, h), halving(h))
    return along_h.reshape(n, c, (w + 1) // 2, (h + 1) // 2).transpose(0, 1, 3, 2)


@ops.constexpr
def halving(side):
    """(side, ⌈side/2⌉): column j has the mean of the pixels 2j − 1, 2j and 2j + 1 that there are."""
    distance = np.abs(np.arange(side)[:, None] - 2 * np.arange((side + 1) // 2))
    near = (distance <= 1).astype(np.float32)
    return Tensor(near / near.sum(0))
