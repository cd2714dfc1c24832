"""Shared by all tests: a seeded generator, a throw-away kernel cache, and the rule for the mode without JIT."""

import os
import shutil
import tempfile

import numpy as np
import pytest

WITHOUT_JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def pytest_configure(config):
    """Give the whole session one fresh kernel cache, which tests in subprocesses share.

    ``TSFORECAST_TEST_CACHE_DIR`` names a directory to keep instead, for quick runs while developing.
    """
    if hasattr(config, "workerinput"):  # one of several processes, which share what the first one has made
        config.kernel_cache = None
        return
    kept = os.environ.get("TSFORECAST_TEST_CACHE_DIR")
    config.kernel_cache = None if kept else tempfile.mkdtemp(prefix="tsforecast-test-cache-")
    os.environ["TSFORECAST_CACHE_DIR"] = kept or config.kernel_cache
    os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_unconfigure(config):
    if config.kernel_cache:
        shutil.rmtree(config.kernel_cache, ignore_errors=True)


def pytest_collection_modifyitems(items):
    if WITHOUT_JIT:
        skip = pytest.mark.skip(reason="needs compiled kernels, and NUMBA_DISABLE_JIT is set")
        for item in items:
            if item.get_closest_marker("needs_jit"):
                item.add_marker(skip)


@pytest.fixture
def rng():
    """A generator with the same numbers in every test and run."""
    return np.random.default_rng(20240229)
