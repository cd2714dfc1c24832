"""Windows around any regressor, so that rows of a table are time steps and rows in are rows out.

Letters: n rows, T steps of a window, F columns, K targets; L = T + horizon - 1 rows of history before a forecast.
"""

from __future__ import annotations

from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags

from tsforecast._compat import HasMethods, Interval, _check_sample_weight, _fit_context, validate_data
from tsforecast.backends.base import Windows
from tsforecast.estimators import _rows, _scaling
from tsforecast.estimators._attempt import Attempt
from tsforecast.estimators._clock import TrainingClock, check_same_rows
from tsforecast.estimators.base import RecurrentRegressor
from tsforecast.exceptions import DataError, NotEnoughHistoryError

_CONSTRAINTS: dict = {
    "estimator": [HasMethods(["fit", "predict"])],
    "n_timesteps": [Interval(Integral, 1, None, closed="left")],
    "horizon": [Interval(Integral, 0, None, closed="left")],
}


class WindowRegressor(MetaEstimatorMixin, RegressorMixin, BaseEstimator):
    """Regress ``y[t]`` on the window of rows that ends ``horizon`` rows before ``t``.

    Rows are consecutive time steps of one series, in order. ``predict(X)[t]`` sees rows ``t - horizon - T + 1`` to
    ``t - horizon`` of ``X`` and no other, so time-ordered cross-validation does not leak. For an autoregression put the
    target among the columns of ``X``.

    Parameters
    ----------
    estimator : regressor
        Any scikit-learn regressor: it gets rows of ``T * F`` columns, time-major. Recurrent regressors of this package
        get the series itself, so that no windows are built.
    n_timesteps : int
        Rows of a window T.
    horizon : int, default=1
        Rows from the end of a window to its target. 0 includes the row of the target itself, for columns that are
        known in advance.

    Attributes
    ----------
    estimator_ : regressor
        Fitted on the windows of the training rows.
    n_features_in_ : int
        F.
    feature_names_in_ : ndarray of str
        Where ``X`` had names.

    Notes
    -----
    ``fit`` leaves out the first L rows, which lack history, and stores the last L rows. ``predict`` takes the rows
    it gets to be those that follow the training rows, and the stored rows to be their history. A pandas index that
    carries time (datetimes, periods, numbers) is checked: rows out of order, before the end of the training rows, or
    after a gap are refused, and so are gaps among the training rows. Days, weeks and months with a time zone follow
    the clock on the wall, so that a change to summer time is no gap.

    There is a gap where more than half of the distances between rows are equal and the others multiples of it; weekends
    that are left out throughout, and up to ten weekdays in a row besides, count as holidays. Where no distance prevails
    the index is irregular, and only its order is checked. A series that pauses by its nature (opening hours) is taken
    after ``reset_index(drop=True)``, which makes rows the clock.

    Arrays, and rows counted from 0 as pandas does by default, carry no time, except that labels after training rows
    which did not start at 0 tell that such rows come before them (folds of ``KFold``). Given training rows again,
    ``predict`` takes them for new rows, and the first L predictions rest on the wrong history. Scores on training rows
    (``return_train_score=True``) are therefore a little off for arrays and default indexes, and missing for others.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from sklearn.linear_model import LinearRegression
    >>> from tsforecast import WindowRegressor
    >>> frame = pd.DataFrame({"y": np.arange(20.0)})
    >>> model = WindowRegressor(LinearRegression(), n_timesteps=3).fit(frame[:15], frame["y"][:15])
    >>> model.predict(frame[15:]).round(6)
    array([15., 16., 17., 18., 19.])
    """

    _parameter_constraints: dict = _CONSTRAINTS

    def __init__(self, estimator, n_timesteps, horizon=1):
        self.estimator = estimator
        self.n_timesteps = n_timesteps
        self.horizon = horizon

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        tags.target_tags.multi_output = inner.target_tags.multi_output
        # Rows that are independent of one another say nothing about the row after them.
        tags.regressor_tags.poor_score = self.n_timesteps > 1 or self.horizon > 0
        return tags

    @property
    def _history(self) -> int:
        return self.n_timesteps + self.horizon - 1

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Train on every row that has its history; after an error or Ctrl-C all is as it was before, fitted or not.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n, F)
            Rows in time order, numeric.
        y : array-like of shape (n,) or (n, K)
            Target of each row.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows as targets; rows of weight 0 still serve as history.

        Returns
        -------
        self : estimator

        Raises
        ------
        NotEnoughHistoryError
            If there are fewer than ``n_timesteps + horizon`` rows.
        DataError
            If a pandas index is not in time order or rows are missing in it, or ``y`` has another index than ``X``.
        """
        with Attempt(self):
            self._fit(X, y, sample_weight)
        return self

    def _fit(self, X, y, sample_weight) -> None:
        clock = TrainingClock(X)
        check_same_rows(X, y)
        X, y = self._validated(X, y, reset=True)
        n, history = len(X), self._history
        if n <= history:
            raise NotEnoughHistoryError(
                f"X has n_samples = {n}, but one window needs n_timesteps + horizon = {self.n_timesteps} + "
                f"{self.horizon} rows; bring more history or lower n_timesteps"
            )
        weights = None
        rows = np.arange(n - history, dtype=np.int64)  # window i starts at row i; its target is row i + history
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)[history:]
            if not weights.any():
                raise DataError(f"sample_weight is zero for every row after the first {history}, which lack history")
            rows, weights = rows[weights > 0], weights[weights > 0]
        self.estimator_ = clone(self.estimator)
        if isinstance(self.estimator_, RecurrentRegressor):
            self._fit_flat(X, y, rows, weights)
        else:
            fit_params = {} if weights is None else {"sample_weight": weights}
            self.estimator_.fit(self._window_matrix(X, rows), y[rows + history], **fit_params)
        self._tail = X[n - history :].copy()
        self._clock = clock

    def predict(self, X):
        """Forecast the target of every row; the rows follow the training rows.

        Parameters
        ----------
        X : array-like or DataFrame of shape (m, F)
            Consecutive rows that come right after the training rows. The last ``horizon`` rows are not looked at.

        Returns
        -------
        y : ndarray of shape (m,) or (m, K)

        Raises
        ------
        DataError
            If a pandas index shows that the rows do not follow the training rows, or cannot be compared with theirs
            (only one of the two has a time zone).
        """
        if not hasattr(self, "estimator_"):
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments "
                "before using this estimator."
            )
        self._clock.check_follows(X)
        X = self._validated(X, reset=False)
        rows = np.arange(len(X), dtype=np.int64)
        series = np.concatenate([self._tail, X])
        if isinstance(self.estimator_, RecurrentRegressor):
            out = self.estimator_._predict_windows(series.ravel(), rows * self.n_features_in_)
            return self.estimator_._shape_outputs(out)
        return self.estimator_.predict(self._window_matrix(series, rows))

    def _validated(self, X, y="no_validation", *, reset: bool):
        finite = "allow-nan" if get_tags(self.estimator).input_tags.allow_nan else True
        dtype = [np.float64, np.float32]
        if isinstance(y, str):
            return validate_data(self, X, dtype=dtype, ensure_all_finite=finite, reset=reset)
        multi = get_tags(self.estimator).target_tags.multi_output
        return validate_data(
            self, X, y, dtype=dtype, ensure_all_finite=finite, multi_output=multi, y_numeric=True, reset=reset
        )

    def _window_matrix(self, series: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Windows that start at ``rows`` as ``[len(rows), T*F]``."""
        width = series.shape[1]
        return _scaling.gather(series.ravel(), rows * width, self.n_timesteps * width)

    def _fit_flat(self, X, y, rows, weights) -> None:
        """Hand the series and start indices to a recurrent regressor."""
        inner = self.estimator_
        y_is_1d, n_outputs = y.ndim == 1, 1 if y.ndim == 1 else y.shape[1]
        y = _rows.as_targets(y)
        inner._validate_params()
        _scaling.check_magnitude(X, inner.dtype, what="X", names=getattr(self, "feature_names_in_", None))
        inner._fit_windows(
            Windows(
                values=X.ravel(),
                x_starts=rows * X.shape[1],
                targets=y.ravel(),
                y_starts=(rows + self._history) * n_outputs,
                weights=np.ones(len(rows)) if weights is None else weights,
            ),
            n_timesteps=self.n_timesteps,
            n_features=X.shape[1],
            n_outputs=n_outputs,
        )
        inner._y_is_1d = y_is_1d
