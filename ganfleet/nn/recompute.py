"""Blocks whose gradient computes them again, instead of keeping what they computed (arXiv:1604.06174)."""

from mindspore import nn


def recompute(net: nn.Cell) -> int:
    """Have every block of ``net`` computed again when its gradient needs it; to be called before a graph is compiled.

    These are the cells that say so by an attribute ``recomputable = True``, none inside of another; how many there are.
    Only their inputs are then kept from the forward pass. MindSpore itself does it (``Cell.recompute``).
    """
    blocks = [cell for _, cell in net.cells_and_names() if getattr(cell, "recomputable", False)]
    for block in blocks:
        block.recompute()
    return len(blocks)
