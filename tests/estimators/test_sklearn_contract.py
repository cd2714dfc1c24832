"""scikit-learn's own checks, with no check expected to fail."""

from functools import partial

import pytest
from sklearn.linear_model import LinearRegression
from sklearn.utils.estimator_checks import estimator_checks_generator

from tsforecast import GRURegressor, LSTMRegressor, RNNRegressor, SLSTMRegressor, WindowRegressor
from tsforecast.backends.cpu.jit import JIT_DISABLED

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


# Networks of other kinds, on the backend without kernels: what the contract asks of is on this side of them.
COMMON = {"max_iter": 100, "learning_rate_init": 0.05, "device": "reference", "random_state": 0}
SKIP = COMMON | {"max_iter": 40, "linear_skip": True}
OTHERS = {
    "attention": LSTMRegressor(4, attention="additive", learn_initial_state=True, **SKIP),
    "attention_both_ways": GRURegressor(4, attention="dot", bidirectional="sum", **SKIP),
    "decoder": LSTMRegressor(8, decoder="recurrent", teacher_forcing=0.5, **COMMON),
    "decoder_attention": LSTMRegressor(8, decoder="recurrent_attention", bidirectional=True, **COMMON),
    "joined": LSTMRegressor((4, 4), bidirectional=True, residual=True, dilations=(1, 2), **SKIP),
    "layer_norm": LSTMRegressor(4, layer_norm=True, **SKIP),
    "noise": LSTMRegressor((4, 4), dropout=0.1, recurrent_dropout=0.1, zoneout=0.1, **SKIP),
    "full_gate_recurrence": LSTMRegressor(4, variant="full_gate_recurrence", bias_init="chrono", **SKIP),
    "minimal": GRURegressor(4, variant="minimal", n_future_features=1, **SKIP),
    "quantiles": SLSTMRegressor(4, loss="quantile", solver="rmsprop", **SKIP),
    "truncated": RNNRegressor(4, activation="relu", bptt_steps=2, max_grad_value=0.5, lag_order="newest_first", **SKIP),
    "frame": LSTMRegressor(4, window_norm="center", season_length=1, dtype="float64", **SKIP),
}


@pytest.mark.skipif(not JIT_DISABLED, reason="compiles nothing: once, without a compiler, is enough")
@pytest.mark.filterwarnings("ignore:layer_norm=True on windows of one feature")
@pytest.mark.parametrize(
    ("estimator", "check"),
    [pytest.param(*case.values, id=f"{name}-{case.id}") for name, e in OTHERS.items() for case in checks_of(e)],
)
def test_other_networks(estimator, check):
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
