"""Any regressor: ours without built windows, others on windows normalised outside; both see the same numbers."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tsforecast.backends.base import Windows
from tsforecast.forecasting import models
from tsforecast.forecasting.state import make_spec


def windows_of(z, spec):
    starts = np.arange(len(z) - spec.n_timesteps - spec.n_outputs + 1)
    weights = np.linspace(0.5, 1.5, len(starts))
    return Windows(z, starts, z, starts + spec.n_timesteps, weights)


def test_a_foreign_model_is_weighted_least_squares_on_normalised_windows(rng):
    """Worked with NumPy alone: z = (x - mean of the last season) / std, target = the difference from a season ago."""
    z, spec = rng.standard_normal(80), make_spec(8, 6, 4, "standard", True)
    windows = windows_of(z, spec)
    model = models.fit_model(models.configure(LinearRegression(), spec, None, None), windows, spec)
    x = np.stack([z[a : a + 8] for a in windows.x_starts])
    y = np.stack([z[a + 8 : a + 14] for a in windows.x_starts])
    mean, std = x[:, -4:].mean(1, keepdims=True), x.std(1, keepdims=True)
    inputs, base = (x - mean) / std, ((x - mean) / std)[:, [4, 5, 6, 7, 4, 5]]
    design = np.hstack([inputs, np.ones((len(x), 1))])
    root = np.sqrt(windows.weights)[:, None]
    coefficients = np.linalg.lstsq(design * root, ((y - mean) / std - base) * root, rcond=None)[0]
    expected = (design @ coefficients + base) * std + mean
    np.testing.assert_allclose(models.predict_model(model, z, windows.x_starts, spec), expected, rtol=1e-8)


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize(
    "estimator", [HistGradientBoostingRegressor(max_iter=3), make_pipeline(StandardScaler(), Ridge())]
)
def test_single_output_regressors_and_pipelines(rng, estimator, horizon):
    z, spec = rng.standard_normal(80), make_spec(8, horizon, 4, "standard", True)
    model = models.fit_model(models.configure(estimator, spec, 0, None), windows_of(z, spec), spec)
    assert models.predict_model(model, z, np.array([0, 5]), spec).shape == (2, horizon)


def test_chunks_change_no_bit(rng, monkeypatch):
    z, spec = rng.standard_normal(80), make_spec(8, 2, 4, "standard", True)
    model = models.fit_model(Ridge(), windows_of(z, spec), spec)
    whole = models.predict_model(model, z, np.arange(70), spec)
    monkeypatch.setattr(models, "CHUNK", 7)
    np.testing.assert_allclose(models.predict_model(model, z, np.arange(70), spec), whole, rtol=1e-14)


@pytest.mark.parametrize("norm", ["standard", "center", "none"])
def test_our_untrained_network_repeats_the_last_season(norm):
    """Head and skip start at zero, so that training starts from the base, whatever the normalisation."""
    from tsforecast.estimators.lstm import LSTMRegressor

    t = np.arange(60.0)
    z, spec = np.sin(2 * np.pi * t / 4) + 0.05 * t, make_spec(8, 3, 4, norm, True)
    windows = windows_of(z, spec)
    ours = LSTMRegressor(
        (3,), loss="absolute_error", max_iter=1, learning_rate_init=1e-12, device="reference", dtype="float64"
    )
    model = models.fit_model(models.configure(ours, spec, 0, None), windows, spec)
    base = np.stack([z[a + 4 : a + 7] for a in windows.x_starts])
    np.testing.assert_allclose(models.predict_model(model, z, windows.x_starts, spec), base, atol=1e-9)


def test_the_middle_quantile_is_the_forecast():
    class Three:
        _quantiles = (0.1, 0.5, 0.9)
        dtype = "float64"

        def _fit_windows(self):
            raise NotImplementedError

        def _predict_windows(self, values, starts):
            return np.array([[3.0, 1.0, 2.0, 6.0, 5.0, 4.0]])

    spec = make_spec(4, 2, 1, "standard", True)
    assert models.predict_model(Three(), np.zeros(4), np.array([0]), spec).tolist() == [[2.0, 5.0]]


def test_only_what_an_estimator_knows_is_set():
    spec = make_spec(4, 2, 1, "standard", True)
    assert models.configure(LinearRegression(), spec, 3, 2).get_params()["n_jobs"] == 2
    assert models.configure(Ridge(), spec, 3, 2).random_state == 3
