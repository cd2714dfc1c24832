"""Run ``test_simulated_*.py``, which need Numba's CUDA simulator, in a process that has it.

To work on one of them: ``NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/cuda -k part_of_a_name``.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.needs_jit
def test_simulated_kernels():
    pytest.importorskip("greenlet", reason="CUDA threads are simulated by greenlets: pip install greenlet")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5", str(HERE)],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
