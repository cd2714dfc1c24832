"""One model for each series: trained side by side, each to the bits of a Forecaster of that series alone.

Letters: S series, N windows, T steps of a window, K steps of the horizon, m season length.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tsforecast.data.panel import Panel
from tsforecast.exceptions import NotEnoughHistoryError
from tsforecast.forecasting import models
from tsforecast.forecasting.scaling import SeriesScaling
from tsforecast.spec import NetworkSpec

logger = logging.getLogger(__name__)
NAMED = 5  # series in messages


class LocalModels(Mapping):
    """The fitted model of every series, by id; None where training diverged.

    Parameters
    ----------
    ids : sequence
        Ids of the series, in the order of their panel.
    fitted : list
        Their models.
    """

    def __init__(self, ids, fitted: list[Any]):
        self._place = {name: s for s, name in enumerate(ids)}
        self.fitted = fitted

    def __getitem__(self, name):
        return self.fitted[self._place[name]]

    def __iter__(self):
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)

    @property
    def dtype(self) -> str:
        """The narrowest type that a model computes in."""
        dtypes = {models.compute_dtype(model) for model in self.fitted if model is not None}
        return "float64" if dtypes == {"float64"} else "float32"

    def predict(self, values: np.ndarray, starts: np.ndarray, series: np.ndarray, spec: NetworkSpec) -> np.ndarray:
        """Forecast ``[N, K]`` in model units for windows of ``values`` that start at ``starts``, of the ``series`` [N].

        Without a model, the last season is repeated.
        """
        out = np.empty((len(starts), spec.n_outputs))
        order = np.argsort(series, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(series[order])) + 1):
            model, own = self.fitted[series[rows[0]]], starts[rows]
            if model is None:
                season = own[:, None] + spec.n_timesteps - spec.season_length
                out[rows] = values[season + np.arange(spec.n_outputs) % spec.season_length]
            else:  # of its own part of the values, since a model looks at all that it is given
                first, last = own.min(), own.max() + spec.n_timesteps
                out[rows] = models.predict_model(model, values[first:last], own - first, spec)
        return out


def train_local(
    panel: Panel, prepare: Callable[[Panel], Any], spec: NetworkSpec, n_jobs: int | None
) -> tuple[SeriesScaling, LocalModels, int]:
    """Train a model for every series; the scalings of all, the models, and how many windows there were.

    Parameters
    ----------
    panel : Panel
        Every series long enough to train on.
    prepare : callable
        ``Recipe.prepare``.
    spec : NetworkSpec
        The windows of all.
    n_jobs : int or None
        Threads for our networks; other regressors are fitted one after the other.
    """
    scalings: list[SeriesScaling] = []
    fitted: list[Any] = []
    n_windows = 0
    logger.info("training %d models, one a series", len(panel))

    def work() -> Iterator[tuple]:
        nonlocal n_windows
        for s in range(len(panel)):
            prepared = prepare(panel.one(s))
            scalings.append(prepared.scaling)
            n_windows += prepared.n_windows
            if models.is_native(prepared.model):
                fitted.append(prepared.model)
                make_job = models.job_maker(prepared.windows, spec, prepared.held_out)
                yield prepared.model, make_job, repr(panel.ids[s]), {}
            else:
                fitted.append(models.fit_model(prepared.model, prepared.windows, spec, prepared.held_out))

    failed = dict(models.fit_side_by_side(work(), n_jobs))
    for s, name in enumerate(panel.ids):
        if repr(name) in failed:
            fitted[s] = None
    if failed:
        shown = "; ".join(f"{name}: {error}" for name, error in list(failed.items())[:NAMED])
        more = f"; and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        warnings.warn(
            f"training diverged for {len(failed)} of {len(panel)} series; they are forecast by their last season "
            f"repeated. {shown}{more}",
            stacklevel=2,
        )
    return SeriesScaling.joined(scalings), LocalModels(panel.ids, fitted), n_windows


def refuse_untrained(panel: Panel, n_timesteps: int, horizon: int) -> None:
    """Raise where a series has too few rows for a model of its own, naming up to five of them."""
    needed = n_timesteps + horizon
    short = np.flatnonzero(panel.lengths < needed)
    if len(short):
        named = ", ".join(f"{panel.ids[s]!r} ({panel.lengths[s]} rows)" for s in short[:NAMED])
        more = f" and {len(short) - NAMED} more" if len(short) > NAMED else ""
        raise NotEnoughHistoryError(
            f"scope='local' trains a model for each series, which takes one window of {n_timesteps} steps and a "
            f"horizon of {horizon}, {needed} rows; {len(short)} of {len(panel)} series have fewer: {named}{more}; "
            "leave them out, choose a smaller n_timesteps or horizon, or scope='global'"
        )
