"""Memory in huge pages, by what the kernel says of this process's memory."""

import mmap
import platform
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ganfleet.engine import callbacks
from ganfleet.fleet import pages

pytestmark = pytest.mark.skipif(
    tuple(map(int, re.findall(r"\d+", platform.release())[:2])) < (6, 1) or not Path("/proc/self/pagemap").exists(),
    reason="needs Linux 6.1",
)
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


def known(name):
    """Bytes of all of this process's memory, such as "Rss"."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(rf"^{name}: +(\d+) kB", text, re.MULTILINE)[1]) * 1024


def test_memory_in_use_moves_into_huge_pages_and_keeps_what_is_in_it():
    numbers = np.frombuffer(mmap.mmap(-1, 32 << 20, flags=PRIVATE), np.uint32)
    numbers[:] = np.arange(len(numbers))
    assert pages.use_huge() >= 30 << 20
    assert known("AnonHugePages") >= 28 << 20
    assert np.array_equal(numbers, np.arange(len(numbers)))


def test_memory_that_is_hardly_used_is_not_taken():
    pages.use_huge()
    memory = np.frombuffer(mmap.mmap(-1, 64 << 20, flags=PRIVATE), np.uint8)
    memory[:: 2 << 20] = 1
    before = known("Rss")
    pages.use_huge()
    assert known("Rss") - before < 4 << 20


def test_a_run_moves_its_memory_once_in_each_stage_and_not_at_its_start(monkeypatch):
    moved, time = [], SimpleNamespace(now=0.0)
    monkeypatch.setattr(pages, "use_huge", lambda: moved.append(time.now))
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: time.now)
    callback, run = callbacks.HugePages(), SimpleNamespace(stage="8x8")
    for step in range(12):
        time.now = 10.0 * step
        run.stage = "8x8" if step < 6 else "16x16"
        callback.after_step(run, {})
    assert moved == [30, 90]
