"""What is refused and with which words, and the order of lags."""

import warnings

import numpy as np
import pandas as pd
import pytest
from estimator_cases import same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

from tsforecast import DataError, LSTMRegressor

LAGS = [1, 2, 3, 4, 5]


def lag_frame(X, template, newest_first=True):
    """Windows (oldest step first) as a frame of lag columns; lag 1 is the last step of the window."""
    names = [template.format(lag) for lag in LAGS]
    frame = pd.DataFrame(X[:, ::-1], columns=names)
    return frame if newest_first else frame[names[::-1]]


@pytest.fixture
def lags(rng):
    X = rng.normal(size=(30, 5))
    return X, X[:, 4] - 0.5 * X[:, 0]


@pytest.mark.parametrize("template", ["lag{}", "lag_{}", "y_lag_{}", "y_target_lag-{}"])
@pytest.mark.parametrize("newest_first", [True, False])
def test_lag_names_tell_the_order(small, lags, template, newest_first):
    X, y = lags
    frame = lag_frame(X, template, newest_first)
    model = small().fit(frame, y)
    assert same_bits(model, small().fit(X, y))
    np.testing.assert_array_equal(model.predict(frame), small().fit(X, y).predict(X))


def test_arrays_of_lags_need_the_parameter(small, lags):
    X, y = lags
    right = small().fit(X, y)
    assert same_bits(small(lag_order="newest_first").fit(X[:, ::-1], y), right)
    assert not same_bits(small().fit(X[:, ::-1], y), right)
    # What the names said at fit holds for arrays at predict.
    named = small().fit(lag_frame(X, "lag{}"), y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # scikit-learn's, on missing feature names
        np.testing.assert_array_equal(named.predict(X[:, ::-1]), right.predict(X))


def test_the_parameter_overrules_the_names(small, lags):
    X, y = lags
    frame = lag_frame(X, "lag{}")
    assert same_bits(small(lag_order="oldest_first").fit(frame, y), small().fit(frame.to_numpy(), y))


def test_steps_of_several_features_are_turned_round_as_blocks(small, rng):
    X, y = rng.normal(size=(20, 3, 2)), rng.normal(size=20)  # features a, b
    columns = [f"{name}_lag{lag}" for lag in (1, 2, 3) for name in "ab"]
    frame = pd.DataFrame(X[:, ::-1].reshape(20, 6), columns=columns)
    assert same_bits(small(n_features_per_step=2).fit(frame, y), small().fit(X, y))


def test_names_of_feature_after_feature_are_refused(small, rng):
    columns = [f"{name}_lag{lag}" for name in "ab" for lag in (1, 2, 3)]
    frame = pd.DataFrame(rng.normal(size=(20, 6)), columns=columns)
    with pytest.raises(DataError, match="neither rising nor falling"):
        small(n_features_per_step=2).fit(frame, rng.normal(size=20))


def test_columns_beside_the_lags_are_named_in_a_warning(small, lags):
    X, y = lags
    frame = lag_frame(X, "lag{}").assign(month=1.0)
    with pytest.warns(UserWarning, match=r"columns \['month'\] are no lags"):
        small().fit(frame, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(lag_order="newest_first").fit(frame, y)


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"hidden_layer_sizes": 0}, "hidden_layer_sizes"),
        ({"device": "gpu"}, "device"),
        ({"loss": "mse"}, "loss"),
        ({"solver": "lbfgs"}, "solver"),
        ({"learning_rate": "adaptive"}, "learning_rate"),
        ({"learning_rate_init": 0.0}, "learning_rate_init"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_iter": 1.5}, "max_iter"),
        ({"alpha": -1.0}, "alpha"),
        ({"max_grad_norm": 0.0}, "max_grad_norm"),
        ({"max_grad_value": -1.0}, "max_grad_value"),
        ({"bptt_steps": 0}, "bptt_steps"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"dtype": "float16"}, "dtype"),
        ({"window_norm": "minmax"}, "window_norm"),
        ({"lag_order": "reversed"}, "lag_order"),
        ({"beta_1": 1.0}, "beta_1"),
        ({"n_jobs": 1.5}, "n_jobs"),
    ],
)
def test_wrong_parameters_get_the_words_of_scikit_learn(small, wave, params, name):
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of LSTMRegressor must be"):
        small(**params).fit(*wave)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"hidden_layer_sizes": ()}, "hidden_layer_sizes must be"),
        ({"hidden_layer_sizes": (4, 0)}, "hidden_layer_sizes must be"),
        ({"loss": "quantile", "quantiles": (0.9, 0.1)}, "quantiles must be rising"),
        ({"loss": "quantile", "quantiles": (0.5, 1.0)}, "quantiles must be rising"),
        ({"season_length": 9}, "season_length=9 does not fit into windows of 8 steps"),
        ({"n_jobs": 0}, "n_jobs == 0"),
        ({"n_features_per_step": 3}, "X has 8 columns, which is not a multiple of n_features_per_step=3"),
    ],
)
def test_values_that_do_not_fit_together_are_named(small, wave, params, words):
    with pytest.raises(ValueError, match=words):
        small(**params).fit(*wave)


