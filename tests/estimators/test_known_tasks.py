"""Tasks whose answer is known, learned end to end by ``scripts/known_tasks.py``: long memory, and a chaotic series."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "known_tasks.py"


@pytest.fixture(scope="module")
def tasks():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@pytest.mark.needs_jit
def test_an_lstm_adds_numbers_200_steps_apart_and_a_plain_network_does_not(tasks):
    variance = 2 / 12  # what answering the mean leaves
    assert tasks.adding(tasks.lstm_for_adding)[0] < 0.02
    assert tasks.adding(tasks.rnn_for_adding)[0] > 0.9 * variance


@pytest.mark.needs_jit
def test_the_gradient_of_the_last_50_steps_is_enough_to_add(tasks):
    """How to read a marked number is learned from the second; chrono biases keep the first from the start."""
    assert tasks.adding(lambda seed: tasks.lstm_for_adding(seed).set_params(bptt_steps=50))[0] < 0.02


@pytest.mark.needs_jit
def test_a_gru_copies_20_signs_over_50_steps(tasks):
    wrong, _ = tasks.copying(tasks.gru_for_copying)
    assert wrong <= 0.01


@pytest.mark.needs_jit
def test_an_lstm_forecasts_a_chaotic_series(tasks):
    error, _ = tasks.chaos(tasks.lstm_for_chaos)
    assert error < 0.01


def test_the_tasks_are_what_they_are_called(tasks):
    """One marker in each half; signs, then zeros; a series that obeys its equation and that no linear forecast gets."""
    X, y = tasks.adding_windows(50, 0)
    assert (X[:, :100, 1].sum(axis=1) == 1).all()
    assert (X[:, 100:, 1].sum(axis=1) == 1).all()
    np.testing.assert_array_equal((X[..., 0] * X[..., 1]).sum(axis=1), y)
    X, y = tasks.copy_windows(50, 0)
    np.testing.assert_array_equal(X, np.hstack([y, np.zeros((50, 50))]))
    assert set(y.ravel()) == {-1.0, 1.0}
    x = tasks.mackey_glass(600, every=1)
    slope = (x[19:] - x[17:-2]) / 2  # of step 18 on, where step 1 is 17 before
    expected = 0.2 * x[1:-18] / (1 + x[1:-18] ** 10) - 0.1 * x[18:-1]
    assert np.abs(slope - expected).max() < 0.01, (
        "a central difference of step 1 errs by a sixth of the third derivative"
    )
    x = tasks.mackey_glass(1000)
    lags = np.c_[np.lib.stride_tricks.sliding_window_view(x[:-1], 20), np.ones(980)]
    residual = x[20:] - lags @ np.linalg.lstsq(lags, x[20:], rcond=None)[0]
    assert residual.std() > 0.2 * x.std()
