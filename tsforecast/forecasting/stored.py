"""A fitted Forecaster as arrays and plain values, and back: what a model file holds."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import narwhals as nw
import numpy as np
from sklearn.base import clone

from tsforecast.data.frames import FrameKind
from tsforecast.data.frequency import Frequency
from tsforecast.data.panel import Columns, Panel
from tsforecast.estimators._state import anywhere
from tsforecast.exceptions import ModelFileError
from tsforecast.forecasting import models
from tsforecast.forecasting.scaling import SeriesScaling
from tsforecast.forecasting.state import FittedState, make_spec
from tsforecast.persistence import CLASSES, class_of, pack_strings, unpack_strings

# What a network and the Forecaster around it both say of the windows.
_SHARED = ("n_timesteps", "n_features", "n_outputs", "season_length", "window_norm", "linear_skip")


def model_state(forecaster) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and plain values from which ``restore`` makes an equal Forecaster."""
    arrays, meta = to_arrays(forecaster._state)
    params = {name: value for name, value in forecaster.get_params(deep=False).items() if name != "estimator"}
    if not isinstance(params["random_state"], Integral):
        params["random_state"] = None
    params["freq"] = None  # the one that it meant stands in ``meta``
    return arrays, {
        "params": params,
        "own_estimator": forecaster.estimator is not None,
        "n_windows": forecaster.n_windows_,
        **meta,
    }


def restore(cls, arrays: dict[str, np.ndarray], meta: dict[str, Any]):
    """Fitted Forecaster of class ``cls``; ``ModelFileError`` if the parts do not fit together."""
    state = from_arrays(arrays, meta)
    estimator = clone(state.model) if meta["own_estimator"] else None
    forecaster = cls(estimator, **anywhere(meta["params"]))
    forecaster._validate_params()
    if forecaster.horizon != state.spec.n_outputs:
        raise ModelFileError(f"horizon={forecaster.horizon}, but the network has {state.spec.n_outputs} outputs")
    freq = state.panel.freq
    forecaster.set_params(freq=int(freq.text) if freq.is_integer else freq.text)
    forecaster._publish(state, int(meta["n_windows"]))
    return forecaster


def to_arrays(state: FittedState) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Split a state into arrays and plain values; ``ModelFileError`` for what only Python could rebuild."""
    if models.is_local(state.model):
        raise ModelFileError(
            "a Forecaster with scope='local' is not stored in a model file; save each model of "
            "forecaster.estimator_ by itself, or use scope='global' (joblib.dump works, too, in trusted hands)"
        )
    if not models.is_native(state.model):
        raise ModelFileError(
            f"a Forecaster around a {type(state.model).__name__} cannot be stored without pickle; only the networks "
            "of tsforecast can (joblib.dump works for the others, in trusted hands)"
        )
    panel, scaling = state.panel, state.scaling
    model_arrays, model_meta = state.model._model_state()
    arrays = {f"model.{name}": array for name, array in model_arrays.items()}
    arrays |= {
        "values": panel.values,
        "indptr": panel.indptr,
        "times": panel.times.view(np.int64),
        **_ids_out(panel.ids),
    }
    arrays |= {"location": scaling.location, "scale": scaling.scale, "error_scale": scaling.error_scale}
    arrays["constant"] = scaling.constant.astype(np.uint8)
    if state.scores is not None:
        arrays["scores"] = state.scores
    meta = {
        "model_class": type(state.model).__name__,
        "model": model_meta,
        "n_timesteps": state.spec.n_timesteps,
        "horizon": state.spec.n_outputs,
        "season_length": state.spec.season_length,
        "window_norm": state.spec.window_norm,
        "linear_skip": state.spec.linear_skip,
        "log": scaling.log,
        "alias": state.alias,
        "freq": panel.freq.text,
        "integer_time": panel.freq.is_integer,
        "time_dtype": str(panel.times.dtype),
        "dates": panel.kind.time_dtype == nw.Date,
        "tz": panel.tz,
        "library": panel.kind.library,
        "columns": [panel.columns.id, panel.columns.time, panel.columns.target],
    }
    return arrays, meta


def from_arrays(arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> FittedState:
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
    state = FittedState(spec, model, scaling, arrays.get("scores"), panel, meta["alias"])
    _check(state)
    return state


def _check(state: FittedState) -> None:
    """Refuse parts that do not fit together."""
    panel, scaling, spec = state.panel, state.scaling, state.spec
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
        and (state.scores is None or (state.scores.ndim == 2 and len(state.scores) > 0 and state.scores.shape[1] == k))
        and (state.model.n_features_in_, state.model.n_outputs_) == (spec.n_timesteps, k)
    )
    if not fits:
        raise ModelFileError("series, scales, scores and network do not fit together")
    names = (state.alias, panel.columns.id, panel.columns.time, panel.columns.target, panel.freq.text)
    if any(type(name) is not str for name in names):
        raise ModelFileError("the names of the columns and the frequency must be text")
    # Whether frequency, time zone and names make sense shows when an answer is written.
    panel.build_frame(panel.ids, panel.future_times(1).ravel(), {state.alias: np.zeros(n)})


def _network_class(name: str) -> Any:
    if name not in CLASSES or name == "Forecaster":
        raise ModelFileError(f"networks of class {name!r} are unknown to this version; upgrade tsforecast")
    return class_of(name)


def _ids_out(ids: np.ndarray) -> dict[str, np.ndarray]:
    if all(isinstance(name, str) for name in ids):
        text, ends = pack_strings(list(ids))
        return {"ids.text": text, "ids.ends": ends}
    if all(isinstance(name, (int, np.integer)) and not isinstance(name, bool) for name in ids):
        return {"ids": ids.astype(np.int64)}
    raise ModelFileError(
        "series ids must be text or whole numbers to be stored; convert the id column with .astype(str)"
    )


def _ids_in(arrays: dict[str, np.ndarray]) -> np.ndarray:
    names = arrays["ids"].tolist() if "ids" in arrays else unpack_strings(arrays["ids.text"], arrays["ids.ends"])
    ids = np.empty(len(names), dtype=object)
    ids[:] = names
    return ids
