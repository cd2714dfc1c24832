"""scikit-learn's own checks, with no check expected to fail."""

from functools import partial

import pytest
from sklearn.linear_model import LinearRegression
from sklearn.utils.estimator_checks import estimator_checks_generator

from tsforecast import GRURegressor, LSTMRegressor, RNNRegressor, SLSTMRegressor, WindowRegressor

# Rows of a windowed table are time steps. These three checks permute, drop or repeat rows, which makes another series.
ROWS_ARE_EXCHANGEABLE = {
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_sample_weight_equivalence_on_dense_data",
}


def name_of(check):
    return check.func.__name__ if isinstance(check, partial) else check.__name__


def checks_of(estimator, without=()):
    # A list: parametrize_with_checks of scikit-learn 1.6 passes a generator, which pytest 9 warns about.
    pairs = estimator_checks_generator(estimator, expected_failed_checks={})
    return [pytest.param(e, check, id=name_of(check)) for e, check in pairs if name_of(check) not in without]


@pytest.mark.needs_jit
@pytest.mark.parametrize(("estimator", "check"), checks_of(LSTMRegressor()))
def test_lstm_regressor(estimator, check):
    check(estimator)


@pytest.mark.needs_jit
@pytest.mark.parametrize(("estimator", "check"), checks_of(GRURegressor()))
def test_gru_regressor(estimator, check):
    check(estimator)


@pytest.mark.needs_jit
@pytest.mark.parametrize(("estimator", "check"), checks_of(RNNRegressor()))
def test_rnn_regressor(estimator, check):
    check(estimator)


@pytest.mark.needs_jit
@pytest.mark.parametrize(("estimator", "check"), checks_of(SLSTMRegressor()))
def test_slstm_regressor(estimator, check):
    check(estimator)


# A window that is the row itself changes nothing, so that the whole contract must hold around it.
@pytest.mark.parametrize(
    ("estimator", "check"), checks_of(WindowRegressor(LinearRegression(), n_timesteps=1, horizon=0))
)
def test_window_regressor_of_one_row(estimator, check):
    check(estimator)


@pytest.mark.needs_jit
@pytest.mark.parametrize(
    ("estimator", "check"),
    checks_of(
        WindowRegressor(
            LSTMRegressor(8, max_iter=100, learning_rate_init=0.01, random_state=0), n_timesteps=1, horizon=0
        )
    ),
)
def test_window_regressor_around_lstm(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("estimator", "check"), checks_of(WindowRegressor(LinearRegression(), n_timesteps=3), ROWS_ARE_EXCHANGEABLE)
)
def test_window_regressor_of_three_rows(estimator, check):
    check(estimator)
