"""What a fitted Forecaster knows, as one value: it forecasts, takes new rows, and becomes arrays for a model file."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Any

import narwhals as nw
import numpy as np

from tsforecast.data.frames import FrameKind
from tsforecast.data.frequency import Frequency
from tsforecast.data.panel import Columns, Panel
from tsforecast.exceptions import DataError, ModelFileError
from tsforecast.forecasting import models
from tsforecast.forecasting.conformal import half_widths
from tsforecast.forecasting.scaling import SeriesScaling, refuse_beyond, refuse_nonpositive, refuse_unscalable
from tsforecast.forecasting.training import forecast
from tsforecast.forecasting.windows import last_windows, refuse_short
from tsforecast.spec import NetworkSpec

# What a network and the Forecaster around it both say of the windows.
_SHARED = ("n_timesteps", "n_features", "n_outputs", "season_length", "window_norm", "linear_skip")


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

    # ---------------------------------------------------------- model files

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Split into arrays and plain values; ``ModelFileError`` for what only Python could rebuild."""
        if models.is_local(self.model):
            raise ModelFileError(
                "a Forecaster with scope='local' is not stored in a model file; save each model of "
                "forecaster.estimator_ by itself, or use scope='global' (joblib.dump works, too, in trusted hands)"
            )
        if not models.is_native(self.model):
            raise ModelFileError(
                f"a Forecaster around a {type(self.model).__name__} cannot be stored without pickle; only the networks "
                "of tsforecast can (joblib.dump works for the others, in trusted hands)"
            )
        panel, scaling = self.panel, self.scaling
        model_arrays, model_meta = self.model._model_state()
        arrays = {f"model.{name}": array for name, array in model_arrays.items()}
        arrays |= {
            "values": panel.values,
            "indptr": panel.indptr,
            "times": panel.times.view(np.int64),
            **_ids_out(panel.ids),
        }
        arrays |= {"location": scaling.location, "scale": scaling.scale, "error_scale": scaling.error_scale}
        arrays["constant"] = scaling.constant.astype(np.uint8)
        if self.scores is not None:
            arrays["scores"] = self.scores
        meta = {
            "model_class": type(self.model).__name__,
            "model": model_meta,
            "n_timesteps": self.spec.n_timesteps,
            "horizon": self.spec.n_outputs,
            "season_length": self.spec.season_length,
            "window_norm": self.spec.window_norm,
            "linear_skip": self.spec.linear_skip,
            "log": scaling.log,
            "alias": self.alias,
            "freq": panel.freq.text,
            "integer_time": panel.freq.is_integer,
            "time_dtype": str(panel.times.dtype),
            "dates": panel.kind.time_dtype == nw.Date,
            "tz": panel.tz,
            "library": panel.kind.library,
            "columns": [panel.columns.id, panel.columns.time, panel.columns.target],
        }
        return arrays, meta

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> FittedState:
        """Rebuild what ``to_arrays`` split, after checking that the parts fit together."""
        spec = make_spec(
            meta["n_timesteps"], meta["horizon"], meta["season_length"], meta["window_norm"], meta["linear_skip"]
        )
        inner = {name[6:]: array for name, array in arrays.items() if name.startswith("model.")}
        model = _network_class(meta["model_class"])._from_model_state(inner, meta["model"])
        network = model._spec()
        if any(getattr(network, name) != getattr(spec, name) for name in _SHARED):
            raise ModelFileError("the network and the windows it is given are not described alike")
        time_dtype = np.dtype(meta["time_dtype"])
        if time_dtype.kind not in "iM" or time_dtype.itemsize != 8 or meta["library"] not in ("pandas", "polars"):
            raise ModelFileError("the time column or its library is not one that this version writes")
        kind = FrameKind(meta["library"], None, nw.Date() if meta["dates"] else None)
        freq = Frequency(meta["freq"], meta["integer_time"])
        times = arrays["times"].view(time_dtype)
        panel = Panel(
            arrays["values"],
            arrays["indptr"],
            _ids_in(arrays),
            times,
            freq,
            meta["tz"],
            Columns(*meta["columns"]),
            kind,
        )
        scaling = SeriesScaling(
            bool(meta["log"]),
            arrays["location"],
            arrays["scale"],
            arrays["error_scale"],
            arrays["constant"].astype(bool),
        )
        state = cls(spec, model, scaling, arrays.get("scores"), panel, meta["alias"])
        state._check()
        return state

    def _check(self) -> None:
        panel, scaling, spec = self.panel, self.scaling, self.spec
        n, k = len(panel.ids), spec.n_outputs
        learned = (scaling.location, scaling.scale, scaling.error_scale)
        fits = (
            n >= 1
            and np.array_equal(panel.indptr, np.arange(n + 1) * spec.n_timesteps)
            and panel.values.shape == panel.times.shape == (n * spec.n_timesteps,)
            and panel.values.dtype == np.float64
            and all(a.shape == (n,) and a.dtype == np.float64 for a in learned)
            and scaling.constant.shape == (n,)
            and (scaling.scale > 0).all()
            and (scaling.error_scale > 0).all()
            and ((panel.values > 0).all() or not scaling.log)
            and (self.scores is None or (self.scores.ndim == 2 and len(self.scores) > 0 and self.scores.shape[1] == k))
            and (self.model.n_features_in_, self.model.n_outputs_) == (spec.n_timesteps, k)
        )
        if not fits:
            raise ModelFileError("series, scales, scores and network do not fit together")
        names = (self.alias, panel.columns.id, panel.columns.time, panel.columns.target, panel.freq.text)
        if any(type(name) is not str for name in names):
            raise ModelFileError("the names of the columns and the frequency must be text")
        # Whether frequency, time zone and names make sense shows when an answer is written.
        panel.build_frame(panel.ids, panel.future_times(1).ravel(), {self.alias: np.zeros(n)})


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


def _network_class(name: str) -> Any:
    from tsforecast.persistence import CLASSES

    if name not in CLASSES or name == "Forecaster":
        raise ModelFileError(f"networks of class {name!r} are unknown to this version; upgrade tsforecast")
    return getattr(importlib.import_module(CLASSES[name]), name)


def _ids_out(ids: np.ndarray) -> dict[str, np.ndarray]:
    from tsforecast.persistence import pack_strings

    if all(isinstance(name, str) for name in ids):
        text, ends = pack_strings(list(ids))
        return {"ids.text": text, "ids.ends": ends}
    if all(isinstance(name, (int, np.integer)) and not isinstance(name, bool) for name in ids):
        return {"ids": ids.astype(np.int64)}
    raise ModelFileError(
        "series ids must be text or whole numbers to be stored; convert the id column with .astype(str)"
    )


def _ids_in(arrays: dict[str, np.ndarray]) -> np.ndarray:
    from tsforecast.persistence import unpack_strings

    names = arrays["ids"].tolist() if "ids" in arrays else unpack_strings(arrays["ids.text"], arrays["ids.ends"])
    ids = np.empty(len(names), dtype=object)
    ids[:] = names
    return ids
