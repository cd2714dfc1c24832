"""Parameters of estimators that choose the weights training starts from."""

import numpy as np
import pytest

from tsforecast import GRURegressor, LSTMRegressor, RNNRegressor, load_model
from tsforecast.spec import NetworkSpec


def barely_trained(estimator, rng):
    """Blocks of the first layer after one step too small to see."""
    X, y = rng.normal(size=(6, 20)), rng.normal(size=6)
    estimator.set_params(learning_rate_init=1e-12, max_iter=1, random_state=0, device="reference").fit(X, y)
    return NetworkSpec(**estimator._network).views(estimator._params)


def test_identity(rng):
    w_h = barely_trained(RNNRegressor(7, activation="relu", recurrent_init="identity"), rng)["layers.0.w_h"]
    np.testing.assert_allclose(w_h, np.eye(7), rtol=0, atol=1e-6)


@pytest.mark.parametrize("regressor", [LSTMRegressor, GRURegressor])
def test_chrono(rng, regressor, tmp_path):
    model = regressor(40, bias_init="chrono", dtype="float64")
    keeps = barely_trained(model, rng)["layers.0.b"].reshape(-1, 40)[1]
    assert 0.0 < keeps.min() < np.log(4.0) < np.log(15.0) < keeps.max() < np.log(19.0)
    model.save(tmp_path / "model")
    assert load_model(tmp_path / "model").bias_init == "chrono"


def test_chrono_needs_a_gate(rng):
    with pytest.raises(ValueError, match="the cell 'rnn_tanh' has none"):
        RNNRegressor(bias_init="chrono").fit(rng.normal(size=(6, 20)), rng.normal(size=6))
