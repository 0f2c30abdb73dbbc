"""Operators for CPUs that MindSpore's own are too slow for: oneDNN's best convolutions, leaky ReLU, blur.

They exist in float32 on x86-64 with AVX2 and a C++ compiler; elsewhere ``form()`` is "stock", and nobody may call them.
``ganfleet.nn.forms`` is who decides. On Ascend nothing in here is imported. The first to ask for them waits some
seconds for a compiler, once on each machine.
"""

from ganfleet.errors import ConfigError
from ganfleet.nn.cpu import operators
from ganfleet.nn.cpu.library import kernels

STOCK = operators.STOCK


def form() -> str:
    """The form in force: "stock", or such as "onednn-any/3.10.1/avx2". Its bits are its own."""
    return operators.FORM or use()


def use(name: str | None = None) -> str:
    """Have graphs compiled from now on use the form ``name``, by default the best this machine has; returns its name.

    Raises:
        ConfigError: this machine cannot run it.
    """
    found = kernels()
    best = found.form if found else STOCK
    if name not in (None, STOCK, best):
        has = f"only {STOCK!r}" if best == STOCK else f"{best!r} and {STOCK!r}"
        raise ConfigError(f"this machine cannot run convolutions in the form {name!r}: it has {has}")
    operators.FORM = name or best
    operators.LIBRARY = found.path if found else ""
    return operators.FORM
