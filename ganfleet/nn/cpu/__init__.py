"""Operators for CPUs that MindSpore's own are too slow for: oneDNN's best convolutions, leaky ReLU, blur.

They exist in float32 on x86-64 with AVX2 and a C++ compiler; elsewhere ``form()`` is "stock", and nobody may call them.
``ganfleet.nn.forms`` is who decides. On Ascend nothing in here is imported.
"""

from ganfleet.errors import ConfigError
from ganfleet.nn.cpu.library import kernels
from ganfleet.nn.cpu.operators import blur, conv2d, conv2d_transpose, leaky_relu

__all__ = ["blur", "conv2d", "conv2d_transpose", "form", "leaky_relu", "use"]

STOCK = "stock"
_forced: str | None = None


def form() -> str:
    """The form in force: "stock", or such as "onednn-any/3.10.1/avx2". Results of different forms differ in their bits.

    The first call may take the seconds of a compilation.
    """
    if _forced is not None:
        return _forced
    found = kernels()
    return found.form if found else STOCK


def use(name: str | None) -> None:
    """Have graphs compiled from now on use the form ``name``; None is the best that this machine can run.

    Raises:
        ConfigError: this machine cannot run it.
    """
    global _forced
    _forced = None
    if name not in (None, STOCK, form()):
        raise ConfigError(f"this machine cannot run convolutions in the form {name!r}: it has {form()!r} and {STOCK!r}")
    _forced = name
