"""The choices that decide accuracy, in one place: window length, transformation, and the default network.

They were found on public competition sets (M3, tourism, hospital); ``scripts/benchmark_accuracy.py`` scores them.
"""

from __future__ import annotations

import math

LINEAR_SKIP = True

# Seasons of series whose logarithm behaves better: years, quarters, months, weeks. Days and hours do without.
LOG_SEASONS = (1, 4, 12, 52)
LOG_SCALE = 2.0  # median standard deviations of a training window that make one model unit of a logarithm
FEW_WINDOWS = 400  # below, windows are 1 season: every step of a window is a parameter to learn
LONG_SERIES = 15  # seasons in the median series from which windows are 3 seasons instead of 2

# The default network takes at least and at most so many optimiser steps, within so many passes: few windows are seen
# more often than many, but not so often that they are learned by heart.
STEPS = (400, 2700)
EPOCHS = (8, 15)  # fewest, unless they are more than the most steps; most
BATCH_SIZES = (32, 256)
HIDDEN_UNITS = 24
LEARNING_RATE = 5e-3
MOST_WEIGHT = 10.0  # of a window in the loss, in units of the median
MAX_WINDOWS = 250_000  # more are thinned out evenly

# The unit of error of a series is at least this share of its standard deviation: one that repeats itself exactly has a
# seasonal naive error of 0 and would outweigh all others.
MIN_ERROR_SCALE = 0.05


def window_lengths(season_length: int, horizon: int, median_length: float, n_windows: int) -> tuple[int, int]:
    """Shortest and longest window that are taken when the user names none.

    1 season where that is few series or rows (``n_windows`` of 2 seasons), else 2, or 3 where series are long.

    Without a season (1) twice the horizon, at least 6 steps and at most 24; seasons above 31 steps are taken twice.
    """
    if season_length == 1:
        longest = max(6, min(24, 2 * horizon))
        return min(4, longest), longest
    if n_windows < FEW_WINDOWS:
        return season_length, season_length
    is_long = median_length >= LONG_SERIES * season_length and season_length <= 31
    return 2 * season_length, (3 if is_long else 2) * season_length


def training_length(n_windows: int) -> tuple[int, int]:
    """Batch size and number of passes for ``n_windows`` training windows."""
    smallest, largest = BATCH_SIZES
    batch = min(largest, max(smallest, 2 ** round(math.log2(max(n_windows, 1) / 16))))
    steps = math.ceil(n_windows / batch)  # of one pass
    passes = min(EPOCHS[1], max(EPOCHS[0], math.ceil(STEPS[0] / steps)))
    return batch, max(1, min(passes, round(STEPS[1] / steps)))


def window_norm(log: bool) -> str:
    """Logarithms share one scale, so only its level is taken from a window; others lose their own scale, too."""
    return "center" if log else "standard"


def default_estimator(n_windows: int, max_iter: int | None = None):
    """Return the network that a Forecaster trains when it is given none."""
    from tsforecast.estimators.lstm import LSTMRegressor

    batch_size, passes = training_length(n_windows)
    return LSTMRegressor(
        hidden_layer_sizes=(HIDDEN_UNITS,),
        loss="absolute_error",
        learning_rate_init=LEARNING_RATE,
        learning_rate="cosine",
        batch_size=batch_size,
        max_iter=passes if max_iter is None else max_iter,
        n_iter_no_change=passes if max_iter is None else max_iter,  # the cosine is run to its end
        max_grad_norm=1.0,
    )
