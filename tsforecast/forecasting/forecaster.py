"""The forecaster of one or many series: a long frame in, a long frame of forecasts out."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from tsforecast.data.panel import Panel
from tsforecast.forecasting import defaults, models, stored
from tsforecast.forecasting.arguments import PARAMETER_CONSTRAINTS, check_estimator, check_h, check_levels, check_names
from tsforecast.forecasting.choices import choose
from tsforecast.forecasting.conformal import calibration_scores
from tsforecast.forecasting.scaling import refuse_beyond
from tsforecast.forecasting.state import FittedState
from tsforecast.forecasting.training import Recipe
from tsforecast.persistence import save_model


class Forecaster(BaseEstimator):
    """Forecast every series of a long frame, with one model that learns from all of them or one for each.

    The model maps the last ``n_timesteps`` values of a series to the next ``horizon`` values at once. Every window is
    normalised by itself, and what is learned is the difference from the last season repeated.

    Parameters
    ----------
    estimator : regressor, default=None
        ``LSTMRegressor`` or any scikit-learn regressor; cloned, never changed. ``window_norm``, ``season_length``,
        ``linear_skip`` and ``standardize`` of ours are set by the Forecaster; other regressors get windows normalised
        outside.
        None: an LSTM of 24 units whose passes and batch size follow the amount of data (``forecasting/defaults.py``).
    horizon : int
        K, the number of steps that are forecast.
    freq : str or int, default=None
        Step between stamps: a pandas alias (``"MS"``, ``"W-MON"``, ``"h"``, ``"30min"``; old names too), a polars alias
        (``"1mo"``, ``"30m"``), or a whole number for integer time. None infers it and refuses to guess.
    n_timesteps : int, default=None
        T, the window length, at least ``season_length`` and 2. None: 2 to 3 seasons, shorter for short series.
    strategy : {"direct"}, default="direct"
        All steps at once.
    scope : {"global", "local"}, default="global"
        One model for all series, or one for each, with the bits of a Forecaster of that series alone (given
        ``n_timesteps``, ``season_length`` and ``transform``, which are chosen for all series together). Our networks
        are trained side by side on ``n_jobs`` threads. Every series then needs ``n_timesteps + horizon`` rows; one
        whose training diverges is named in a warning and forecast by its last season repeated.
    season_length : int, default=None
        m, steps in a season; 1 for none. None: by ``freq`` (``MS`` 12, ``W`` 52, ``D`` 7, ``h`` 24, ...), and 1 where
        the longest series does not hold one season and one horizon.
    window_norm : {"auto", "standard", "center", "none"}, default="auto"
        Normalisation of each window: ``"center"`` subtracts the mean of its last season, ``"standard"`` also divides
        by its standard deviation. ``"auto"`` is ``"center"`` for logarithms, ``"standard"`` otherwise.
    linear_skip : bool, default=True
        Add a linear map from the window to the forecast (ours only).
    transform : {"auto", "log", "none"}, default="auto"
        ``"auto"`` takes logarithms where every value of the training frame is positive and a season is that of years,
        quarters, months or weeks (``season_length`` 1, 4, 12 or 52).
    calibrate : bool, default=True
        Learn intervals in ``fit``: a second model is trained without the last rows and scored on them, which about
        doubles the time. False: ``predict(level=...)`` is an error.
    max_iter : int, default=None
        Passes over the windows; None: those of the estimator.
    alias : str, default=None
        Name of the forecast column; None: the estimator's class name.
    id_col, time_col, target_col : str
        Column names. A frame without the column ``unique_id`` is one series. Other columns are ignored.
    random_state : int, RandomState instance or None, default=None
        Given to the estimator. The same number gives the same bits, whatever ``n_jobs`` or the order of the rows.
    n_jobs : int, default=None
        Given to the estimator where it takes one; None: as the estimator has it.
    device : {"cpu", "cuda", "auto", "reference"}, default=None
        Where our networks train and predict; None: as the estimator has it.

    Attributes
    ----------
    estimator_ : regressor
        The fitted model; with ``scope="local"`` a mapping from the id of each series to its model.
    freq_ : str
        Frequency, as a pandas alias or a number.
    n_timesteps_, season_length_ : int
        What was chosen.
    transform_ : {"log", "none"}
        What was chosen.
    n_windows_ : int
        Training windows.

    Examples
    --------
    >>> from tsforecast import Forecaster, datasets
    >>> df = datasets.load_air_passengers()
    >>> model = Forecaster(horizon=12, random_state=0).fit(df)  # doctest: +SKIP
    >>> model.predict(level=[80, 95])  # doctest: +SKIP
    """

    _parameter_constraints: ClassVar[dict] = PARAMETER_CONSTRAINTS

    def __init__(
        self,
        estimator=None,
        *,
        horizon,
        freq=None,
        n_timesteps=None,
        strategy="direct",
        scope="global",
        season_length=None,
        window_norm="auto",
        linear_skip=defaults.LINEAR_SKIP,
        transform="auto",
        calibrate=True,
        max_iter=None,
        alias=None,
        id_col="unique_id",
        time_col="ds",
        target_col="y",
        random_state=None,
        n_jobs=None,
        device=None,
    ):
        self.estimator = estimator
        self.horizon = horizon
        self.freq = freq
        self.n_timesteps = n_timesteps
        self.strategy = strategy
        self.scope = scope
        self.season_length = season_length
        self.window_norm = window_norm
        self.linear_skip = linear_skip
        self.transform = transform
        self.calibrate = calibrate
        self.max_iter = max_iter
        self.alias = alias
        self.id_col = id_col
        self.time_col = time_col
        self.target_col = target_col
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.device = device

    # ---------------------------------------------------------------- fitting

    def fit(self, df) -> Forecaster:
        """Learn from a long frame.

        Parameters
        ----------
        df : pandas or polars DataFrame
            Columns ``unique_id, ds, y`` (names: see the parameters). Rows in any order; no gaps, no missing values.
            Series too short to train on, but as long as one window, are forecast all the same.

        Returns
        -------
        self : Forecaster

        Raises
        ------
        DataError
            Naming series, stamp and remedy.
        NotEnoughHistoryError
            Series shorter than one window, or none long enough to train on.
        """
        self._validate_params()
        check_names(self.id_col, self.time_col, self.target_col, self.alias)
        return self._fit_panel(self._read(df, self.freq))

    def _read(self, df, freq) -> Panel:
        return Panel.from_frame(df, freq, id_col=self.id_col, time_col=self.time_col, target_col=self.target_col)

    def _fit_panel(self, panel: Panel) -> Forecaster:
        check_estimator(self.estimator)
        refuse_beyond(panel, "float32" if self.estimator is None else models.compute_dtype(self.estimator))
        spec, log = choose(self, panel)
        local = self.scope == "local"
        recipe = Recipe(spec, log, self._make_estimator, self.random_state, self.n_jobs, self.device, local)
        scores = calibration_scores(panel, recipe) if self.calibrate else None
        trained = recipe.train(panel)
        alias = self.alias or type(self._make_estimator(1)).__name__
        # Nothing of self changes before all of this has succeeded.
        state = FittedState(spec, trained.model, trained.scaling, scores, panel.tail(spec.n_timesteps), alias)
        self._publish(state, trained.n_windows)
        return self

    def _publish(self, state: FittedState, n_windows: int) -> None:
        self._state = state
        self.estimator_, self.n_windows_ = state.model, n_windows
        self.n_timesteps_, self.season_length_ = state.spec.n_timesteps, state.spec.season_length
        self.freq_, self.transform_ = state.panel.freq.text, "log" if state.scaling.log else "none"

    def _make_estimator(self, n_windows):
        if self.estimator is None:
            return defaults.default_estimator(n_windows, self.max_iter)
        return self.estimator if self.max_iter is None else clone(self.estimator).set_params(max_iter=self.max_iter)

    def update(self, df) -> Forecaster:
        """Append new rows without learning again; the next forecast starts after them.

        Parameters
        ----------
        df : DataFrame
            Only rows that follow the last stamp of their series, without a gap. Series that were not seen before may
            join with at least one window of rows.

        Returns
        -------
        self : Forecaster
        """
        check_is_fitted(self, "estimator_")
        freq = int(self.freq_) if self._state.panel.freq.is_integer else self.freq_
        self._state = self._state.append(self._read(df, freq))
        return self

    # ------------------------------------------------------------- predicting

    def predict(self, h=None, level=None):
        """Forecast the steps after the end of every series.

        Parameters
        ----------
        h : int, default=None
            Number of steps, at most ``horizon``; None: ``horizon``.
        level : list of float, default=None
            Coverages of prediction intervals in per cent, such as ``[80, 95]``.

        Returns
        -------
        DataFrame
            In the library of the training frame, h rows a series, sorted by id and time: ``unique_id, ds, <alias>``
            and ``<alias>-lo-<level>, <alias>-hi-<level>`` for each level. Every number is finite.
        """
        check_is_fitted(self, "estimator_")
        h, levels = check_h(h, self.horizon), check_levels(level)
        if levels and self._state.scores is None:
            raise NotFittedError("intervals were not calibrated: fit with calibrate=True to use level")
        columns, panel = self._state.columns(h, levels), self._state.panel
        return panel.build_frame(np.repeat(panel.ids, h), panel.future_times(h).ravel(), columns)

    def cross_validation(self, df, n_windows=1, h=None, step_size=None, refit=True, level=None):
        """Forecast from several past cut-offs and put the outcome beside.

        Parameters
        ----------
        df : DataFrame
            As for ``fit``. ``self`` stays as it is; copies are fitted.
        n_windows : int, default=1
            Number of cut-offs; the last one is h rows before the end of each series.
        h : int, default=None
            Steps forecast from each cut-off, at most ``horizon``; None: ``horizon``.
        step_size : int, default=None
            Rows between cut-offs; None: h.
        refit : bool or int, default=True
            True: fit anew at each cut-off. False: only at the first. k: at every k-th.
        level : list of float, default=None
            Coverages of intervals in per cent.

        Returns
        -------
        DataFrame
            ``unique_id, ds, cutoff, y, <alias>, ...``, sorted by id, cut-off and time. A forecast knows no row after
            its cut-off.
        """
        from tsforecast.forecasting.backtest import cross_validate

        return cross_validate(self, df, n_windows, h, step_size, refit, check_levels(level))

    # ---------------------------------------------------------- model files

    def save(self, path) -> None:
        """Write the fitted forecaster to a file that ``load_model`` reads; the file holds numbers, never code.

        Parameters
        ----------
        path : path-like
            Where to write; an existing file is replaced only when the new one is complete.

        Raises
        ------
        ModelFileError
            The estimator is not one of tsforecast's networks, ``scope`` is ``"local"``, or the ids are neither text nor
            whole numbers.
        """
        check_is_fitted(self, "estimator_")
        save_model(path, "Forecaster", *self._model_state())

    def _model_state(self):
        return stored.model_state(self)

    @classmethod
    def _from_model_state(cls, arrays, meta) -> Forecaster:
        return stored.restore(cls, arrays, meta)
