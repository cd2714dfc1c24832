"""Prediction intervals by split conformal prediction, one half-width a horizon step.

Scores are absolute errors of forecasts of rows that the scoring model has not seen, in each series' own unit of error,
pooled over series. With n scores of a step, sorted, the half-width for coverage 1 - a is the score number
``ceil((n + 1) (1 - a))``: if scores are exchangeable, a new one lies below it with probability at least 1 - a.

V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, Springer, 2005.
J. Lei, M. G'Sell, A. Rinaldo, R. J. Tibshirani, L. Wasserman, Distribution-Free Predictive Inference for Regression,
JASA 113, 2018.

Scores of neighbouring windows of one series are not exchangeable, so for a single short series the promise is
approximate.

Letters: S series, K steps, T steps of a window, m season length, c origins scored a series, n = scores of a step.
"""

from __future__ import annotations

import logging
import math
from statistics import NormalDist

import numpy as np

from tsforecast.data.panel import Panel
from tsforecast.forecasting import models
from tsforecast.forecasting.scaling import SeriesScaling, refuse_unscalable
from tsforecast.forecasting.training import Recipe, forecast

logger = logging.getLogger(__name__)

WANTED_SCORES = 200  # of a step: the 95 % quantile of fewer is noisy, of more costs training rows
FEWEST_SCORES = 10  # below, the seasonal naive errors of the whole history tell more than the model's
LEAST_TRAINING = 1 / 3  # of the windows must stay for the model that is scored


def calibration_scores(panel: Panel, recipe: Recipe) -> np.ndarray:
    """Score forecasts of the last rows by a model trained without them: ``[n, K]``, in units of error.

    Where too little history would be left to train on, the scores are the errors of the seasonal naive forecast
    over the whole history: honest for it, and a little wide for a model that beats it.
    """
    spec = recipe.spec
    span, k = spec.n_timesteps + spec.n_outputs, spec.n_outputs
    least = span if recipe.local else spec.n_timesteps  # rows of a scored series, besides those held out
    origins = _choose_origins(panel.lengths, span, k, spec.season_length, least)
    if origins == 0:
        logger.info("calibrating intervals on seasonal naive errors: too little history to hold rows out")
        return _naive_scores(panel, recipe)
    drop = k + origins - 1
    logger.info("calibrating intervals: a model without the last %d rows of each series is scored on them", drop)
    full = panel.select(np.flatnonzero(panel.lengths - drop >= least))
    trained = recipe.train(full.head(drop))
    z = trained.scaling.apply(full)
    refuse_unscalable(full, z, models.compute_dtype(trained.model))
    ends = full.indptr[1:, None] - k - np.arange(origins)  # one past the last row of each scored window
    series = np.repeat(np.arange(len(full)), origins)
    predicted = forecast(trained.model, z, (ends - spec.n_timesteps).ravel(), series, spec)
    actual = z[ends.ravel()[:, None] + np.arange(k)]
    # In the unit that widths are later multiplied with: the unit of the shortened history can be tiny, or none at all.
    unit = SeriesScaling.fit(full, spec.season_length, recipe.log).unit_of_error / trained.scaling.scale
    return np.abs(actual - predicted) / np.repeat(unit, origins)[:, None]


def _choose_origins(lengths, span, k, season_length, least) -> int:
    """Return how many origins of each series to score (c); 0 where that would leave too little to train on."""
    total = np.maximum(lengths - span + 1, 0).sum()
    wanted = min(max(-(-WANTED_SCORES // len(lengths)), 1), 2 * max(season_length, k, 12))
    for origins in range(wanted, 0, -1):
        left = np.maximum(lengths - (k + origins - 1) - span + 1, 0).sum()
        scored = (lengths - (k + origins - 1) >= least).sum() * origins
        if left >= max(LEAST_TRAINING * total, 1) and scored >= FEWEST_SCORES:
            return origins
    return 0


def _naive_scores(panel, recipe) -> np.ndarray:
    """Errors of the last season repeated, from every origin that has a season before and K rows after it."""
    m, k = recipe.spec.season_length, recipe.spec.n_outputs
    scaling = SeriesScaling.fit(panel, m, recipe.log)
    z = scaling.apply(panel)
    counts = np.maximum(panel.lengths - m - k + 1, 0)
    series = np.repeat(np.arange(len(panel)), counts)
    origin = np.arange(len(series)) - np.repeat(np.cumsum(counts) - counts, counts) + panel.indptr[series] + m
    steps = np.arange(k)
    naive = z[origin[:, None] - m + steps % m]
    return np.abs(z[origin[:, None] + steps] - naive) / scaling.error_scale[series][:, None]


def half_widths(scores: np.ndarray, level: float) -> np.ndarray:
    """Half-width of the interval of each step ``[K]`` for a coverage of ``level`` per cent.

    Where the level asks for more than n scores can tell (95 % needs 19), the largest score is stretched as the
    quantiles of a normal distribution are.
    """
    n = len(scores)
    rank = math.ceil((n + 1) * level / 100 - 1e-9)
    ordered = np.sort(scores, axis=0)
    if rank <= n:
        return ordered[rank - 1]
    reach = NormalDist().inv_cdf((1 + n / (n + 1)) / 2)
    return ordered[-1] * (NormalDist().inv_cdf((1 + level / 100) / 2) / reach)
