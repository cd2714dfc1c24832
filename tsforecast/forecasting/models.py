"""One way to train and ask any regressor: ours on windows that are never built, others on built ones.

Ours (they have ``_fit_windows``) normalise every window inside the model. For any other scikit-learn regressor the same
normalisation is done here, in float64, with the arithmetic of the reference backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from typing import Any

import numpy as np

from tsforecast.backends.base import Windows
from tsforecast.backends.reference.windows import gather, gather_targets, normalise
from tsforecast.estimators._quantiles import middle_outputs
from tsforecast.exceptions import DivergedError
from tsforecast.spec import NetworkSpec

CHUNK = 8192  # windows built together when a foreign regressor predicts


def is_native(estimator) -> bool:
    """Tell whether the estimator trains on windows of flat buffers."""
    return hasattr(estimator, "_fit_windows")


def compute_dtype(estimator) -> str:
    """Return the type that values must fit into."""
    return getattr(estimator, "dtype", "float64") if is_native(estimator) or is_local(estimator) else "float64"


def is_local(model) -> bool:
    """Tell whether this is a model for each series."""
    return isinstance(model, Mapping)


def configure(estimator, spec: NetworkSpec, random_state, n_jobs, device=None):
    """Clone the estimator and hand it what the Forecaster decides."""
    from sklearn.base import clone
    from sklearn.utils import check_random_state

    model = clone(estimator)
    known = model.get_params(deep=False)
    wanted = {}
    if is_native(model):
        wanted = {
            "window_norm": spec.window_norm,
            "season_length": spec.season_length,
            "linear_skip": spec.linear_skip,
            "standardize": False,  # series come scaled; statistics over all windows would move the seasonal base
        }
        if device is not None:
            wanted["device"] = device
    if random_state is not None and "random_state" in known:
        is_number = isinstance(random_state, Integral)
        wanted["random_state"] = random_state if is_number else check_random_state(random_state).randint(2**31)
    if n_jobs is not None and "n_jobs" in known:
        wanted["n_jobs"] = n_jobs
    return model.set_params(**wanted)


def stops_early(model) -> bool:
    """Tell whether the model is one of ours that holds out windows to know when to stop."""
    return is_native(model) and model.early_stopping


def fit_model(model, windows: Windows, spec: NetworkSpec, held_out: Windows | None = None):
    """Train on windows in model units; return the fitted model (a wrapper, where one is needed)."""
    if is_native(model):
        return model._fit_windows(windows, val=held_out, **_shape(spec))
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.utils import get_tags
    from sklearn.utils.validation import has_fit_parameter

    x, frame = normalise(gather(windows.values, windows.x_starts, spec), spec)
    y = frame.to_network(gather_targets(windows.targets, windows.y_starts, windows.y_stride, spec.n_outputs))
    weighted = {"sample_weight": windows.weights} if has_fit_parameter(model, "sample_weight") else {}
    if spec.n_outputs == 1:
        y = y[:, 0]
    elif not get_tags(model).target_tags.multi_output:
        model = MultiOutputRegressor(model)
    return model.fit(x[:, :, 0], y, **weighted)


def job_maker(windows: Windows, spec: NetworkSpec, held_out: Windows | None) -> Callable[[Any], Any]:
    """For ``fit_side_by_side``: from one of our models to its training on these windows."""
    return lambda model: model._job_of_windows(windows, val=held_out, **_shape(spec))


def _shape(spec: NetworkSpec) -> dict[str, int]:
    return {"n_timesteps": spec.n_timesteps, "n_features": 1, "n_outputs": spec.n_outputs}


def fit_side_by_side(work: Iterable[tuple], n_jobs: int | None) -> list[tuple[str, DivergedError]]:
    """Fit our models, given with their ``job_maker`` and name; those that diverged, by name."""
    from tsforecast.estimators.many import fit_jobs

    return fit_jobs(work, n_jobs)


def predict_model(model, values: np.ndarray, starts: np.ndarray, spec: NetworkSpec) -> np.ndarray:
    """Forecast ``[N, K]`` in model units for the windows that start at ``starts [N]``; float64."""
    if is_native(model):
        out = model._predict_windows(values, starts).astype(np.float64)
        return middle_outputs(out, spec.n_outputs, model._quantiles)
    out = np.empty((len(starts), spec.n_outputs))
    for first in range(0, len(starts), CHUNK):
        rows = slice(first, first + CHUNK)
        x, frame = normalise(gather(values, starts[rows], spec), spec)
        raw = np.asarray(model.predict(x[:, :, 0]), dtype=np.float64).reshape(len(x), spec.n_outputs, 1)
        out[rows] = frame.to_data(raw)[:, :, 0]
    return out
