"""log and exp against extended precision, and that their bits do not depend on the processor's vector instructions."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from tsforecast.nn.elementary import exp, log

REPOSITORY = Path(__file__).resolve().parents[2]
CHILD = """
import hashlib
import numpy as np
from tsforecast.nn.elementary import exp, log
x = np.ldexp(np.linspace(1, 2, 20_001), np.arange(20_001) % 1800 - 900)
print(hashlib.sha256(log(x).tobytes() + exp(np.linspace(-700, 700, 20_001)).tobytes()).hexdigest())
"""


def _numbers(rng):
    near_one = 1.0 + np.linspace(-1e-3, 1e-3, 2001)
    return np.concatenate([2.0 ** rng.uniform(-1000, 1000, 20_000), rng.uniform(0.5, 2.0, 20_000), near_one])


def test_log_is_within_two_ulp(rng):
    x = _numbers(rng)
    exact = np.log(x.astype(np.longdouble))
    error = np.abs(log(x).astype(np.longdouble) - exact)
    assert (error <= 2 * np.spacing(np.abs(exact).astype(np.float64))).all()
    assert log(np.array([1.0])) == [0.0]


def test_exp_is_within_two_ulp(rng):
    x = np.concatenate([rng.uniform(-700, 700, 20_000), rng.uniform(-1, 1, 20_000), np.geomspace(1e-300, 1, 100)])
    exact = np.exp(x.astype(np.longdouble))
    error = np.abs(exp(x).astype(np.longdouble) - exact)
    assert (error <= 2 * np.spacing(exact.astype(np.float64))).all()
    assert exp(np.array([0.0, -0.0])).tolist() == [1.0, 1.0]


def test_exp_undoes_log(rng):
    x = _numbers(rng)
    # An error of half an ulp in log x is one of |log x| ulp in x.
    np.testing.assert_allclose(exp(log(x)), x, rtol=700 * np.finfo(float).eps)


def test_bits_do_not_depend_on_vector_instructions():
    """NumPy without AVX and its kin is what another processor would run."""
    extensions = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    digests = {
        subprocess.run(
            [sys.executable, "-c", CHILD],
            cwd=REPOSITORY,
            env=os.environ | {"NPY_DISABLE_CPU_FEATURES": disabled},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for disabled in ("", " ".join(extensions))
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64
