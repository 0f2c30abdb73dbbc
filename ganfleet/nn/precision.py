"""The type in which networks multiply.

Layers that multiply have a ``compute_type``. They cast their input and weight to it, multiply, and cast the result
back to float32. Weights, biases, normalisations, losses and everything outside of networks stay float32. A layer of
one's own joins by an attribute ``compute_type``, "float32" at first, with ``lowered`` around both factors and
``raised`` around the product.
"""

import mindspore as ms
from mindspore import nn, ops

from ganfleet.errors import ConfigError

COMPUTE_TYPES = ("float32", "bfloat16", "float16")
ROUNDED = "rounded"
"""For tests: factors and products are rounded to bfloat16, and the multiplication between runs in float32."""


def set_compute_type(net: nn.Cell, compute_type: str) -> None:
    """Have all layers of ``net`` that multiply do it in ``compute_type``; to be called before a graph is compiled.

    Layers of MindSpore's own stay float32.

    Raises:
        ConfigError: there is no such type.
    """
    if compute_type not in (*COMPUTE_TYPES, ROUNDED):
        raise ConfigError(f"there is no precision {compute_type!r}: use one of {', '.join(COMPUTE_TYPES)}")
    for _, cell in net.cells_and_names():
        if hasattr(cell, "compute_type"):
            cell.compute_type = compute_type


def supported(compute_type: str) -> str | None:
    """Why the current backend cannot train in ``compute_type``, or None where it can.

    Measured under ms.jit on the CPU backend of MindSpore 2.10, the same for outputs, first and second derivatives:

    ========  ====================================================================  =======================
    type      Conv2d, ConvTranspose2d, Dense, matmul                                casts, and ``rounded``
    ========  ====================================================================  =======================
    float16   right to its rounding; the kernels are float32's behind casts, and    right to their rounding
              a 64→64 convolution of 16x16 takes twice the time
    bfloat16  refused by the compiler: "Unsupported data type"                      right to their rounding
    ========  ====================================================================  =======================

    On Ascend all of it is in the operators' documents, and no card has run it yet.
    """
    if compute_type == "bfloat16" and ms.get_context("device_target") == "CPU":
        return (
            "MindSpore has no bfloat16 convolutions and matrix products for CPUs: use float32 or float16 there, "
            "bfloat16 on Ascend"
        )
    return None


def lowered(factor, compute_type: str):
    """A float32 factor as a layer multiplies it; in float32 the tensor itself, with no operator added to the graph."""
    if compute_type == "float32":
        return factor
    if compute_type == "float16":
        return ops.cast(factor, ms.float16)
    if compute_type == "bfloat16":
        return ops.cast(factor, ms.bfloat16)
    return _rounded(factor)


def raised(product, compute_type: str):
    """The product of ``lowered`` factors, in float32."""
    if compute_type == "float32":
        return product
    if compute_type == "rounded":
        return _rounded(product)
    return ops.cast(product, ms.float32)


def _rounded(x):
    """``x`` rounded to bfloat16. Its gradient passes the same way back, rounded like one between real casts."""
    return ops.cast(ops.cast(x, ms.bfloat16), ms.float32)