def test_unknown_keywords_are_not_swallowed(small, wave):
    with pytest.raises(TypeError, match="unexpected keyword argument 'hidden_size'"):
        LSTMRegressor(hidden_size=3)
    with pytest.raises(ValueError, match="Invalid parameter 'epochs'"):
        small().set_params(epochs=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'epochs'"):
        small().fit(*wave, epochs=3)


def test_before_fit_there_is_no_prediction(small, wave):
    for use in (small().predict, small().predict_quantiles):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            use(wave[0])
    with pytest.raises(NotFittedError):
        small().save("never-written.tsf")


def test_windows_of_another_shape_are_refused(small, rng):
    model = small().fit(rng.normal(size=(9, 4, 2)), rng.normal(size=9))
    with pytest.raises(DataError, match=r"\(T, F\) = \(2, 4\), but LSTMRegressor was fitted on \(4, 2\)"):
        model.predict(rng.normal(size=(3, 2, 4)))
    with pytest.raises(ValueError, match="X has 6 features, but LSTMRegressor is expecting 8"):
        model.predict(rng.normal(size=(3, 6)))
    with pytest.raises(ValueError, match="dim 3"):
        small().fit(rng.normal(size=(9, 4)), rng.normal(size=(9, 2, 2)))


@pytest.mark.parametrize(("dtype", "number"), [("float32", 1e16), ("float64", 1e308)])
def test_numbers_too_large_are_named_with_column_and_fix(small, wave, dtype, number):
    X = pd.DataFrame(wave[0].copy(), columns=[f"x{i}" for i in range(8)])
    X.loc[3, "x5"] = -number
    with pytest.raises(
        DataError, match=rf"X: column 'x5' holds -1e\+{len(str(int(number))) - 1}, .* divide the column"
    ):
        small(dtype=dtype).fit(X, wave[1])
    y = wave[1].copy()
    y[7] = number
    with pytest.raises(DataError, match="y: column 0 holds 1e"):
        small(dtype=dtype).fit(wave[0], y)
    model = small(dtype=dtype).fit(*wave)
    with pytest.raises(DataError, match="X: column 0 holds -1e"):
        model.predict(X.to_numpy())


def test_single_precision_rows_of_a_double_precision_model_warn_of_nothing(small, wave):
    X, y = wave
    model = small(dtype="float64").fit(X.astype(np.float32), y)  # any warning would be an error
    assert model.predict(X.astype(np.float32)).shape == y.shape


def test_weights_that_cannot_be_used_are_refused(small, wave):
    X, y = wave
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        small().fit(X, y, sample_weight=np.full(len(y), -1.0))
    with pytest.raises(ValueError, match="zero"):
        small().fit(X, y, sample_weight=np.zeros(len(y)))
    with pytest.raises(DataError, match="divide the weights by their mean"):
        small().fit(X, y, sample_weight=np.full(len(y), 1e20))


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.floats(width=64) | st.sampled_from([0.0, 1e308, -1e308, 5e-324, 1e15]), min_size=12, max_size=12
    ),
    target=st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4),
)
def test_any_numbers_give_finite_forecasts_or_a_clear_error(values, target):
    X, y = np.array(values).reshape(4, 3), np.array(target)
    model = LSTMRegressor(2, max_iter=2, device="reference", random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn 1.6 lets its own check for NaN overflow
        warnings.filterwarnings("error", module="tsforecast")
        try:
            out = model.fit(X, y).predict(X)
        except DataError:
            return
        except ValueError:  # scikit-learn's own, for NaN and infinity
            out = None
    if out is None:
        assert not np.isfinite(X).all()
    else:
        assert out.shape == (4,)
        assert np.isfinite(out).all()
