"""Forecasting with recurrent networks written by hand in Numba.

Three ways in: an estimator (`LSTMRegressor`), a step of a scikit-learn pipeline over DataFrame rows
(`WindowRegressor`), and a forecaster of one or many series in the long frame ``unique_id, ds, y`` (`Forecaster`).
Names are imported on first use, so that ``import tsforecast`` and ``tsforecast --help`` stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tsforecast.exceptions import (
    BackendUnavailableError,
    DataError,
    DivergedError,
    ModelFileError,
    NotEnoughHistoryError,
    TsForecastError,
)

if TYPE_CHECKING:
    import tsforecast.datasets as datasets
    import tsforecast.metrics as metrics
    from tsforecast.data.windowing import sliding_windows
    from tsforecast.estimators.lstm import LSTMRegressor
    from tsforecast.estimators.many import fit_many
    from tsforecast.estimators.regressors import GRURegressor, RNNRegressor, SLSTMRegressor
    from tsforecast.estimators.window import WindowRegressor
    from tsforecast.forecasting.forecaster import Forecaster
    from tsforecast.persistence import load_model

__version__ = "0.1.0"

__all__ = [
    "BackendUnavailableError",
    "DataError",
    "DivergedError",
    "Forecaster",
    "GRURegressor",
    "LSTMRegressor",
    "ModelFileError",
    "NotEnoughHistoryError",
    "RNNRegressor",
    "SLSTMRegressor",
    "TsForecastError",
    "WindowRegressor",
    "__version__",
    "datasets",
    "fit_many",
    "load_model",
    "metrics",
    "sliding_windows",
]

# Public name -> the module that defines it; a name that is its module's own last part is the module itself.
_LAZY = {
    "Forecaster": "tsforecast.forecasting.forecaster",
    "GRURegressor": "tsforecast.estimators.regressors",
    "LSTMRegressor": "tsforecast.estimators.lstm",
    "RNNRegressor": "tsforecast.estimators.regressors",
    "SLSTMRegressor": "tsforecast.estimators.regressors",
    "WindowRegressor": "tsforecast.estimators.window",
    "datasets": "tsforecast.datasets",
    "fit_many": "tsforecast.estimators.many",
    "load_model": "tsforecast.persistence",
    "metrics": "tsforecast.metrics",
    "sliding_windows": "tsforecast.data.windowing",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tsforecast' has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    value = module if module.__name__ == f"tsforecast.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
