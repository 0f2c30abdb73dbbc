"""The peak of memory is what was in use at most since it was asked to begin."""

import sys

import numpy as np
import pytest

from ganfleet.engine import peak


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_peak_counts_what_is_gone_again_and_begins_anew():
    size = 300 << 20
    peak.begin()
    before = peak.size()
    large = np.ones(size, np.uint8)
    assert peak.size() - before >= 0.9 * size
    del large
    assert peak.size() - before >= 0.9 * size
    peak.begin()
    assert peak.size() - before <= 0.1 * size
