"""How long the default network is trained, and how long its windows are."""

import math

import pytest

from tsforecast.forecasting import defaults


@pytest.mark.parametrize("n_windows", [1, 20, 97, 500, 3000, 20_000, 100_000, 250_000])
def test_training_length(n_windows):
    """About the wanted number of steps, unless that would take too few or too many passes."""
    batch, passes = defaults.training_length(n_windows)
    steps = passes * math.ceil(n_windows / batch)
    assert defaults.BATCH_SIZES[0] <= batch <= defaults.BATCH_SIZES[1]
    if defaults.EPOCHS[0] < passes < defaults.EPOCHS[1]:
        assert defaults.TARGET_STEPS <= steps < defaults.TARGET_STEPS + math.ceil(n_windows / batch)
    else:
        assert passes in defaults.EPOCHS


def test_the_default_network():
    network = defaults.default_estimator(97)
    assert (network.hidden_layer_sizes, network.loss, network.learning_rate) == ((32,), "absolute_error", "cosine")
    assert (network.batch_size, network.max_iter) == defaults.training_length(97)
    assert defaults.default_estimator(97, 7).max_iter == 7


@pytest.mark.parametrize(
    ("season", "horizon", "lengths"), [(12, 18, (24, 36)), (52, 8, (104, 104)), (1, 6, (4, 12)), (1, 1, (4, 6))]
)
def test_window_lengths(season, horizon, lengths):
    assert defaults.window_lengths(season, horizon) == lengths
