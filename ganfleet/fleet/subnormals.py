"""Take subnormal numbers for zero: some of MindSpore's threads do, others do not, and which one computes is chance."""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# By the processor, the 32-bit word of C's fenv_t that holds its control register, and the bits of it which take for
# zero subnormal numbers that are read and such as would be written. Those of aarch64 have not been tried.
REGISTERS = {"x86_64": (7, 0x8040), "aarch64": (0, 1 << 24)}
WORDS = 16  # more than a fenv_t has
_found: list[bool] = []  # what held before each block that has not ended, the first one first


def flush(on: bool = True) -> bool:
    """Let this thread, and those that it starts from now on, take numbers for zero that are subnormal in their own
    type: smaller than 1.2e-38 in float32, than 2.2e-308 in float64. Not float16's, which processors treat apart.

    A thread begins with what holds for the one that starts it, and MindSpore starts its own when the first kernel runs,
    so call this before. Does nothing on processors other than x86-64 and AArch64, or without glibc.

    Args:
        on: False ends it for this thread.

    Returns:
        Whether it held before.
    """
    import numpy as np  # slow, and not wanted by commands that compute nothing

    if platform.machine() not in REGISTERS:
        return False
    word, bits = REGISTERS[platform.machine()]
    try:
        libm = ctypes.CDLL("libm.so.6")
    except OSError:
        return False
    for kind in np.typecodes["AllFloat"]:
        np.finfo(kind)  # numpy keeps what it finds, and warns when it first looks while subnormal numbers are zero
    state = (ctypes.c_uint32 * WORDS)()
    libm.fegetenv(state)
    before = state[word] & bits
    state[word] = state[word] | bits if on else state[word] & ~bits
    libm.fesetenv(state)
    return bool(before)


@contextmanager
def flushed() -> Iterator[None]:
    """``flush`` until the end of the block, of the last one where several overlap; then what was before the first."""
    _found.append(flush())
    try:
        yield
    finally:
        first, *_ = _found
        _found.pop()
        if not _found:
            flush(first)
