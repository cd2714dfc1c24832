"""Each solver's steps against the textbook formula, worked from gradients that plain steps give."""

import numpy as np
import pytest
from kernel_cases import is_weight, network, one_step, random_params, series_windows, step_gradient, step_rule

from tsforecast.backends.base import TrainState

LR = 0.03


@pytest.fixture
def case(rng):
    """Network, start, windows."""
    spec = network(linear_skip=True)
    return spec, random_params(rng, spec), series_windows(rng, spec)


def two_steps(backend, case, rule, rates=(LR, LR)):
    """Train two full-batch steps; return the weights after each and the two gradients."""
    spec, params, windows = case
    state, rows = TrainState(params.copy()), np.arange(len(windows), dtype=np.int64)
    points = [params]
    for rate in rates:
        backend.train_epoch(spec, rule, state, windows, rows, len(rows), np.array([rate]), 1)
        points.append(state.params.copy())
    gradients = [step_gradient(backend, spec, step_rule(), point, windows)[1] for point in points[:2]]
    assert state.step == 2
    return points, gradients


def test_adam(backend, case):
    rule = step_rule(solver="adam", beta_1=0.8, beta_2=0.95, epsilon=1e-3)
    (w0, w1, w2), (g1, g2) = two_steps(backend, case, rule)
    np.testing.assert_allclose(w1, w0 - LR * g1 / (np.abs(g1) + 1e-3), rtol=0, atol=1e-13)
    m = (0.8 * 0.2 * g1 + 0.2 * g2) / (1 - 0.8**2)
    v = (0.95 * 0.05 * g1**2 + 0.05 * g2**2) / (1 - 0.95**2)
    np.testing.assert_allclose(w2, w1 - LR * m / (np.sqrt(v) + 1e-3), rtol=0, atol=1e-13)


def test_adamw_decays_weights_but_not_biases_apart_from_the_gradient(backend, case):
    spec = case[0]
    adam, _ = two_steps(backend, case, step_rule(solver="adam"), rates=(LR, 0.0))
    adamw, _ = two_steps(backend, case, step_rule(solver="adamw", alpha=0.2), rates=(LR, 0.0))
    np.testing.assert_allclose(adamw[1], adam[1] - LR * 0.2 * adam[0] * is_weight(spec), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(adamw[2], adamw[1])


def test_adamw_loss_has_no_penalty(backend, case):
    spec, params, windows = case
    loss, _ = one_step(backend, spec, step_rule(solver="adamw", alpha=0.2), params, windows)
    assert loss == pytest.approx(backend.evaluate(spec, step_rule(), params, windows, 1), rel=1e-12)


def test_sgd_momentum_is_a_velocity_that_holds_its_learning_rate(backend, case):
    rates = (LR, LR / 4)
    (w0, w1, w2), (g1, g2) = two_steps(backend, case, step_rule(solver="sgd", momentum=0.7), rates)
    np.testing.assert_allclose(w1, w0 - LR * g1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(w2, w1 - 0.7 * LR * g1 - LR / 4 * g2, rtol=0, atol=1e-14)


def test_sgd_nesterov_looks_ahead(backend, case):
    (w0, w1, w2), (g1, g2) = two_steps(backend, case, step_rule(solver="sgd", momentum=0.7, nesterov=True))
    np.testing.assert_allclose(w1, w0 - 1.7 * LR * g1, rtol=0, atol=1e-14)
    velocity = -0.7 * LR * g1 - LR * g2
    np.testing.assert_allclose(w2, w1 + 0.7 * velocity - LR * g2, rtol=0, atol=1e-14)


def test_rmsprop(backend, case):
    rule = step_rule(solver="rmsprop", beta_2=0.9, epsilon=1e-3)
    (w0, w1, w2), (g1, g2) = two_steps(backend, case, rule)
    np.testing.assert_allclose(w1, w0 - LR * g1 / (np.sqrt(0.1) * np.abs(g1) + 1e-3), rtol=0, atol=1e-13)
    v = 0.9 * 0.1 * g1**2 + 0.1 * g2**2
    np.testing.assert_allclose(w2, w1 - LR * g2 / (np.sqrt(v) + 1e-3), rtol=0, atol=1e-13)


def test_clipping_bounds_the_norm_and_keeps_the_direction(backend, case):
    spec, params, windows = case
    _, gradient = step_gradient(backend, spec, step_rule(alpha=0.5), params, windows)
    norm = np.linalg.norm(gradient)
    _, clipped = step_gradient(backend, spec, step_rule(alpha=0.5, max_grad_norm=norm / 3), params, windows)
    np.testing.assert_allclose(clipped, gradient / 3, rtol=0, atol=1e-13)
    _, untouched = step_gradient(backend, spec, step_rule(alpha=0.5, max_grad_norm=norm * 1.001), params, windows)
    np.testing.assert_array_equal(untouched, gradient)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_clipping_by_value_bounds_each_entry_and_then_the_norm(backend, case, alpha):
    spec, params, windows = case
    _, gradient = step_gradient(backend, spec, step_rule(alpha=alpha), params, windows)
    most = float(np.median(np.abs(gradient)))
    _, clipped = step_gradient(backend, spec, step_rule(alpha=alpha, max_grad_value=most), params, windows)
    expected = np.where(np.abs(gradient) < most, gradient, most * np.sign(gradient))
    np.testing.assert_allclose(clipped, expected, rtol=0, atol=1e-14)
    both = step_rule(alpha=alpha, max_grad_value=most, max_grad_norm=most)
    _, shortened = step_gradient(backend, spec, both, params, windows)
    np.testing.assert_allclose(shortened, expected * most / np.linalg.norm(expected), rtol=0, atol=1e-14)
    _, untouched = step_gradient(backend, spec, step_rule(alpha=alpha, max_grad_value=1e9), params, windows)
    np.testing.assert_array_equal(untouched, gradient)


def test_epoch_is_its_batches_in_the_given_order(backend, case, rng):
    spec, params, windows = case
    rule = step_rule(solver="adam", max_grad_norm=1.0)
    order = rng.permutation(len(windows))
    rates = np.array([LR, LR / 2, LR / 3])  # 11 rows: batches of 4, 4 and 3
    whole = TrainState(params.copy())
    epoch_loss = backend.train_epoch(spec, rule, whole, windows, order, 4, rates, 1)
    parts, total = TrainState(params.copy()), 0.0
    for batch, rate in enumerate(rates):
        rows = order[4 * batch : 4 * batch + 4]
        loss = backend.train_epoch(spec, rule, parts, windows, rows, len(rows), np.array([rate]), 1)
        total += loss * windows.weights[rows].sum()
    assert epoch_loss == pytest.approx(total / windows.weights.sum(), rel=1e-12)
    for found, expected in ((whole.params, parts.params), (whole.m, parts.m), (whole.v, parts.v)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)
    assert whole.step == parts.step == 3
