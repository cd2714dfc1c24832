"""Verdicts on the gradient's way back, in linear networks, where it is known."""

import warnings

import numpy as np
import pytest

from tsforecast import LSTMRegressor, RNNRegressor
from tsforecast.estimators.health import EXPLODING, VANISHING, _judge
from tsforecast.exceptions import GradientHealthWarning
from tsforecast.spec import NetworkSpec

T, H = 30, 3


@pytest.fixture
def linear(rng):
    """Factory of networks h_t = scale * P h_{t-1} + x_t + 1 with P a permutation: positive numbers make ReLU linear."""
    X, y = rng.uniform(0.1, 1.0, size=(7, T)), rng.normal(size=7)

    def make(scale, n_layers=1, **params):
        settings = {"activation": "relu", "standardize": False, "device": "reference", "dtype": "float64"} | params
        model = RNNRegressor((H,) * n_layers, max_iter=1, random_state=0, **settings).fit(X, y)
        p = model._spec().views(model._params)
        for i in range(n_layers):
            p[f"layers.{i}.w_x"][:] = 1.0 if i == 0 else np.eye(H)
            p[f"layers.{i}.w_h"][:] = scale * np.roll(np.eye(H), 1, axis=0)
            p[f"layers.{i}.b"][:] = 1.0
        p["head.w"][:, 0] = 0.5, -1.0, 2.0
        return model, X, y

    return make


@pytest.mark.parametrize(
    ("scale", "verdict"), [(1.0, "healthy"), (0.5, "vanishing"), (2.0, "exploding"), (0.9, "healthy")]
)
def test_norms_of_a_linear_network_are_powers_of_its_scale(linear, scale, verdict):
    model, X, y = linear(scale)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GradientHealthWarning)
        (found,) = model.gradient_health(X, y).layers
    at_the_end = 2 * np.sqrt(np.mean((model.predict(X) - y) ** 2)) * np.linalg.norm([0.5, -1.0, 2.0])
    np.testing.assert_allclose(found.norms, at_the_end * scale ** np.arange(T - 1, -1, -1.0), rtol=1e-12)
    assert found.ratio == pytest.approx(scale ** (T - 1), rel=1e-12)
    assert found.factor == pytest.approx(scale, rel=1e-12)
    assert (found.layer, found.direction, found.verdict) == (0, "forward", verdict)


def test_a_layer_below_hears_every_step_of_the_one_above(linear):
    """With the identity everywhere step t of layer 0 reaches the end in T - t + 1 ways."""
    model, X, y = linear(1.0, n_layers=2)
    p = model._spec().views(model._params)
    for i in (0, 1):
        p[f"layers.{i}.w_h"][:] = np.eye(H)
    below, above = model.gradient_health(X, y).layers
    np.testing.assert_allclose(above.norms, above.norms[0], rtol=1e-12)
    np.testing.assert_allclose(below.norms, above.norms[0] * np.arange(T, 0, -1), rtol=1e-12)


def test_warnings_name_the_layer_the_fault_and_what_to_change(linear):
    model, X, y = linear(0.5)
    words = (
        r"layer 0: vanishing, first step / last step 1.9e-09, a factor of 0.5 a step.*LSTMRegressor.*shorter windows"
    )
    with pytest.warns(GradientHealthWarning, match=words):
        assert str(model.gradient_health(X, y)).startswith("layer 0: vanishing")
    model, X, y = linear(2.0, max_grad_norm=None, recurrent_init="identity")
    words = 'layer 0: exploding.*max_grad_norm=1.0, activation="tanh", recurrent_init="orthogonal"'
    with pytest.warns(GradientHealthWarning, match=words):
        model.gradient_health(X, y)


def test_chrono_is_advised_to_an_lstm_that_forgets_and_helps_it(rng):
    X, y = rng.normal(size=(20, 120)), rng.normal(size=20)
    settings = {"max_iter": 1, "learning_rate_init": 1e-9, "device": "reference", "random_state": 0}
    with pytest.warns(GradientHealthWarning, match='vanishing.*bias_init="chrono"'):
        plain = LSTMRegressor(8, **settings).fit(X, y).gradient_health(X, y)
    chrono = LSTMRegressor(8, bias_init="chrono", **settings).fit(X, y).gradient_health(X, y)
    assert chrono.layers[0].ratio > 100 * plain.layers[0].ratio


def test_no_gradient_and_one_that_overflows(linear):
    model, X, y = linear(1.0)
    model._spec().views(model._params)["head.w"][:] = 0.0
    with pytest.warns(GradientHealthWarning, match="vanishing"):
        assert model.gradient_health(X, y).layers[0].ratio == 0.0
    model, X, y = linear(1e8)
    with pytest.warns(GradientHealthWarning, match="exploding, first step / last step inf"):
        assert model.gradient_health(X, y).layers[0].factor == np.inf


def test_the_frame_has_a_row_for_every_step(linear):
    model, X, y = linear(1.0, n_layers=2)
    health = model.gradient_health(X, y)
    frame = health.to_frame()
    assert list(frame) == ["layer", "direction", "step", "norm", "verdict"]
    np.testing.assert_array_equal(frame[frame.layer == 1].sort_values("step").norm, health.layers[1].norms)
    assert len(frame) == 2 * T


def test_a_dilated_run_is_judged_by_the_chain_that_ends_at_the_head():
    (run,) = NetworkSpec(7, 1, (2,), 1, dilations=(3,)).topology.runs
    assert _judge(run, np.array([2.0, 0, 0, 1.0, 0, 0, 0.5])).ratio == 4.0
    limits = [_judge(run, np.array([x, 0, 0, 0, 0, 0, 1.0])).verdict for x in (VANISHING, VANISHING / 2)]
    assert limits == ["healthy", "vanishing"]
    assert _judge(run, np.array([2 * EXPLODING, 0, 0, 0, 0, 0, 1.0])).verdict == "exploding"
