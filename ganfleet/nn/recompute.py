"""Blocks whose gradient computes them again, instead of keeping what they computed (arXiv:1604.06174)."""

from mindspore import nn


def recomputable(net: nn.Cell) -> list[nn.Cell]:
    """The blocks of ``net``: cells that say so by an attribute ``recomputable = True``, none inside of another."""
    return [cell for _, cell in net.cells_and_names() if getattr(cell, "recomputable", False)]


def recompute(net: nn.Cell) -> int:
    """Have every block of ``net`` computed again when its gradient needs it; how many there are.

    Only inputs of blocks are then kept from the forward pass. MindSpore itself does it (``Cell.recompute``). To be
    called once, before a graph is compiled.
    """
    blocks = recomputable(net)
    for block in blocks:
        block.recompute()
        block._recompute_cell = None  # of the eager mode, which no block runs in; graphs with it could not be kept
    return len(blocks)
