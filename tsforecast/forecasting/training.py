"""From a panel to a trained global model, and from windows to forecasts in model units.

Letters: S series, N windows, T steps of a window, K steps of the horizon.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsforecast.backends.base import Windows
from tsforecast.data.panel import Panel
from tsforecast.forecasting import models
from tsforecast.forecasting.defaults import LOG_SCALE
from tsforecast.forecasting.local import train_local
from tsforecast.forecasting.scaling import SeriesScaling, refuse_unscalable
from tsforecast.forecasting.windows import hold_out_last, training_windows, typical_spread, window_frames
from tsforecast.spec import NetworkSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A fitted model and the scaling of the series that it was fitted in."""

    scaling: SeriesScaling
    model: Any
    n_windows: int


@dataclass(frozen=True)
class Prepared:
    """A model before its training, and the windows for it in model units."""

    scaling: SeriesScaling
    model: Any
    windows: Windows
    held_out: Windows | None
    n_windows: int


@dataclass(frozen=True)
class Recipe:
    """What stays the same whenever a model of one Forecaster is trained.

    ``make_estimator(n_windows)`` returns an unfitted regressor.
    """

    spec: NetworkSpec
    log: bool
    make_estimator: Callable[[int], Any]
    random_state: Any = None
    n_jobs: int | None = None
    device: str | None = None
    local: bool = False  # a model for each series

    def train(self, panel: Panel) -> Trained:
        """Train on all windows of the panel: one model, or one for each series."""
        if self.local:
            n_jobs = getattr(self.make_estimator(1), "n_jobs", None) if self.n_jobs is None else self.n_jobs
            return Trained(*train_local(panel, self.prepare, self.spec, n_jobs))
        ready = self.prepare(panel)
        logger.info(
            "training %s on %d windows of %d series, up to %s passes",
            type(ready.model).__name__, ready.n_windows, len(panel), getattr(ready.model, "max_iter", 1),
        )  # fmt: skip
        return Trained(
            ready.scaling, models.fit_model(ready.model, ready.windows, self.spec, ready.held_out), ready.n_windows
        )

    def prepare(self, panel: Panel) -> Prepared:
        """Do all but train, for one model of the whole panel."""
        scaling = SeriesScaling.fit(panel, self.spec.season_length, self.log)
        if self.log:
            scaling = scaling.divided_by(LOG_SCALE * typical_spread(panel, scaling.apply(panel), self.spec))
        z = scaling.apply(panel)
        windows = training_windows(panel, z, scaling, self.spec)
        estimator = self.make_estimator(len(windows))
        model = models.configure(estimator, self.spec, self.random_state, self.n_jobs, self.device)
        refuse_unscalable(panel, z, models.compute_dtype(model))
        n_windows, held_out = len(windows), None
        if models.stops_early(model):
            windows, held_out = hold_out_last(windows, panel, self.spec, model.validation_fraction)
        return Prepared(scaling, model, windows, held_out, n_windows)


def forecast(model, z: np.ndarray, starts: np.ndarray, series: np.ndarray, spec: NetworkSpec) -> np.ndarray:
    """Forecast ``[N, K]`` in model units from the windows of ``z`` that start at ``starts [N]``, of ``series [N]``.

    A window without variation forecasts its constant: there is no scale in which to expect anything else.
    """
    if models.is_local(model):
        out = model.predict(z, starts, series, spec)
    else:
        out = models.predict_model(model, z, starts, spec)
    constant = window_frames(z, starts, spec).constant
    out[constant] = z[starts[constant], None]
    return out
