"""DALL·E 2's upsamplers (arXiv:2204.06125, section 2.1): from a small image to a larger one, without text."""

import mindspore as ms
import numpy as np
from mindspore import ops
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from ganfleet import nn
from ganfleet.nn import forms
from ganfleet.strategies.diffusion.enlarging import Enlarging, EnlargingOptions
from ganfleet.strategies.diffusion.strategy import DenoisingOptions, Share, UNetOptions, unet


class UnclipSR(Enlarging):
    """DALL·E 2's upsampler (arXiv:2204.06125): a U-Net of convolutions, told a small image and no text.

    In training the small image is blurred for a share ``blurred`` of samples, by a Gaussian of 3x3 pixels with the
    deviation ``blur``, so that what is unsharp before it does no harm; in drawing it never is. Images of other sizes
    than in training can be enlarged.
    """

    any_size = True

    class Options(DenoisingOptions, UNetOptions, EnlargingOptions):
        resolution: PositiveInt = 64
        attention: tuple[PositiveInt, ...] = ()
        lr: NonNegativeFloat = 1.2e-4
        steps: PositiveInt = 27
        blur: PositiveFloat = 0.6
        blurred: Share = 0.5

    def networks(self):
        return {"unet": unet(self.options, 2 * self.image.channels, self.outputs)}

    def predicted(self, nets, x_t, time, inputs):
        return nets.unet(self.beside(x_t, inputs), time)

    def spoilt(self, inputs):
        share, small = inputs["blurred"], inputs["small"]
        return small + share * (blurred(small, self.options.blur) - small)

    def draw(self, rng, n, clock):
        return super().draw(rng, n, clock) | {"blurred": _shares(rng.random(n) < self.options.blurred)}

    def told(self, nets, real, noise):
        return {"small": self.reduced(real["image"]), "blurred": noise["blurred"]}

    def spoiling(self, rng, shape):
        return {"blurred": _shares(np.zeros(shape[0]))}

    def conditions(self, inputs):
        return {"small": inputs["small"], "blurred": inputs["blurred"]}, None


def _shares(which: np.ndarray) -> np.ndarray:
    return which.astype(np.float32).reshape(-1, 1, 1, 1)


def blurred(x, deviation: float):
    """(n, c, h, w), same shape out: each pixel with its eight neighbours, weighted by a Gaussian; the image goes on
    beyond its edge as in a mirror."""
    n, c, h, w = x.shape
    padded = nn.reflection_pad(x, 1).reshape(n * c, 1, h + 2, w + 2)
    return forms.conv2d(padded, _gaussian(deviation)).reshape(n, c, h, w)


@ops.constexpr
def _gaussian(deviation):
    line = np.exp(-0.5 * (np.arange(-1, 2) / deviation) ** 2)
    weights = np.outer(line, line)
    return ms.Tensor((weights / weights.sum()).astype(np.float32).reshape(1, 1, 3, 3))
