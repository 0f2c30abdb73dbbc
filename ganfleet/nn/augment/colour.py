"""What changes colours changes only them: an image's alpha, where there is one, stays."""

from mindspore import ops


def of_colours(change, image, settings):
    """``change(colours, settings)`` of the grey or of the red, green and blue in ``image`` (n, 1, 3 or 4, h, w)."""
    if image.shape[1] == 4:
        return ops.concat((change(image[:, :3], settings), image[:, 3:]), 1)
    return change(image, settings)
