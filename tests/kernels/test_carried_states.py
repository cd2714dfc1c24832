"""States carried from window to window: the rows of a stretch are one long sequence, cut for the gradient alone."""

from dataclasses import replace

import numpy as np
import pytest
from kernel_cases import network, random_params, step_rule

from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend
from tsforecast.cells import CELLS
from tsforecast.nn.trainer import TrainConfig, stretch_order, train
from tsforecast.spec import NetworkSpec

REFERENCE, CPU = get_backend("reference"), get_backend("cpu")
N, T, F = 7, 6, 2


@pytest.fixture
def rows(rng):
    """Seven windows of two series' features that follow one another without overlap, and random targets."""
    values = rng.normal(size=N * T * F)
    starts = np.arange(N, dtype=np.int64)
    return Windows(values, starts * T * F, rng.normal(size=N * 4), starts * 4, rng.uniform(0.5, 2.0, N))


def spec_of(cell="lstm", **frame):
    return replace(network(cell=cell, **frame), stateful=True)


def long_window(spec, n_rows):
    """The same network on ``n_rows`` windows as one."""
    return replace(spec, n_timesteps=n_rows * T, stateful=False)


def one_epoch(backend, spec, rule, params, windows, batch_size, n_jobs=1):
    """Loss and weights after one epoch, learning rate 0.1."""
    state, n = TrainState(params.copy()), len(windows)
    rates = np.full(-(-n // batch_size), 0.1)
    order = stretch_order(n, batch_size)
    return backend.train_epoch(spec, rule, state, windows, order, batch_size, rates, n_jobs), state.params


def test_stretches_lie_side_by_side():
    assert stretch_order(7, 3).tolist() == [0, 3, 5, 1, 4, 6, 2]
    assert stretch_order(6, 2).tolist() == [0, 3, 1, 4, 2, 5]
    assert stretch_order(4, 1).tolist() == stretch_order(4, 9).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("cell", CELLS)
def test_forecasts_are_those_of_all_rows_so_far_as_one_window(cell, rng, rows):
    spec = spec_of(cell, hidden_sizes=(3, 3), residual=True)
    params = random_params(rng, spec)
    expected = [
        REFERENCE.predict(long_window(spec, n), params, rows.values, np.zeros(1, np.int64), 1)[0]
        for n in range(1, N + 1)
    ]
    for backend in (REFERENCE, CPU):
        found = backend.predict(spec, params, rows.values, rows.x_starts, 3)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
        errors = (np.array(expected) - rows.targets.reshape(N, 4)) ** 2
        loss = errors.mean(axis=1) @ rows.weights / rows.weights.sum()
        assert backend.evaluate(spec, step_rule(), params, rows, 3) == pytest.approx(loss, rel=1e-11)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_step_is_that_of_a_long_window_whose_gradient_ends_where_its_last_row_begins(cell, rng, rows):
    """With a learning rate of 0 in all batches but the last, whose gradient is then known from truncation."""
    spec, rule = spec_of(cell), step_rule()
    params = random_params(rng, spec)
    state, rates = TrainState(params.copy()), np.array([0.0] * (N - 1) + [1.0])
    REFERENCE.train_epoch(spec, rule, state, rows, np.arange(N), 1, rates, 1)
    whole = TrainState(params.copy())
    last = replace(rows, x_starts=np.zeros(1, np.int64), y_starts=rows.y_starts[-1:], weights=rows.weights[-1:])
    cut = replace(rule, bptt_steps=T)
    REFERENCE.train_epoch(long_window(spec, N), cut, whole, last, np.arange(1), 1, np.ones(1), 1)
    np.testing.assert_allclose(state.params, whole.params, rtol=0, atol=1e-12)
    assert np.abs(whole.params - params).max() > 0.01


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("n_steps", [None, 4])
def test_kernels_learn_as_the_reference_does(cell, n_steps, rng, rows):
    """Three stretches, of three, two and two rows: the last batch has one row."""
    spec, rule = spec_of(cell, linear_skip=True), step_rule(bptt_steps=n_steps)
    params = random_params(rng, spec)
    loss, expected = one_epoch(REFERENCE, spec, rule, params, rows, 3)
    found_loss, found = one_epoch(CPU, spec, rule, params, rows, 3)
    assert found_loss == pytest.approx(loss, rel=1e-11)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)
    _, forgetful = one_epoch(REFERENCE, replace(spec, stateful=False), rule, params, rows, 3)
    assert cell == "rnn_relu" or np.abs(forgetful - expected).max() > 1e-4, "only the ReLUs are all off here"


@pytest.mark.needs_jit
def test_threads_change_no_bit(rng, monkeypatch):
    """Batches of 70 rows, in four shards, the last one smaller."""
    monkeypatch.setattr("tsforecast.backends.cpu.threads.A_THREAD", 1)
    n, spec = 170, spec_of()
    starts = np.arange(n, dtype=np.int64)
    values, targets = rng.normal(size=n * T * F), rng.normal(size=n * 4)
    windows = Windows(values, starts * T * F, targets, starts * 4, np.ones(n))
    params = random_params(rng, spec)
    alone = one_epoch(CPU, spec, step_rule(), params, windows, 70)
    _, expected = one_epoch(REFERENCE, spec, step_rule(), params, windows, 70)
    np.testing.assert_allclose(alone[1], expected, rtol=0, atol=1e-11)
    for n_jobs in (2, 3):
        loss, found = one_epoch(CPU, spec, step_rule(), params, windows, 70, n_jobs)
        assert loss == alone[0]
        np.testing.assert_array_equal(found, alone[1])


def test_the_trainer_goes_through_stretches(rng, rows):
    spec = spec_of()
    params = random_params(rng, spec)
    state = TrainState(params.copy())
    rule = StepRule(solver="sgd", momentum=0.0, nesterov=False, max_grad_norm=None)
    config = TrainConfig(rule, learning_rate_init=0.1, batch_size=3, max_iter=1, shuffle=False)
    train(REFERENCE, spec, config, state, rows)
    np.testing.assert_array_equal(state.params, one_epoch(REFERENCE, spec, rule, params, rows, 3)[1])


@pytest.mark.parametrize(
    "other",
    [{"bidirectional": "sum"}, {"dilations": (2,)}, {"learned_state": True}, {"window_norm": "center"},
     {"decoder": "recurrent"}, {"dropout": 0.1}, {"zoneout": 0.1}],
    ids=str,
)  # fmt: skip
def test_networks_that_start_in_their_own_way_are_refused(other):
    with pytest.raises(ValueError, match="stateful=True carries states from window to window"):
        NetworkSpec(6, 2, (3,), 4, stateful=True, **other)
