"""Images as metrics get them: 8 bits, as if they had been saved as PNG, and resized as a network of features needs.

Real and generated images go the same way.
"""

import numpy as np
from PIL import Image
from PIL import __version__ as pillow

RESIZE = f"bicubic on floats, antialiased (Pillow {pillow}), clipped to 0-255"
"""How images get the size that a network of features takes; stored with every result."""


def eight_bits(images: np.ndarray) -> np.ndarray:
    """Floats in [-1, 1] as uint8, rounded to the nearest level; bytes as they are."""
    if images.dtype == np.uint8:
        return images
    return np.clip(np.rint((np.asarray(images, np.float64) + 1) * 127.5), 0, 255).astype(np.uint8)


def levels(images: np.ndarray) -> np.ndarray:
    """Floats in [-1, 1] as floats in [0, 255], not rounded."""
    return (np.asarray(images, np.float32) + 1) * np.float32(127.5)


def three_channels(images: np.ndarray) -> np.ndarray:
    """(n, 1, 3 or 4, h, w), in levels of 0-255 → float32 (n, 3, h, w): grey three times over, RGBA on white."""
    images = images.astype(np.float32)
    channels = images.shape[1]
    if channels == 1:
        return np.repeat(images, 3, 1)
    if channels == 4:
        alpha = images[:, 3:] / 255
        return images[:, :3] * alpha + 255 * (1 - alpha)
    return images


def resized(images: np.ndarray, side: int) -> np.ndarray:
    """float32 (n, c, h, w) → (n, c, side, side), as clean-fid (arXiv:2104.11222) does it.

    Each channel is resized by itself in 32-bit floats, with the filter as wide as the scale asks for when an image
    gets smaller; values that overshoot are clipped to 0-255. An image that is not square is stretched.
    """
    if images.shape[2:] == (side, side):
        return images
    planes = images.reshape(-1, *images.shape[2:])
    made = np.empty((len(planes), side, side), np.float32)
    for plane, to in zip(planes, made, strict=True):
        to[:] = Image.fromarray(plane).resize((side, side), Image.Resampling.BICUBIC)
    return np.clip(made, 0, 255, out=made).reshape(*images.shape[:2], side, side)
