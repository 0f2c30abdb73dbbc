"""The peak of memory is what was in use at most since it was asked to begin."""

import sys
from mmap import mmap

import numpy as np
import pytest

from ganfleet.engine import peak


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_peak_counts_what_is_gone_again_and_begins_anew():
    size = 300 << 20
    peak.begin()
    before = peak.size()
    large = mmap(-1, size)  # new memory, and not what an earlier test has given back
    np.frombuffer(large, np.uint8)[:] = 1
    assert peak.size() - before >= 0.9 * size
    large.close()
    assert peak.size() - before >= 0.9 * size
    peak.begin()
    assert peak.size() - before <= 0.1 * size
