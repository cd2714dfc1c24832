"""How a fitted recurrent regressor explains itself: methods, whose work is done in ``explain`` and ``health``.

Letters: n rows (windows), T steps, F features a step, K outputs, H units of a layer.
"""

from __future__ import annotations

import numpy as np

from tsforecast.estimators import _rows, _scaling, explain, health
from tsforecast.estimators._inputs import reverse_time
from tsforecast.estimators.explanations import AttentionWeights, Attributions, Trace
from tsforecast.estimators.forecasts import FittedMethods
from tsforecast.exceptions import DataError


class ExplainingMethods(FittedMethods):
    """Mixin of :class:`~tsforecast.estimators.base.RecurrentRegressor`: everything after ``fit``."""

    def trace(self, X) -> Trace:
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

    def attention_weights(self, X) -> AttentionWeights:
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

    def saliency(self, X, *, output: int = 0) -> Attributions:
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

    def integrated_gradients(self, X, *, baseline=None, n_points: int = 32, output: int = 0) -> Attributions:
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
