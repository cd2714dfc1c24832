"""Small models on the reference backend: they train in milliseconds and need no compiler."""

import numpy as np
import pytest

from tsforecast import LSTMRegressor, sliding_windows


@pytest.fixture
def small():
    """Factory of tiny regressors; the epochs are few and none is left out."""

    def make(**params):
        defaults = {"hidden_layer_sizes": 4, "max_iter": 3, "tol": 0.0, "device": "reference", "random_state": 0}
        return LSTMRegressor(**(defaults | params))

    return make


@pytest.fixture
def wave():
    """Windows of a noisy sine: X [70, 8], y [70]."""
    t = np.arange(78)
    series = np.sin(0.5 * t) + 0.1 * np.random.default_rng(5).normal(size=78)
    X, y = sliding_windows(series, 8)
    return X.copy(), y.copy()
