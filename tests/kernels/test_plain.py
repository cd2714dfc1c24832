"""Forecasts without compilation: the bits of the kernels, and no compiler."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsforecast.backends import plain
from tsforecast.backends.base import get_backend
from tsforecast.backends.rounding import fma
from tsforecast.cells import CELLS
from tsforecast.nn.initializers import init_params
from tsforecast.spec import NetworkSpec

FLOATS = {
    np.float32: st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**50), max_value=2.0**50),
    np.float64: st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100),
}


def rounded(exact: Fraction, dtype):
    """The float nearest to a fraction, ties to even, by bisection among neighbours."""
    near = dtype(float(exact))
    candidates = [near, np.nextafter(near, dtype(np.inf)), np.nextafter(near, dtype(-np.inf))]
    distance = [abs(Fraction(float(c)) - exact) for c in candidates]
    best = [c for c, d in zip(candidates, distance, strict=True) if d == min(distance)]
    return best[0] if len(best) == 1 else next(c for c in best if int(c.view(f"i{c.itemsize}")) % 2 == 0)


@pytest.mark.parametrize("dtype", FLOATS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_fma_rounds_once(dtype, data):
    a, b, c = (dtype(data.draw(FLOATS[dtype])) for _ in range(3))
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    assert fma(np.array([a]), np.array([b]), np.array([c]))[0] == rounded(exact, dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_fma_where_rounding_twice_would_go_wrong(dtype):
    """The product ends just beyond the middle between two floats, by less than float64 (or two of them) can add."""
    ulp = np.finfo(dtype).eps
    a, b = dtype(1 + ulp), dtype(1 - ulp)  # the product is 1 - ulp^2
    for c in (dtype(ulp / 2), dtype(-ulp / 2), dtype(1 / ulp), dtype(-1), dtype(3 * ulp / 2)):
        exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        assert fma(np.array([a]), np.array([b]), np.array([c]))[0] == rounded(exact, dtype)


SPECS = st.builds(
    NetworkSpec,
    n_timesteps=st.integers(4, 7),
    n_features=st.integers(1, 3),
    hidden_sizes=st.lists(st.integers(1, 19), min_size=1, max_size=2).map(tuple),
    n_outputs=st.integers(1, 5),
    n_quantiles=st.integers(1, 3),
    window_norm=st.sampled_from(["none", "center", "standard"]),
    season_length=st.sampled_from([0, 3]),
    linear_skip=st.booleans(),
    cell=st.sampled_from(["lstm", "gru"]),
)


@pytest.mark.needs_jit
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=30, deadline=None)
@given(spec=SPECS, seed=st.integers(0, 1000), scale=st.sampled_from([0.01, 1.0, 30.0]))
def test_the_bits_are_those_of_the_kernels(dtype, spec, seed, scale):
    rng = np.random.default_rng(seed)
    params = (init_params(spec, seed, np.float64) + rng.normal(size=spec.n_params) * 0.3).astype(dtype)
    values = (rng.normal(size=200) * scale + scale).astype(dtype)
    starts = rng.integers(0, 200 - spec.n_timesteps * spec.n_features, size=5)
    compiled = get_backend("cpu").predict(spec, params, values, starts, 1)
    np.testing.assert_array_equal(plain.predict(spec, params, values, starts), compiled)


@pytest.mark.needs_jit
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_every_cell_has_the_bits_of_its_kernels(rng, cell):
    spec = NetworkSpec(5, 2, (19, 6), 3, cell=cell)
    params = (init_params(spec, 0, np.float64) + rng.normal(size=spec.n_params) * 0.3).astype(np.float32)
    values = rng.normal(size=70).astype(np.float32)
    starts = np.arange(30, dtype=np.int64) * 2
    compiled = get_backend("cpu").predict(spec, params, values, starts, 1)
    np.testing.assert_array_equal(plain.predict(spec, params, values, starts), compiled)


@pytest.mark.needs_jit
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_beyond_the_range_of_a_float_the_kernels_are_followed_too(rng, dtype):
    """Weights near the limit overflow to infinity and NaN in the same places, and nobody is warned."""
    spec = NetworkSpec(4, 1, (5,), 2, linear_skip=True)
    for size in (np.finfo(dtype).max / 8, np.finfo(dtype).tiny * 8):
        params = (rng.choice([-1.0, 0.0, 1.0], spec.n_params) * size).astype(dtype)
        values = np.array([1e4, -3.0, 0.0, 1e-30, 7.0, np.nan], dtype)
        starts = np.arange(3, dtype=np.int64)
        compiled = get_backend("cpu").predict(spec, params, values, starts, 1)
        np.testing.assert_array_equal(plain.predict(spec, params, values, starts), compiled)


FIRST = """
import sys, time, numpy as np, sklearn.base, sklearn.utils, tsforecast
model = tsforecast.load_model(sys.argv[1])
began = time.perf_counter()
y = model.predict(np.linspace(0, 1, 24)[None])
print(time.perf_counter() - began, "numba" in sys.modules, y[0].hex())
"""


@pytest.mark.needs_jit
def test_a_first_forecast_needs_no_compiler(tmp_path):
    from tsforecast import LSTMRegressor

    X = np.random.default_rng(0).normal(size=(50, 24))
    model = LSTMRegressor(max_iter=2, random_state=0).fit(X, X[:, 0])
    model.save(tmp_path / "model.ts")
    child = subprocess.run(
        [sys.executable, "-c", FIRST, str(tmp_path / "model.ts")], check=True, capture_output=True, text=True
    )
    seconds, has_numba, first = child.stdout.split()
    assert has_numba == "False"
    assert float.fromhex(first) == model.predict(np.linspace(0, 1, 24)[None])[0]
    assert float(seconds) < 1.0


def test_much_work_and_a_spent_budget_go_to_the_kernels(monkeypatch):
    spec = NetworkSpec(24, 1, (50,), 1)
    monkeypatch.delitem(sys.modules, "tsforecast.backends.cpu.backend", raising=False)
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "0")
    monkeypatch.setattr(plain, "_spent", 0.0)
    assert plain.is_worth_it(spec, 1, np.dtype("float32"))
    assert not plain.is_worth_it(spec, 100_000, np.dtype("float32"))
    monkeypatch.setattr(plain, "_spent", 5.0)
    assert not plain.is_worth_it(spec, 1, np.dtype("float32"))
