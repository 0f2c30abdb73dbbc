"""Conditional GAN (arXiv:1411.1784): both networks are told the class, so that a class can be asked for."""

import math

import numpy as np
from mindspore import nn as ms_nn
from mindspore import ops
from pydantic import PositiveInt

from ganfleet import nn
from ganfleet.errors import ConfigError
from ganfleet.size import Size
from ganfleet.strategies.architecture import ArchitectureOptions, generator
from ganfleet.strategies.dcgan import DCDiscriminator
from ganfleet.strategies.gan import GAN, MLPDiscriminator


class CGAN(GAN):
    """Conditional GAN (arXiv:1411.1784): the GAN's losses on pairs of image and label.

    Real pairs are the data's; the labels of fakes are drawn uniformly, so that G learns a rare class as well as any.
    """

    class Options(ArchitectureOptions, GAN.Options):
        """``classes`` is how many the data must have; None for as many as they do."""

        classes: PositiveInt | None = None

    def __init__(self, options, image, batch_size):
        super().__init__(options, image, batch_size)
        if image.classes == 0:
            raise ConfigError(
                "strategy cgan needs labels, and the data have none: set data.classes to subfolder (folder, zip) or "
                "data.labels to the file of labels (idx)"
            )
        if options.classes not in (None, image.classes):
            raise ConfigError(
                f"strategy.classes is {options.classes}, but the data have labels 0 to {image.classes - 1}: correct "
                "the labels or the number"
            )

    def networks(self):
        options, classes, channels = self.options, self.image.classes, self.image.channels
        height, width = Size.of(options.resolution)
        g = ConditionalGenerator(generator(options, options.latent + classes, channels), classes)
        if options.architecture == "mlp":
            d = MLPDiscriminator((channels * height * width + classes,), options.hidden[::-1])
            return g, ConditionalDiscriminator(d, classes, (classes,))
        d = DCDiscriminator(options.ndf, channels + 1, options.resolution)
        return g, ConditionalDiscriminator(d, classes, (1, height, width))

    def draw(self, rng, n, clock):
        return super().draw(rng, n, clock) | {"label": rng.integers(self.image.classes, size=n, dtype=np.int32)}

    def sample_inputs(self, rng, clock, label=None):
        inputs = self.draw(rng, 1, clock)
        if label is None:
            return inputs
        if not 0 <= label < self.image.classes:
            raise ConfigError(f"there is no class {label}: the data have classes 0 to {self.image.classes - 1}")
        return inputs | {"label": np.int32([label])}

    def sample(self, nets, noise):
        return nets.G(noise["z"], noise["label"])

    def real_logit(self, nets, real, noise):
        return nets.D(self.augmented(nets, real["image"], noise, "D/real"), real["label"])

    def fake_logit(self, nets, noise):
        image = nets.G(noise["z"], noise["label"])
        return nets.D(self.augmented(nets, image, noise, "D/fake"), noise["label"])


class ConditionalGenerator(ms_nn.Cell):
    """Latents (n, latent) and labels (n,) → what ``net`` makes of the latents and the label's ``classes`` features."""

    def __init__(self, net: ms_nn.Cell, classes: int):
        super().__init__()
        self.embedding = nn.Embedding(classes, classes)
        self.net = net

    def construct(self, z, label):
        return self.net(ops.concat((z, self.embedding(label)), 1))


class ConditionalDiscriminator(ms_nn.Cell):
    """Images and labels (n,) → the logits (n, 1) of ``net``.

    ``net`` gets the label's features, of ``shape``, behind those of the image: (features,) behind the flat image, or
    (1, height, width) as one more channel.
    """

    def __init__(self, net: ms_nn.Cell, classes: int, shape: tuple[int, ...]):
        super().__init__()
        self.embedding = nn.Embedding(classes, math.prod(shape))
        self.net = net
        self.shape = shape

    def construct(self, image, label):
        n = image.shape[0]
        if len(self.shape) == 1:
            image = image.reshape(n, -1)
        return self.net(ops.concat((image, self.embedding(label).reshape(n, *self.shape)), 1))

    def path(self):
        return self.net.path()
