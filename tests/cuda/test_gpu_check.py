"""``scripts/gpu_check.py`` where there is no GPU: it says what is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tsforecast.backends.cuda import availability

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_check.py"


@pytest.mark.skipif(availability.is_available(), reason="there is a GPU: run the script itself")
def test_it_says_what_is_missing():
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env=env)
    assert done.returncode == 1
    assert done.stderr.startswith('gpu_check: device="cuda" cannot be used: ')


@pytest.mark.needs_jit
def test_it_runs_to_its_end_in_the_simulator():
    pytest.importorskip("torch", reason="compares with PyTorch")
    pytest.importorskip("greenlet", reason="needs the CUDA simulator")
    done = subprocess.run([sys.executable, str(SCRIPT), "--smoke"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for section in ("values", "curves", "steps", "fleet", "kernels"):
        table = done.stdout.partition(f"### {section}\n")[2].partition("###")[0]
        assert "| --- |" in table, section
        assert "skipped" not in table, section
