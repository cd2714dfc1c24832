"""The choices that decide accuracy, in one place: window length, transformation, and the default network.

They were found on public competition sets (M3, tourism, hospital); ``scripts/benchmark_accuracy.py`` scores them.
"""

from __future__ import annotations

import math

WINDOW_NORM = "standard"
LINEAR_SKIP = True

# The default network is trained for about this many optimiser steps: few windows are seen more often than many.
TARGET_STEPS = 600
EPOCHS = (10, 200)  # fewest, most passes
BATCH_SIZES = (32, 256)
MAX_WINDOWS = 250_000  # more are thinned out evenly

# The unit of error of a series is at least this share of its standard deviation: one that repeats itself exactly has a
# seasonal naive error of 0 and would outweigh all others.
MIN_ERROR_SCALE = 0.05


def window_lengths(season_length: int, horizon: int) -> tuple[int, int]:
    """Shortest and longest window that are taken when the user names none: 2 to 3 seasons.

    Without a season (1) twice the horizon, at least 6 steps and at most 24; seasons above 31 steps are taken twice.
    """
    if season_length == 1:
        longest = max(6, min(24, 2 * horizon))
        return min(4, longest), longest
    return 2 * season_length, (3 if season_length <= 31 else 2) * season_length


def training_length(n_windows: int) -> tuple[int, int]:
    """Batch size and number of passes for ``n_windows`` training windows."""
    smallest, largest = BATCH_SIZES
    batch = min(largest, max(smallest, 2 ** round(math.log2(max(n_windows, 1) / 16))))
    fewest, most = EPOCHS
    passes = math.ceil(TARGET_STEPS / math.ceil(n_windows / batch))
    return batch, min(most, max(fewest, passes))


def default_estimator(n_windows: int, max_iter: int | None = None):
    """Return the network that a Forecaster trains when it is given none."""
    from tsforecast.estimators.regressors import LSTMRegressor

    batch_size, passes = training_length(n_windows)
    return LSTMRegressor(
        hidden_layer_sizes=(32,),
        loss="absolute_error",
        learning_rate_init=2e-3,
        learning_rate="cosine",
        batch_size=batch_size,
        max_iter=passes if max_iter is None else max_iter,
        n_iter_no_change=passes if max_iter is None else max_iter,  # the cosine is run to its end
        max_grad_norm=1.0,
    )
