"""Hand-written gradients against central differences in float64: the network's, and those of a training step."""

import numpy as np
import pytest
from kernel_cases import (
    FRAMES,
    LOSSES,
    is_weight,
    network,
    one_step,
    random_params,
    series_windows,
    step_gradient,
    step_rule,
)

from tsforecast.backends.base import TrainState, get_backend
from tsforecast.nn.gradcheck import gradcheck, numerical_gradient, relative_error
from tsforecast.spec import NetworkSpec


@pytest.mark.parametrize("linear_skip", [False, True])
@pytest.mark.parametrize("hidden_sizes", [(7,), (7, 6), (4, 9, 3)])
def test_network_gradients_by_weights_and_input(backend, rng, hidden_sizes, linear_skip):
    spec = NetworkSpec(4, 5, hidden_sizes, 2, linear_skip=linear_skip)
    x = rng.normal(size=(3, 4, 5))
    cotangent = rng.normal(size=(3, 2))
    errors = gradcheck(backend, spec, random_params(rng, spec), x, cotangent)
    assert set(errors) == {block.name for block in spec.blocks} | {"x"}
    assert max(errors.values()) <= 1e-6, errors


def test_network_gradients_with_saturated_gates(backend, rng):
    # Pre-activations around +-4: derivatives of 1e-2 and below must be right to as many digits.
    spec = NetworkSpec(4, 5, (7,), 2)
    params = random_params(rng, spec)
    spec.views(params)["layers.0.b"][:] = rng.choice([-4.0, 4.0], size=28)
    errors = gradcheck(backend, spec, params, rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 2)))
    assert max(errors.values()) <= 1e-6, errors


def test_gradcheck_sees_one_wrong_entry(rng):
    class Wrong:
        def gradient(self, spec, params, x, cotangent):
            outputs, dparams, dx = get_backend("reference").gradient(spec, params, x, cotangent)
            dparams[spec.blocks[1].offset] += 1e-4
            return outputs, dparams, dx

    spec = NetworkSpec(4, 2, (3,), 1)
    errors = gradcheck(Wrong(), spec, random_params(rng, spec), rng.normal(size=(2, 4, 2)), rng.normal(size=(2, 1)))
    wrong = {name for name, error in errors.items() if error > 1e-6}
    assert wrong == {spec.blocks[1].name}


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("loss", LOSSES)
def test_training_step_follows_the_gradient_of_evaluate(backend, rng, loss, frame):
    spec = network(loss, **FRAMES[frame])
    rule = step_rule(loss)
    params = random_params(rng, spec)
    windows = series_windows(rng, spec)
    value, gradient = step_gradient(backend, spec, rule, params, windows)
    assert value == pytest.approx(backend.evaluate(spec, rule, params, windows, 1), rel=1e-12)
    numeric = numerical_gradient(lambda p: backend.evaluate(spec, rule, p, windows, 1), params)
    assert relative_error(gradient, numeric) <= 1e-6


@pytest.mark.parametrize("loss", ["squared_error", "quantile"])
def test_penalty_is_part_of_the_training_loss_and_spares_biases(backend, rng, loss):
    spec = network(loss, linear_skip=True)
    params = random_params(rng, spec)
    windows = series_windows(rng, spec)
    plain_loss, plain = step_gradient(backend, spec, step_rule(loss), params, windows)
    value, gradient = step_gradient(backend, spec, step_rule(loss, alpha=0.3), params, windows)
    factor = 0.3 / windows.weights.sum()
    weights_only = params * is_weight(spec)
    assert value == pytest.approx(plain_loss + 0.5 * factor * (weights_only**2).sum(), rel=1e-12)
    np.testing.assert_allclose(gradient - plain, factor * weights_only, rtol=0, atol=1e-13)
    evaluated = backend.evaluate(spec, step_rule(loss, alpha=0.3), params, windows, 1)
    assert evaluated == pytest.approx(plain_loss, rel=1e-12)


@pytest.mark.parametrize("loss", ["absolute_error", "quantile"])
def test_no_gradient_where_the_forecast_is_exact(backend, loss):
    # All weights zero forecast 0, which is what the targets are: the kink of |d| has derivative 0.
    spec = network(loss)
    windows = series_windows(np.random.default_rng(0), spec)
    windows.targets[:] = 0.0
    value, gradient = step_gradient(backend, spec, step_rule(loss), np.zeros(spec.n_params), windows)
    assert value == 0.0
    assert not gradient.any()


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_count_like_repeated_rows(backend, rng, loss):
    spec = network(loss, window_norm="standard", season_length=3)
    params = random_params(rng, spec)
    windows = series_windows(rng, spec)
    windows.weights[:] = 1.0
    rows = [0, 1, 1, 3, 3, 3]
    repeated_loss, repeated = step_gradient(backend, spec, step_rule(loss), params, windows, rows)
    windows.weights[:5] = [1.0, 2.0, 0.0, 3.0, 0.0]
    loss_value, gradient = step_gradient(backend, spec, step_rule(loss), params, windows, range(5))
    assert loss_value == pytest.approx(repeated_loss, rel=1e-12)
    np.testing.assert_allclose(gradient, repeated, rtol=0, atol=1e-13)


def test_batch_without_weight_takes_no_step(backend, rng):
    spec = network()
    params = random_params(rng, spec)
    windows = series_windows(rng, spec)
    windows.weights[3:6] = 0.0
    rule = step_rule(solver="adam", alpha=0.1)
    order = np.array([0, 1, 2, 3, 4, 5], dtype=np.int64)
    _, alone = one_step(backend, spec, rule, params, windows, order[:3])
    state = TrainState(params.copy())
    backend.train_epoch(spec, rule, state, windows, order, 3, np.ones(2), 1)
    np.testing.assert_array_equal(state.params, alone.params)
    assert state.step == 1
