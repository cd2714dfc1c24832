"""What may be asked of a Forecaster: its parameters, names of columns, horizons and coverages."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from tsforecast._compat import Interval, StrOptions
from tsforecast.estimators._config import DEVICES
from tsforecast.exceptions import DataError
from tsforecast.forecasting.models import is_native
from tsforecast.spec import WINDOW_NORMS

PARAMETER_CONSTRAINTS: dict = {
    "estimator": "no_validation",
    "horizon": [Interval(Integral, 1, None, closed="left")],
    "freq": "no_validation",
    "n_timesteps": [Interval(Integral, 2, None, closed="left"), None],
    "strategy": [StrOptions({"direct"})],
    "scope": [StrOptions({"global", "local"})],
    "season_length": [Interval(Integral, 1, None, closed="left"), None],
    "window_norm": [StrOptions({"auto", *WINDOW_NORMS})],
    "linear_skip": ["boolean"],
    "transform": [StrOptions({"auto", "log", "none"})],
    "calibrate": ["boolean"],
    "max_iter": [Interval(Integral, 1, None, closed="left"), None],
    "alias": [str, None],
    "id_col": [str],
    "time_col": [str],
    "target_col": [str],
    "random_state": ["random_state"],
    "n_jobs": [Integral, None],
    "device": [StrOptions(set(DEVICES)), None],
}


def check_estimator(estimator) -> None:
    """Refuse what cannot learn and forecast; None is the default estimator."""
    if estimator is None:
        return
    if isinstance(estimator, type) or not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
        raise TypeError(f"estimator={estimator!r} must be None or a regressor with fit and predict")
    if is_native(estimator):  # its dtype decides what values are too large
        estimator._validate_params()


def check_names(id_col: str, time_col: str, target_col: str, alias: str | None) -> None:
    """Every column of an answer needs a name of its own."""
    taken = [id_col, time_col, target_col, "cutoff", "SeasonalNaive"]
    names = taken if alias is None else [*taken, alias]
    double = [name for name in names if names.count(name) > 1]
    if double:
        raise DataError(
            f"two columns of the forecast would be called {double[0]!r} (ids, times, target, cut-offs, the "
            "baseline of a backtest and the alias); choose another id_col, time_col, target_col or alias"
        )


def check_h(h, horizon: int) -> int:
    """Return the number of steps to forecast; None is the whole horizon."""
    if h is None:
        return horizon
    if not isinstance(h, Integral) or isinstance(h, bool) or not 1 <= int(h) <= horizon:
        raise DataError(f"h={h!r} must be a whole number from 1 to the horizon of {horizon}; fit with a longer horizon")
    return int(h)


def check_levels(level) -> list[float]:
    """Return the coverages as a list, each above 0 and below 100."""
    levels = [] if level is None else np.atleast_1d(level).tolist()
    for value in levels:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 100:
            raise DataError(f"level={value!r} must be a coverage in per cent, above 0 and below 100, such as 80 or 95")
        if value < 1:
            raise DataError(f"level={value!r} is below one per cent; coverages are in per cent: level={value * 100:g}?")
    return levels
