"""Every parameter of every public class, away from its default: clones, pickles and files keep it and its forecasts."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone

from tsforecast import GRURegressor, LSTMRegressor, RNNRegressor, SLSTMRegressor, load_model

CLASSES = (LSTMRegressor, GRURegressor, RNNRegressor, SLSTMRegressor)
BASE = {"hidden_layer_sizes": 3, "max_iter": 2, "random_state": 0, "device": "reference", "batch_size": 7}
# Another value of each parameter, as a user may well write it; with what it needs beside it.
SHARED = {
    "hidden_layer_sizes": [3, np.int64(2)],
    "n_features_per_step": 2,
    "lag_order": "newest_first",
    "loss": "huber",
    "solver": "sgd",
    "learning_rate_init": 0.05,
    "learning_rate": "exponential",
    "batch_size": "auto",
    "max_iter": 3,
    "alpha": np.float32(0.1),
    "max_grad_norm": 0.01,
    "max_grad_value": 0.01,
    "bptt_steps": 2,
    "stateful": {"stateful": True, "shuffle": False},
    "shuffle": False,
    "random_state": np.int64(7),
    "tol": 0.1,
    "early_stopping": {"early_stopping": True, "validation_fraction": 0.2},
    "validation_fraction": 0.3,
    "n_iter_no_change": 1,
    "warm_start": True,
    "verbose": True,
    "n_jobs": 2,
    "dtype": "float64",
    "standardize": False,
    "window_norm": "standard",
    "season_length": 2,
    "linear_skip": True,
    "quantiles": {"loss": "quantile", "quantiles": np.array([0.2, 0.5, 0.7])},
    "huber_delta": {"loss": "huber", "huber_delta": 0.2},
    "momentum": {"solver": "sgd", "momentum": 0.1},
    "nesterovs_momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "beta_1": 0.5,
    "beta_2": 0.5,
    "epsilon": 0.1,
    "lr_gamma": {"learning_rate": "exponential", "lr_gamma": 0.5},
    "lr_step_size": {"learning_rate": "exponential", "lr_step_size": 1},
    "recurrent_init": "identity",
    "bias_init": "chrono",
    "bidirectional": True,
    "residual": {"residual": True, "hidden_layer_sizes": (3, 3)},
    "dilations": np.array([2]),
    "learn_initial_state": True,
    "dropout": 0.3,
    "recurrent_dropout": 0.3,
    "zoneout": 0.3,
    "attention": "additive",
    "decoder": "recurrent_attention",
    "n_future_features": 1,
    "teacher_forcing": {"decoder": "recurrent", "teacher_forcing": [1.0, 0.5]},
}  # fmt: skip
OWN = {
    LSTMRegressor: {"peepholes": True, "coupled_gates": True, "layer_norm": True, "variant": "minimal"},
    GRURegressor: {"layer_norm": True, "variant": "minimal"},
    RNNRegressor: {"activation": "relu"},
    SLSTMRegressor: {},
}
REFUSED = {(SLSTMRegressor, "zoneout"), (RNNRegressor, "bias_init")}
# On the weights after two epochs.
WITHOUT_EFFECT = {"verbose", "n_jobs", "warm_start", "tol", "validation_fraction", "n_iter_no_change"}


CASES = [
    pytest.param(cls, value if isinstance(value, dict) else {name: value}, id=f"{cls.__name__}-{name}")
    for cls in CLASSES
    for name, value in (SHARED | OWN[cls]).items()
    if (cls, name) not in REFUSED
]


@pytest.fixture(scope="module")
def rows():
    """Windows of 6 numbers and two steps to come, which are of the size of the windows."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(14, 6)).cumsum(axis=1) + 3.0
    return X, X[:, -2:] + 0.1 * rng.normal(size=(14, 2))


@pytest.mark.parametrize("cls", CLASSES)
def test_every_parameter_has_another_value(cls):
    assert set(SHARED | OWN[cls]) | {"device"} == set(cls().get_params())


@pytest.mark.filterwarnings("ignore:layer_norm=True on windows of one feature")
@pytest.mark.parametrize(("cls", "given"), CASES)
def test_copies_have_the_settings_and_the_bits(cls, given, rows, tmp_path):
    X, y = rows
    model = cls(**(BASE | given))
    fresh = clone(model)
    expected = model.fit(X, y).predict(X)
    np.testing.assert_array_equal(fresh.fit(X, y).predict(X), expected)
    np.testing.assert_array_equal(cls().set_params(**model.get_params()).fit(X, y).predict(X), expected)
    model.save(tmp_path / "model.ts")
    for copy in (pickle.loads(pickle.dumps(model)), load_model(tmp_path / "model.ts")):
        assert type(copy) is cls
        found, params = copy.get_params(), model.get_params()
        assert found.keys() == params.keys()
        for name, value in params.items():
            assert np.array_equal(value, found[name]), name  # numbers of NumPy, lists and arrays come back plain
        np.testing.assert_array_equal(copy.predict(X), expected)
        np.testing.assert_array_equal(clone(copy).fit(X, y).predict(X), expected)
        if not copy.early_stopping:
            assert copy.partial_fit(X, y).n_iter_ == model.n_iter_ + 1
    if set(given) - WITHOUT_EFFECT:
        plain = cls(**BASE).fit(X, y)
        assert plain._params.size != model._params.size or (plain._params != model._params).any()
