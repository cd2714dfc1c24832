"""What a fitted Forecaster knows, as one value: it forecasts and takes new rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tsforecast.data.panel import Panel
from tsforecast.exceptions import DataError
from tsforecast.forecasting import models
from tsforecast.forecasting.conformal import half_widths
from tsforecast.forecasting.scaling import SeriesScaling, refuse_beyond, refuse_nonpositive, refuse_unscalable
from tsforecast.forecasting.training import forecast
from tsforecast.forecasting.windows import last_windows, refuse_short
from tsforecast.spec import NetworkSpec


@dataclass(frozen=True)
class FittedState:
    """A trained model and the end of every series.

    ``panel`` holds the last T rows of each series, ``scaling`` what was learned of them, ``scores [n, K]`` the errors
    that intervals are made of (None: not calibrated), ``alias`` the name of the forecast column.
    """

    spec: NetworkSpec
    model: Any
    scaling: SeriesScaling
    scores: np.ndarray | None
    panel: Panel
    alias: str

    def columns(self, h: int, levels: list[float]) -> dict[str, np.ndarray]:
        """Forecast h steps of every series: flat columns of h values a series, all finite."""
        panel = self.panel
        series = np.arange(len(panel))
        z = forecast(self.model, self.scaling.apply(panel), last_windows(panel, self.spec), series, self.spec)[:, :h]
        last = panel.values[panel.indptr[1:] - 1]
        columns = self._to_data(z, series, self.scaling.constant, last, levels)
        return {name: values.ravel() for name, values in columns.items()}

    def columns_from(self, panel: Panel, back: np.ndarray, h: int, levels: list[float]) -> dict[str, np.ndarray]:
        """Forecast h steps from several past origins of every series, in one pass: ``[S, C, h]`` a column.

        The same bits as ``append`` and ``columns``, origin by origin.

        Parameters
        ----------
        panel : Panel
            The series of this state, from their first row to the last origin of each.
        back : ndarray of int64 [C]
            Rows of each series that an origin leaves out at the end; falling, the first being the end of this state.
        h : int
            Steps.
        levels : list of float
            Coverages of intervals.
        """
        s, c = len(panel), len(back)
        ends = panel.indptr[1:, None] - back
        z = self._checked_scaled(panel, rows_since=int(back[0]))
        series = np.repeat(np.arange(s), c)
        forecasts = forecast(self.model, z, (ends - self.spec.n_timesteps).ravel(), series, self.spec)[:, :h]
        unlike = panel.values != np.repeat(panel.values[panel.indptr[:-1]], panel.lengths)
        place = np.where(unlike, np.arange(len(unlike)), len(unlike))
        constant = ends <= np.minimum.reduceat(place, panel.indptr[:-1])[:, None]
        columns = self._to_data(forecasts, series, constant.ravel(), panel.values[ends - 1].ravel(), levels)
        return {name: values.reshape(s, c, h) for name, values in columns.items()}

    def _checked_scaled(self, panel: Panel, rows_since: int) -> np.ndarray:
        """Values of ``panel`` in model units; the last ``rows_since`` of each series are new and looked at first."""
        if rows_since:
            new = panel.tail(rows_since)
            refuse_beyond(new, models.compute_dtype(self.model))
            if self.scaling.log:
                refuse_nonpositive(new)
        z = self.scaling.apply(panel)
        if rows_since:
            refuse_unscalable(panel, z, models.compute_dtype(self.model))
        return z

    def _to_data(
        self,
        z: np.ndarray,  # [N, h] forecasts in model units
        series: np.ndarray,  # [N]
        constant: np.ndarray,  # [N] the whole history is one value
        last: np.ndarray,  # [N] last value of the history
        levels: list[float],
    ) -> dict[str, np.ndarray]:
        """Forecasts and intervals in the units of the data: ``[N, h]`` a column, all finite."""
        bands = {self.alias: z}
        for level in levels:
            assert self.scores is not None
            half = half_widths(self.scores, level)[: z.shape[1]] * self.scaling.error_scale[series, None]
            bands |= {f"{self.alias}-lo-{level:g}": z - half, f"{self.alias}-hi-{level:g}": z + half}
        columns = {}
        for name, band in bands.items():
            # A history that never varied gives the constant itself, to the bit, and intervals of no width.
            columns[name] = np.where(constant[:, None], last[:, None], self.scaling.invert(band, series))
        for name, values in columns.items():
            if not np.isfinite(values).all():
                s = series[int(np.flatnonzero(~np.isfinite(values))[0]) // z.shape[1]]
                raise DataError(
                    f"{name!r} of series {self.panel.ids[s]!r} is not a finite number; check its last values"
                )
        return columns

    def append(self, new: Panel) -> FittedState:
        """Take rows that follow the last ones; series that are new are scaled by their own rows."""
        refuse_beyond(new, models.compute_dtype(self.model))
        if self.scaling.log:
            refuse_nonpositive(new)
        joined = self.panel.append(new)
        refuse_short(joined, self.spec.n_timesteps)
        own = SeriesScaling.fit(joined, self.spec.season_length, self.scaling.log)
        place = {(type(name), name): s for s, name in enumerate(self.panel.ids)}
        source = np.array([place.get((type(name), name), -1) for name in joined.ids], dtype=np.int64)
        known = source >= 0
        if models.is_local(self.model) and not known.all():
            raise DataError(
                f"series {joined.ids[np.argmin(known)]!r} was not there in fit, and scope='local' forecasts each "
                "series with a model of its own; fit again, or fit with scope='global'"
            )
        for field in ("location", "scale", "error_scale"):
            getattr(own, field)[known] = getattr(self.scaling, field)[source[known]]
        own.constant[known] &= self.scaling.constant[source[known]]
        refuse_unscalable(joined, own.apply(joined), models.compute_dtype(self.model))
        return replace(self, scaling=own, panel=joined.tail(self.spec.n_timesteps))


def make_spec(n_timesteps: int, horizon: int, season_length: int, window_norm: str, linear_skip: bool) -> NetworkSpec:
    """Describe how windows enter and leave; the layers are the estimator's own business."""
    return NetworkSpec(
        n_timesteps=n_timesteps,
        n_features=1,
        hidden_sizes=(),
        n_outputs=horizon,
        window_norm=window_norm,
        season_length=season_length,
        linear_skip=linear_skip,
    )
