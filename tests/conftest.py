"""Shared by all tests: kernels pinned as a rank's are, no cache but temporary ones, and which tests stay together.

With pytest-xdist (``-n 2 --dist loadgroup``, as ``make test`` says) each worker takes a core of its own.
"""

import gc
import os
import tempfile

import fleets
import pytest

import ganfleet  # noqa: F401  sets what MindSpore reads at import
from ganfleet.fleet import cpu, subnormals

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# References run once: code that is compiled in half the time is worth more than fast code.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
# For workers and ranks, since a process reads it when it starts: memory that a compiler gives back it soon wants again.
os.environ.setdefault(
    "GLIBC_TUNABLES",
    "glibc.malloc.trim_threshold=1073741824:glibc.malloc.top_pad=67108864:glibc.malloc.mmap_threshold=1073741824",
)
gc.set_threshold(50_000, 20, 50)  # by default, a tenth of the time goes into looking at objects that live to the end
collect_ignore = ["plugins"]  # tested as it is installed, in test_plugins.py
_cache = tempfile.TemporaryDirectory(prefix="ganfleet-cache-")  # until the tests end
os.environ["XDG_CACHE_HOME"] = _cache.name
if "PYTEST_XDIST_WORKER" not in os.environ:  # whose workers share compiled graphs
    os.environ["GANFLEET_COMPILE_CACHE"] = os.path.join(_cache.name, "graphs")


def pytest_collection_finish():
    gc.freeze()  # all that was imported: MindSpore collects garbage before each graph


def pytest_configure(config):
    if not getattr(config.option, "numprocesses", None):  # not the process that only hands out tests
        cpu.pin(1)  # before any kernel runs, as connect() does: bits depend on both
        subnormals.flush()


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the marks
def pytest_collection_modifyitems(items):
    """Keep tests that share what a fixture of their file made on one worker; all others go wherever a core is free.

    Those of real fleets go first, as one worker has them all, and then slow ones, so that no worker is left with one
    when the others have done all else.
    """
    items.sort(key=lambda item: (not _is_of_fleets(item), item.get_closest_marker("slow") is None))
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs.values()
        if item.get_closest_marker("xdist_group"):
            continue
        if any(fixture.scope == "module" for definitions in fixtures for fixture in definitions):
            item.add_marker(pytest.mark.xdist_group(item.location[0]))


def pytest_runtest_setup(item):
    """Workers without real fleets leave the cores to the one with them, which else would be the last by minutes."""
    if "PYTEST_XDIST_WORKER" in os.environ and not _is_of_fleets(item) and os.nice(0) == 0:
        os.nice(3)


def _is_of_fleets(item):
    return item.get_closest_marker("xdist_group") == fleets.one_at_a_time.mark
