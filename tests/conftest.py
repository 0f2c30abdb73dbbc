"""Shared by all tests: kernels pinned as a rank's are, and a tiny run described once."""

import os

import ganfleet  # noqa: F401  sets what MindSpore reads at import
from ganfleet.fleet import cpu

cpu.pin(1, 0)  # before any kernel runs, as connect() does: bits depend on it
os.environ.setdefault("JAX_PLATFORMS", "cpu")
