"""Which windows of a panel a model is trained on and forecasts from; they are start indices, never copies.

Letters: S series, N windows, T steps of a window, K steps of the horizon.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    starts, series = training_starts(panel, spec)
    frames = window_frames(z, starts, spec)
    if not frames.constant.all():
        rows = ~frames.constant
        starts, series, frames = starts[rows], series[rows], frames.take(rows)
    weights = frames.scale * scaling.importance(panel, frames.centre, series, spec.season_length)
    weights = np.minimum(weights, defaults.MOST_WEIGHT * np.median(weights))
    return Windows(z, starts, z, starts + spec.n_timesteps, weights / weights.mean())


def hold_out_last(windows: Windows, panel: Panel, spec: NetworkSpec, fraction: float) -> tuple[Windows, Windows]:
    """Hold out the last windows of every series for early stopping.

    Windows less than ``max(T, K)`` rows before the first held-out one are used by neither side, so that no training
    window shares an input step or a target with a held-out one.

    Raises
    ------
    NotEnoughHistoryError
        If no training window remains.
    """
    series = np.searchsorted(panel.indptr, windows.x_starts, side="right") - 1
    counts = np.bincount(series, minlength=len(panel))
    n_held = np.ceil(counts * fraction).astype(np.int64)
    ends = np.cumsum(counts)
    held = np.arange(len(series)) >= (ends - n_held)[series]
    first_held = np.full(len(panel), np.iinfo(np.int64).max)
    np.minimum.at(first_held, series[held], windows.x_starts[held])
    kept = windows.x_starts <= first_held[series] - max(spec.n_timesteps, spec.n_outputs)
    if not kept.any():
        raise NotEnoughHistoryError(
            f"early_stopping=True holds out {fraction:.0%} of the windows and leaves none of {len(series)} to train "
            "on; bring more history, lower validation_fraction, or set early_stopping=False"
        )
    return windows.take(kept), windows.take(held)


def training_starts(panel: Panel, spec: NetworkSpec) -> tuple[np.ndarray, np.ndarray]:
    """Starts of the windows to train on and their series, both [N]; see ``training_windows``."""
    span = spec.n_timesteps + spec.n_outputs
    counts = np.maximum(panel.lengths - span + 1, 0)
    stride = max(1, -(-int(counts.sum()) // defaults.MAX_WINDOWS))
    kept = -(-counts // stride)
    series = np.repeat(np.arange(len(panel)), kept)
    back = np.arange(len(series)) - np.repeat(np.cumsum(kept) - kept, kept)  # 0 is the first kept window of a series
    return panel.indptr[1:][series] - span - (kept[series] - 1 - back) * stride, series


def last_windows(panel: Panel, spec: NetworkSpec) -> np.ndarray:
    """Start of the last window of each series [S]; every series must have T rows (see ``refuse_short``)."""
    return panel.indptr[1:] - spec.n_timesteps


def typical_spread(panel: Panel, z: np.ndarray, spec: NetworkSpec) -> float:
    """Median standard deviation of the training windows, in model units; 1 where no window varies."""
    starts, _ = training_starts(panel, spec)
    frames = window_frames(z, starts, replace(spec, window_norm="standard"))
    return 1.0 if frames.constant.all() else float(np.median(frames.scale[~frames.constant]))


@dataclass(frozen=True)
class WindowFrames:
    """Level and scale of the normalisation of windows, and whether all their steps are equal; all [N]."""

    centre: np.ndarray
    scale: np.ndarray
    constant: np.ndarray

    def take(self, rows) -> WindowFrames:
        """Keep these windows."""
        return WindowFrames(self.centre[rows], self.scale[rows], self.constant[rows])


def window_frames(z: np.ndarray, starts: np.ndarray, spec: NetworkSpec) -> WindowFrames:
    """Normalise the windows that start at ``starts [N]``, a chunk at a time."""
    n = len(starts)
    frames = WindowFrames(np.zeros(n), np.ones(n), np.zeros(n, bool))
    for first in range(0, n, CHUNK):
        rows = slice(first, first + CHUNK)
        x = gather(z, starts[rows], spec)
        frame = normalise(x, spec)[1]
        frames.centre[rows], frames.scale[rows] = frame.location[:, 0], frame.scale[:, 0]
        frames.constant[rows] = (x == x[:, :1]).all(axis=(1, 2))
    return frames


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
