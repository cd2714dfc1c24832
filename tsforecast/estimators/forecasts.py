"""What a fitted recurrent regressor does with windows: forecast them, and go on value by value.

Letters: n rows (windows), T steps, F features a step, K outputs, Q quantiles.
"""

from __future__ import annotations

import numpy as np
from sklearn.exceptions import NotFittedError

from tsforecast._compat import validate_data
from tsforecast.backends.base import predict
from tsforecast.estimators import _rows, _scaling
from tsforecast.estimators._config import n_threads
from tsforecast.estimators._inputs import flatten_windows
from tsforecast.estimators._quantiles import middle_outputs, sorted_quantiles
from tsforecast.estimators.stream import Stream
from tsforecast.spec import NetworkSpec


class FittedMethods:
    """Forecasts of a ``base.RecurrentRegressor``, and what all of its methods after ``fit`` need."""

    device: str
    n_jobs: int | None
    n_features_in_: int
    n_outputs_: int
    _params: np.ndarray
    _network: dict
    _n_timesteps: int
    _n_features_per_step: int
    _newest_first: bool
    _quantiles: tuple[float, ...] | None
    _x_mean: np.ndarray | None
    _x_scale: np.ndarray | None
    _y_mean: np.ndarray | None
    _y_scale: np.ndarray | None
    _y_is_1d: bool
    _y_dtype: str

    def predict(self, X):
        """Forecast the targets of windows ``X``; rows do not influence one another, but of a ``stateful`` model.

        Parameters
        ----------
        X : array-like of shape (n, T*F) or ndarray of shape (n, T, F)

        Returns
        -------
        y : ndarray of shape (n,) or (n, K)
            In the dtype of the training targets (float64 if those were whole numbers). With ``loss="quantile"`` the
            quantile nearest 0.5.
        """
        return self._shape_outputs(self._outputs(X))

    def _shape_outputs(self, out: np.ndarray) -> np.ndarray:
        """``[n, K*Q]`` of the network as ``predict`` returns it: one number a step, the shape of ``y``."""
        out = middle_outputs(out, self.n_outputs_, self._quantiles)
        return out.ravel() if self._y_is_1d else out

    def stream(self, n_streams: int | None = None) -> Stream:
        """Forecast value by value: an object that is fed one time step at a time and carries the hidden state on.

        Parameters
        ----------
        n_streams : int or None, default=None
            Series that advance side by side; None for a single one, which takes and returns plain numbers.

        Returns
        -------
        stream : Stream
            ``stream.push(x)`` takes a step and returns the forecast; see :class:`tsforecast.estimators.stream.Stream`.
        """
        self._check_fitted()
        return Stream(self, n_streams)

    def predict_quantiles(self, X):
        """All quantiles of a model with ``loss="quantile"``, sorted so that they do not cross.

        Parameters
        ----------
        X : array-like of shape (n, T*F) or ndarray of shape (n, T, F)

        Returns
        -------
        y : ndarray of shape (n, K, Q)
        """
        out = self._outputs(X)
        if self._quantiles is None:
            raise ValueError('predict_quantiles needs a model fitted with loss="quantile"')
        return sorted_quantiles(out, self.n_outputs_)

    def _outputs(self, X) -> np.ndarray:
        """Validated rows through the network: ``[n, K*Q]``."""
        return self._predict_windows(*_rows.row_buffer(self, self._validated(X)))

    def _validated(self, X) -> np.ndarray:
        """Rows of numbers, as they came."""
        self._check_fitted()
        X, shape = flatten_windows(X)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        _rows.check_window_shape(self, shape)
        return X

    def _check_fitted(self) -> None:
        # check_is_fitted of scikit-learn takes a tenth of the time that predicting one row may take.
        if not hasattr(self, "_params"):
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments "
                "before using this estimator."
            )

    def _spec(self) -> NetworkSpec:
        return NetworkSpec(**self._network)

    def _predict_windows(self, values: np.ndarray, x_starts: np.ndarray) -> np.ndarray:
        """Outputs ``[N, K*Q]`` in the units of the targets, for windows over a flat buffer (see ``_fit_windows``)."""
        values, spec = _scaling.scaled_values(self, values), self._spec()
        out = predict(self.device, spec, self._params, values, x_starts, n_threads(self.n_jobs))
        if self._y_mean is not None and self._y_scale is not None:
            scale, mean = self._y_scale, self._y_mean
            if spec.n_quantiles > 1:
                scale, mean = np.repeat(scale, spec.n_quantiles), np.repeat(mean, spec.n_quantiles)
            out = out * scale + mean
        return out.astype(self._y_dtype, copy=False)
