"""Augmentations of what a discriminator sees, differentiable to second order under ms.jit.

An augmentation is a Cell with three methods. ``draw(rng, n, size)`` draws what n images need on the host, an array
(n, K). ``settings(drawn, p)`` makes of them, in a graph, what happens to each image; ``p`` is the probability of
each transform. ``construct(image, settings)`` changes images (n, channels, height, width). Settings do not depend on
images, so a penalty that derives by the images passes through ``construct`` alone.
"""

from ganfleet.nn.augment.ada import BGC, Adaptive
from ganfleet.nn.augment.diffaugment import POLICIES, DiffAugment

__all__ = ["BGC", "POLICIES", "Adaptive", "DiffAugment"]
