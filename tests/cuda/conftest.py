"""CUDA tests in three layers: simulated (a process of its own), compiled without a GPU, and on a GPU."""

import os
import sys
from pathlib import Path

import pytest

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")

collect_ignore_glob = (
    ["test_availability.py", "test_gpu_check.py", "test_compiled_*.py", "test_on_gpu.py", "test_simulation.py"]
    if SIMULATED
    else ["test_simulated_*.py"]
)

sys.path.append(str(Path(__file__).parents[1] / "kernels"))  # kernel_cases

if SIMULATED:
    import simulator

    simulator.install()

    from tsforecast.backends.cuda import memory

    memory.SPARE = 1  # every number of an array is written here


@pytest.fixture
def gpu(monkeypatch):
    """A device with 80 GiB, seen by the whole package: the ``Machine`` of ``fake_driver``."""
    from fake_driver import machine

    from tsforecast.backends.cuda import availability

    found = availability.Gpu("NVIDIA H100", (9, 0), 80 << 30, (13, 1))
    monkeypatch.setattr(availability, "find_gpu", lambda: found)
    with machine() as there:
        yield there
