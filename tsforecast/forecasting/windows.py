"""Which windows of a panel a model is trained on and forecasts from; they are start indices, never copies.

Letters: S series, N windows, T steps of a window, K steps of the horizon.
"""

from __future__ import annotations

import numpy as np

from tsforecast.backends.base import Windows
from tsforecast.backends.reference.windows import gather, normalise
from tsforecast.data.panel import Panel
from tsforecast.exceptions import NotEnoughHistoryError
from tsforecast.forecasting import defaults
from tsforecast.forecasting.scaling import SeriesScaling
from tsforecast.spec import NetworkSpec

CHUNK = 8192  # windows looked at together: bounds memory, changes no number


def training_windows(panel: Panel, z: np.ndarray, scaling: SeriesScaling, spec: NetworkSpec) -> Windows:
    """All windows with a full target, weighted so that the loss counts in each series' own unit of error.

    Parameters
    ----------
    panel : Panel
        The training rows.
    z : ndarray of float64 [R]
        Their values in model units.
    scaling : SeriesScaling
        Gives the unit of error of each series.
    spec : NetworkSpec
        Gives T, K and the normalisation, whose scale turns a normalised error into model units.

    Notes
    -----
    Windows without variation say nothing after normalisation and are left out (unless there are no others). Above
    ``defaults.MAX_WINDOWS`` every k-th window is kept, counted from the end of each series.
    """
    span = spec.n_timesteps + spec.n_outputs
    counts = np.maximum(panel.lengths - span + 1, 0)
    stride = max(1, -(-int(counts.sum()) // defaults.MAX_WINDOWS))
    kept = -(-counts // stride)
    series = np.repeat(np.arange(len(panel)), kept)
    back = np.arange(len(series)) - np.repeat(np.cumsum(kept) - kept, kept)  # 0 is the first kept window of a series
    starts = panel.indptr[1:][series] - span - (kept[series] - 1 - back) * stride
    scale, constant = window_scales(z, starts, spec)
    if not constant.all():
        starts, series, scale = starts[~constant], series[~constant], scale[~constant]
    weights = scale / scaling.error_scale[series]
    return Windows(z, starts, z, starts + spec.n_timesteps, weights / weights.mean())


def last_windows(panel: Panel, spec: NetworkSpec) -> np.ndarray:
    """Start of the last window of each series [S]; every series must have T rows (see ``refuse_short``)."""
    return panel.indptr[1:] - spec.n_timesteps


def window_scales(z: np.ndarray, starts: np.ndarray, spec: NetworkSpec) -> tuple[np.ndarray, np.ndarray]:
    """Scale of the normalisation of each window [N], and whether all its steps are equal [N]."""
    scales, constant = np.ones(len(starts)), np.zeros(len(starts), bool)
    for first in range(0, len(starts), CHUNK):
        rows = slice(first, first + CHUNK)
        x = gather(z, starts[rows], spec)
        scales[rows] = normalise(x, spec)[1].scale[:, 0]
        constant[rows] = (x == x[:, :1]).all(axis=(1, 2))
    return scales, constant


def choose_n_timesteps(panel: Panel, season_length: int, horizon: int) -> int:
    """Pick the window length: 2 to 3 seasons, as long as the shortest series can train with, if it can.

    Raises ``NotEnoughHistoryError`` where no series holds one season and one horizon.
    """
    shortest, longest = int(panel.lengths.min()), int(panel.lengths.max())
    low, high = defaults.window_lengths(season_length, horizon)
    steps = min(max(shortest - horizon, low), high)
    steps = min(steps, longest - horizon)
    needed = max(season_length, 2)
    if steps < needed:
        refuse_untrainable(panel, needed, horizon)
    return max(min(steps, shortest), needed)


def refuse_untrainable(panel: Panel, n_timesteps: int, horizon: int) -> None:
    """Raise because not even the longest series gives one training window."""
    s = int(np.argmax(panel.lengths))
    raise NotEnoughHistoryError(
        f"no series is long enough to train on: the longest, {panel.ids[s]!r}, has {panel.lengths[s]} rows, and one "
        f"window of {n_timesteps} plus a horizon of {horizon} need {n_timesteps + horizon}; bring more history, or "
        "choose a shorter horizon, n_timesteps or season_length"
    )


def refuse_short(panel: Panel, n_timesteps: int) -> None:
    """Raise where a series has fewer rows than one input window, naming up to five of them."""
    short = np.flatnonzero(panel.lengths < n_timesteps)
    if len(short):
        named = ", ".join(f"{panel.ids[s]!r} ({panel.lengths[s]} rows)" for s in short[:5])
        more = f" and {len(short) - 5} more" if len(short) > 5 else ""
        raise NotEnoughHistoryError(
            f"{len(short)} of {len(panel)} series are shorter than one window of {n_timesteps} steps: {named}{more}; "
            "leave them out, bring more history, or choose a smaller n_timesteps (and season_length)"
        )
