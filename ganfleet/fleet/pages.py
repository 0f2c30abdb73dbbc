"""Huge pages for a process that computes on a CPU.

A program gets its memory in pages of 4 KiB that may lie anywhere, and how fast kernels go through megabytes of it
depends on where. In pages of 2 MiB they have fewer places to look up.
"""

import ctypes
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

LARGE = 4 << 20  # bytes of a piece of memory that is worth it
HUGE, SMALL = 2 << 20, 4 << 10
USED = 0.75  # of a huge page, or memory would be taken that nobody asked for
HUGEPAGE, COLLAPSE = 14, 25  # madvise's names for "use huge pages here" and "now" (Linux 6.1)
PIECE = re.compile(r"^(\w+)-(\w+) rw-p 0+ 00:00 0 *(?:\[heap\])?$", re.MULTILINE)


def use_huge() -> int:
    """Move large pieces of this process's memory into huge pages; how many bytes these hold now.

    What is in the memory stays. Does nothing where the system does not offer it.
    """
    moved = 0
    with suppress(OSError, AttributeError):
        advise = ctypes.CDLL(None).madvise
        for start, size in _in_use():
            place, length = ctypes.c_void_p(start), ctypes.c_size_t(size)
            if not advise(place, length, HUGEPAGE) and not advise(place, length, COLLAPSE):
                moved += size
    return moved


def _in_use() -> Iterator[tuple[int, int]]:
    """Where large pieces of memory are, as far as it is in use, and how large: whole huge pages."""
    with open("/proc/self/pagemap", "rb", buffering=0) as pages:
        for found in PIECE.finditer(Path("/proc/self/maps").read_text()):
            start, stop = (int(number, 16) for number in found.groups())
            start, stop = -(-start // HUGE) * HUGE, stop // HUGE * HUGE
            if stop - start < LARGE:
                continue
            pages.seek(start // SMALL * 8)
            entries = np.frombuffer(pages.read((stop - start) // SMALL * 8), np.uint64)
            used = (entries >> np.uint64(63)).reshape(-1, HUGE // SMALL).mean(1) >= USED
            edges = np.flatnonzero(np.diff(used, prepend=False, append=False))  # where a row of them begins, and ends
            for first, end in edges.reshape(-1, 2).tolist():
                yield start + first * HUGE, (end - first) * HUGE
