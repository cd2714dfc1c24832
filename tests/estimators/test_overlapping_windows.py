"""Windows that are views of one series: the bits of built ones, without building them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tsforecast import LSTMRegressor, sliding_windows

QUICK = {"hidden_layer_sizes": 5, "max_iter": 2, "batch_size": 16, "random_state": 0}


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("n_features", [1, 2])
@pytest.mark.parametrize(
    "params", [{}, {"standardize": False}, {"early_stopping": True}, {"lag_order": "newest_first"}]
)
def test_views_and_copies_give_the_same_bits(rng, stride, n_features, params):
    series = rng.normal(size=(120, n_features)).squeeze()
    X, y = sliding_windows(series, 8, stride=stride)
    assert X.base is not None
    weight = rng.uniform(0, 1, len(X)) * (np.arange(len(X)) % 5 > 0)
    for sample_weight in (None, weight):
        viewed = LSTMRegressor(**QUICK, **params).fit(X, y, sample_weight)
        built = LSTMRegressor(**QUICK, **params).fit(X.copy(), y.copy(), sample_weight)
        np.testing.assert_array_equal(viewed._params, built._params)
        np.testing.assert_array_equal(viewed.predict(X), built.predict(X.copy()))


def test_a_value_too_large_is_refused_in_a_view_as_well(rng):
    series = rng.normal(size=60)
    series[30] = 1e20
    with pytest.raises(ValueError, match="too large for float32"):
        LSTMRegressor(**QUICK).fit(*sliding_windows(series, 8))


@pytest.mark.needs_jit
@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read in a way that Windows lacks")
@pytest.mark.parametrize("way", ["LSTMRegressor", "WindowRegressor", "Forecaster"])
def test_a_long_series_fits_into_little_memory(way):
    """A fifth of a million rows within a fifth of 300 MB; built windows of 64 float64 steps would take 102 MB."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
    import bench_memory

    try:
        assert bench_memory.measure(way, 200_000, 64) < 60
    except subprocess.CalledProcessError as error:
        pytest.fail(f"the fit failed: {error}")
