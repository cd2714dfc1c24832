"""How long the default network is trained, and how long its windows are."""

import math

import pytest

from tsforecast.forecasting import defaults


@pytest.mark.parametrize("n_windows", [1, 20, 97, 500, 3000, 20_000, 100_000, 250_000])
def test_training_length(n_windows):
    """Enough steps unless that would take too many passes, and not too many unless that would be less than one."""
    batch, passes = defaults.training_length(n_windows)
    one_pass = math.ceil(n_windows / batch)
    assert defaults.BATCH_SIZES[0] <= batch <= defaults.BATCH_SIZES[1]
    assert passes * one_pass >= defaults.STEPS[0] or passes == defaults.EPOCHS[1]
    assert passes * one_pass <= defaults.STEPS[1] + one_pass / 2
    assert passes >= defaults.EPOCHS[0] or (passes + 1) * one_pass > defaults.STEPS[1]


def test_the_default_network():
    network = defaults.default_estimator(97)
    assert (network.hidden_layer_sizes, network.loss, network.learning_rate) == ((24,), "absolute_error", "cosine")
    assert (network.batch_size, network.max_iter) == defaults.training_length(97)
    assert defaults.default_estimator(97, 7).max_iter == 7


@pytest.mark.parametrize(
    ("season", "horizon", "median_length", "n_windows", "lengths"),
    [
        (12, 18, 200, 5000, (24, 36)),
        (12, 18, 180, 400, (24, 36)),
        (12, 18, 179, 400, (24, 24)),
        (12, 18, 500, 399, (12, 12)),
        (52, 8, 5000, 5000, (104, 104)),
        (1, 6, 50, 5, (4, 12)),
        (1, 1, 50, 500, (4, 6)),
    ],
)
def test_window_lengths(season, horizon, median_length, n_windows, lengths):
    assert defaults.window_lengths(season, horizon, median_length, n_windows) == lengths


def test_logarithms_keep_their_scale():
    assert (defaults.window_norm(True), defaults.window_norm(False)) == ("center", "standard")
