"""What a fitted recurrent regressor does with windows: forecast, stream, explain.

Letters: n rows (windows), T steps, F features a step, K outputs, Q quantiles.
"""

from __future__ import annotations

import numpy as np
from sklearn.exceptions import NotFittedError

from tsforecast._compat import validate_data
from tsforecast.backends.base import predict
from tsforecast.estimators import _rows, _scaling, explain, health
from tsforecast.estimators._config import n_threads
from tsforecast.estimators._inputs import flatten_windows, reverse_time
from tsforecast.estimators.stream import Stream
from tsforecast.exceptions import DataError
from tsforecast.spec import NetworkSpec


class FittedMethods:
    """Mixin of :class:`~tsforecast.estimators.base.RecurrentRegressor`: everything after ``fit``."""

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
        if self._quantiles is not None:
            nearest = int(np.argmin(np.abs(np.subtract(self._quantiles, 0.5))))
            out = self._sorted_quantiles(out)[:, :, nearest]
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

    # ------------------------------------------------------------- explaining

    def trace(self, X) -> explain.Trace:
        """Gates, cell and hidden states of every step of windows ``X``.

        Parameters
        ----------
        X : array-like of shape (n, T*F) or ndarray of shape (n, T, F)

        Returns
        -------
        trace : dict of (int, str) to ndarray of shape (n, T, H)
            By layer and name (``h``; ``c, i, f, g, o`` of an LSTM; ``r, z, n`` of a GRU), float64, from the readable
            equations: equal to what the kernels compute within rounding. ``trace.to_frame()`` is the tidy table,
            ``trace.plot()`` the picture.
        """
        return explain.trace(self, self._time_ordered(X))

    def attention_weights(self, X) -> explain.AttentionWeights:
        """What every step of windows ``X`` weighs in the attention of the head or of the decoder.

        Parameters
        ----------
        X : array-like of shape (n, T*F) or ndarray of shape (n, T, F)
            With known-future inputs as for ``predict``.

        Returns
        -------
        weights : ndarray of shape (n, T) or (n, K, T)
            The oldest step first; of a decoder for every step of the forecast. They add up to 1 over the last axis;
            float64, from the readable equations. ``weights.to_frame()`` is the tidy table, ``weights.plot()`` the
            picture.

        Raises
        ------
        DataError
            For a model without attention.
        """
        rows = self._validated(X)
        future = rows[:, self._n_timesteps * self._n_features_per_step :].astype(np.float64)
        return explain.attention_weights(
            self, self._time_ordered(X), future.reshape(len(rows), self.n_outputs_, self._network.get("n_future", 0))
        )

    def saliency(self, X, *, output: int = 0) -> explain.Attributions:
        """Derivative of the forecast by every input of windows ``X``.

        Parameters
        ----------
        X : array-like of shape (n, T*F) or ndarray of shape (n, T, F)
        output : int, default=0
            Step of the horizon.

        Returns
        -------
        saliency : ndarray of shape (n, T, F)
            Units of the target for a unit of the feature, oldest step first. With ``loss="quantile"``, of the network's
            output for the quantile nearest 0.5 (``predict`` sorts quantiles that cross). An array with ``to_frame()``,
            the tidy table, and ``plot()``, a heat map.

        Raises
        ------
        DataError
            If the model normalises each window (``window_norm``, ``season_length``).
        """
        return explain.saliency(self, self._time_ordered(X), output)

    def integrated_gradients(self, X, *, baseline=None, n_points: int = 32, output: int = 0) -> explain.Attributions:
        """Share of every input in the difference between the forecast and that of a baseline window.

        Parameters
        ----------
        X : array-like of shape (n, T*F) or ndarray of shape (n, T, F)
        baseline : array-like of shape (T, F) or (T*F,), default=None
            Window to compare with, oldest step first; None is the mean of every feature in training (0 without
            ``standardize``).
        n_points : int, default=32
            Points of the quadrature.
        output : int, default=0
            Step of the horizon.

        Returns
        -------
        attributions : ndarray of shape (n, T, F)
            In units of the target, oldest step first. They add up to ``predict(X) - predict(baseline)`` [1]_; a warning
            tells where they do not. With ``loss="quantile"`` they explain the network's output for the quantile nearest
            0.5, and add up to its difference; where quantiles cross, ``predict`` sorts them and returns another one. An
            array with ``to_frame()`` and ``plot()``.

        Raises
        ------
        DataError
            If the model normalises each window (``window_norm``, ``season_length``).

        References
        ----------
        .. [1] M. Sundararajan, A. Taly, Q. Yan: Axiomatic attribution for deep networks. ICML 2017.
        """
        windows = self._time_ordered(X)
        shape = windows.shape[1:]
        if baseline is None:
            baseline = np.zeros(shape) if self._x_mean is None else np.broadcast_to(self._x_mean[: shape[1]], shape)
        return explain.integrated_gradients(
            self, windows, np.asarray(baseline, dtype=np.float64).reshape(shape), n_points, output
        )

    def gradient_health(self, X, y) -> health.GradientHealth:
        """How much of the gradient of the loss reaches every step of every layer, from the last step to the first.

        Where next to nothing reaches the first steps, the network cannot learn from them; where far more does, they
        drown the rest and training is unstable. Warns of both, layer by layer, and says what to change.

        Parameters
        ----------
        X : array-like of shape (n, T*F) or ndarray of shape (n, T, F)
            A few hundred windows are enough: the gradient comes from the readable equations, in float64.
        y : array-like of shape (n,) or (n, K)

        Returns
        -------
        health : GradientHealth
            ``health.layers`` holds norms and a verdict for each layer; ``health.to_frame()`` is the tidy table and
            ``health.plot()`` the picture. See :class:`tsforecast.estimators.health.GradientHealth`.

        Warns
        -----
        GradientHealthWarning
            For every layer whose verdict is not ``"healthy"``.
        """
        self._check_fitted()
        self._check_stateless()
        windows = _rows.read_training_rows(self, X, y, None, reset=False)
        return health.examine(self, _scaling.scaled_windows(self, windows))

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
        return self._sorted_quantiles(out)

    def _sorted_quantiles(self, out: np.ndarray) -> np.ndarray:
        return np.sort(out.reshape(len(out), self.n_outputs_, -1), axis=2)

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

    def _time_ordered(self, X) -> np.ndarray:
        """Rows as windows ``[n,T,F]`` in float64, without known-future inputs."""
        self._check_fitted()
        self._check_stateless()
        rows = self._validated(X)[:, : self._n_timesteps * self._n_features_per_step]
        rows = reverse_time(rows, self._n_features_per_step) if self._newest_first else rows
        return rows.reshape(len(rows), self._n_timesteps, self._n_features_per_step).astype(np.float64)

    def _check_stateless(self) -> None:
        if self._network.get("stateful", False):
            raise DataError("a stateful model is not explained window by window: what it does depends on those before")

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
