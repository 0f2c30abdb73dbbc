"""Shared by all tests: kernels pinned as a rank's are, and no cache but a temporary one."""

import os
import tempfile

import ganfleet  # noqa: F401  sets what MindSpore reads at import
from ganfleet.fleet import cpu

cpu.pin(1, 0)  # before any kernel runs, as connect() does: bits depend on it
os.environ.setdefault("JAX_PLATFORMS", "cpu")
collect_ignore = ["plugins"]  # tested as it is installed, in test_plugins.py
_cache = tempfile.TemporaryDirectory(prefix="ganfleet-cache-")  # until the tests end
os.environ["XDG_CACHE_HOME"] = _cache.name
