"""The scikit-learn estimator around a recurrent network: validate, scale, train, publish ``*_`` attributes.

Letters: n rows (windows), T steps, F features a step, K outputs, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state

from tsforecast._compat import CallbackSupportMixin, _fit_context
from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend, gradient_steps
from tsforecast.estimators import _rows, _scaling
from tsforecast.estimators._config import PARAMETER_CONSTRAINTS, network_fields, train_config, warn_of_lost_inputs
from tsforecast.estimators._epochs import EpochReporter
from tsforecast.estimators._state import model_state, restore
from tsforecast.estimators.explaining import ExplainingMethods
from tsforecast.exceptions import DataError
from tsforecast.nn.fleet import TrainJob
from tsforecast.nn.initializers import init_params
from tsforecast.nn.trainer import train
from tsforecast.persistence import save_model
from tsforecast.spec import NetworkSpec


class RecurrentRegressor(ExplainingMethods, CallbackSupportMixin, RegressorMixin, BaseEstimator):
    """What every recurrent regressor does, and its parameters; a subclass tells their meaning and the ``_cell``."""

    _parameter_constraints: dict = PARAMETER_CONSTRAINTS

    def __init__(
        self,
        hidden_layer_sizes=(50,),
        *,
        n_features_per_step=1,
        lag_order="auto",
        loss="squared_error",
        solver="adam",
        learning_rate_init=1e-3,
        learning_rate="constant",
        batch_size="auto",
        max_iter=200,
        alpha=0.0,
        max_grad_norm=1.0,
        max_grad_value=None,
        bptt_steps=None,
        stateful=False,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        warm_start=False,
        verbose=0,
        n_jobs=None,
        device="cpu",
        dtype="float32",
        standardize=True,
        window_norm="none",
        season_length=0,
        linear_skip=False,
        quantiles=(0.1, 0.5, 0.9),
        huber_delta=1.0,
        momentum=0.9,
        nesterovs_momentum=True,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        lr_gamma=0.95,
        lr_step_size=30,
        recurrent_init="orthogonal",
        bias_init="unit",
        bidirectional=False,
        residual=False,
        dilations=None,
        learn_initial_state=False,
        dropout=0.0,
        recurrent_dropout=0.0,
        zoneout=0.0,
        attention=None,
        decoder="dense",
        n_future_features=0,
        teacher_forcing=0.0,
    ):
        self._set_parameters(locals())

    @property
    def _cell(self) -> str:
        """A key of ``tsforecast.cells.CELLS``."""
        raise NotImplementedError

    @classmethod
    @cache
    def _get_param_names(cls):
        """As scikit-learn finds them, which reads the signature of ``__init__`` and takes 0.1 ms, once a class."""
        return super()._get_param_names()

    def _set_parameters(self, given: dict) -> None:
        """Keep the arguments of ``__init__`` under their names, as scikit-learn wants it."""
        for name in self._get_param_names():
            setattr(self, name, given[name])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.multi_output = True
        return tags

    # ---------------------------------------------------------------- fitting

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None, sample_weight_val=None):
        """Train on windows ``X`` and targets ``y``.

        Parameters
        ----------
        X : array-like of shape (n, T*F) or ndarray of shape (n, T, F)
            One window a row, in time order (early stopping holds out the last rows).
        y : array-like of shape (n,) or (n, K)
            Targets; K steps of a horizon at once.
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows in the loss and in the statistics of ``standardize``; a weight of 2 is the row twice.
        X_val, y_val : array-like, default=None
            Rows to stop early on, instead of the tail of ``X``. Need ``early_stopping=True``.
        sample_weight_val : array-like, default=None
            Weights of the validation rows.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            For wrong parameters, shapes, NaN or infinity (``DataError`` where tsforecast finds the fault itself).
        DivergedError
            If the loss becomes non-finite.
        """
        earlier = dict(vars(self))
        job = self._job_of_rows(X, y, sample_weight, X_val, y_val, sample_weight_val)
        try:
            return self._train(job, callback_data={"X": X, "y": y})
        finally:
            if not hasattr(self, "_params"):  # no epoch has ended: the backend refused, or it was cut short
                self.__dict__.clear()
                self.__dict__.update(earlier)

    def _job_of_rows(self, X, y, sample_weight, X_val=None, y_val=None, sample_weight_val=None) -> TrainJob:
        """What ``fit`` is to do, up to the first epoch."""
        fresh = not (self.warm_start and hasattr(self, "_params"))
        with self._kept_on_error():
            rows = _rows.read_training_rows(self, X, y, sample_weight, reset=fresh)
            val = _rows.read_validation_rows(self, X_val, y_val, sample_weight_val)
            if val is None and self.early_stopping:
                rows, val = _rows.split_tail(rows, self._n_timesteps, self.n_outputs_, self.validation_fraction)
            return self._job(rows, val, fresh=fresh, n_epochs=self.max_iter)

    @contextmanager
    def _kept_on_error(self) -> Iterator[None]:
        """An error in here leaves an earlier fit as it was."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """Train one epoch on the given rows, from the present weights.

        The first call fixes the widths and the statistics of ``standardize``; later calls keep them.

        Parameters
        ----------
        X, y, sample_weight
            As in :meth:`fit`.

        Returns
        -------
        self : estimator
        """
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        fresh = not hasattr(self, "_params")
        with self._kept_on_error():
            rows = _rows.read_training_rows(self, X, y, sample_weight, reset=fresh)
            job = self._job(rows, None, fresh=fresh, n_epochs=1)
        return self._train(job, callback_data={"X": X, "y": y})

    @_fit_context(prefer_skip_nested_validation=True)
    def _fit_windows(self, windows: Windows, **shape):
        """Train on windows of flat buffers, without building them: the way in for forecasters; see ``_job_of_windows``.

        Parameters
        ----------
        windows : Windows
            Training windows.
        **shape
            The other parameters of ``_job_of_windows``.

        Returns
        -------
        self : estimator
        """
        return self._train(self._job_of_windows(windows, **shape), callback_data={})

    def _job_of_windows(
        self, windows: Windows, *, n_timesteps: int, n_features: int, n_outputs: int, val: Windows | None = None
    ) -> TrainJob:
        """What ``_fit_windows`` is to do, up to the first epoch.

        Parameters
        ----------
        windows : Windows
            Buffers of any floating dtype. With ``standardize`` (and ``window_norm="none"``), ``values`` must be whole
            steps (``len % F == 0``, starts multiples of F). In time order if ``early_stopping`` holds out the tail.
        n_timesteps, n_features, n_outputs : int
            T, F, K.
        val : Windows or None
            Windows to stop early on; given, it is used whatever ``early_stopping`` says.
        """
        _scaling.check_magnitude(windows.values.reshape(-1, n_features), self.dtype, what="X")
        _scaling.check_magnitude(windows.targets.reshape(-1, 1), self.dtype, what="y")
        if self.n_future_features:
            raise DataError(
                "known-future inputs stand in rows of X: use fit(X, y) of the regressor itself, or n_future_features=0"
            )
        if self.stateful:
            raise DataError(
                "stateful=True needs windows that follow one another without overlap: use fit(X, y) of the regressor "
                "itself, or stateful=False"
            )
        fresh = not (self.warm_start and hasattr(self, "_params"))
        self._n_timesteps, self._n_features_per_step = n_timesteps, n_features
        self.n_features_in_, self.n_outputs_ = n_timesteps * n_features, n_outputs
        self._newest_first, self._y_is_1d, self._y_dtype = False, n_outputs == 1, windows.targets.dtype.name
        if val is None and self.early_stopping:
            windows, val = _rows.split_tail(windows, n_timesteps, n_outputs, self.validation_fraction)
        return self._job(windows, val, fresh=fresh, n_epochs=self.max_iter)

    def _job(self, windows: Windows, val: Windows | None, *, fresh: bool, n_epochs: int) -> TrainJob:
        """Standardise, and start or resume the optimiser."""
        get_backend(self.device)  # refuses a device that is not there before anything is computed
        config = train_config(self, len(windows))
        if config.batch_size == len(windows) and not self.stateful:
            windows = _rows.merge_repeated(windows, self.n_features_in_, self.n_outputs_)
        network = network_fields(self, self._n_timesteps, self._n_features_per_step, self.n_outputs_)
        gradient_steps(NetworkSpec(**network), config.rule)  # refuses what does not go together
        if fresh:
            warn_of_lost_inputs(network)
            self._start(windows, network, config.rule)
        elif NetworkSpec(**network) != self._spec() or self._params.dtype != self.dtype:
            raise ValueError(
                "the network's shape or dtype changed since the last fit; set warm_start=False or clone the estimator"
            )
        state = TrainState(self._params.copy(), seed=self._seed)
        state.m[:], state.v[:], state.step = self._opt_m, self._opt_v, self._opt_step
        return TrainJob(
            spec=NetworkSpec(**network),
            config=config,
            state=state,
            windows=_scaling.scaled_windows(self, windows),
            val=None if val is None else _scaling.scaled_windows(self, val),
            seed=self._seed,
            first_epoch=self.n_iter_,
            n_epochs=n_epochs,
        )

    def _train(self, job: TrainJob, *, callback_data: dict):
        """Run epochs, publish what was learned."""
        reporter = EpochReporter(self, job.state, job.most_epochs, callback_data)
        try:
            train(
                get_backend(self.device), job.spec, job.config, job.state, job.windows, val=job.val, seed=job.seed,
                first_epoch=job.first_epoch, n_epochs=job.n_epochs, on_epoch=reporter,
            )  # fmt: skip
        finally:  # divergence and Ctrl-C leave the epochs before them, to go on from with warm_start
            self._publish(job.state, reporter.losses, reporter.scores)
        reporter.close()
        return self

    def _start(self, windows: Windows, network: dict, rule: StepRule) -> None:
        """Statistics, seed, first weights and empty history of a new model."""
        self._network = network
        self._quantiles = rule.quantiles if rule.loss == "quantile" else None
        self._seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self._x_mean = self._x_scale = self._y_mean = self._y_scale = None
        if self.standardize and self.window_norm == "none":
            weights = windows.weights.astype(np.float64)
            self._x_mean, self._x_scale = _scaling.input_mean_scale(windows, NetworkSpec(**network), weights)
            self._y_mean, self._y_scale = _scaling.weighted_mean_scale(
                windows.targets, windows.y_starts, 1, self.n_outputs_, weights, windows.y_stride
            )
        self._params = init_params(NetworkSpec(**network), self._seed, self.dtype, self.recurrent_init, self.bias_init)
        self._opt_m, self._opt_v, self._opt_step = np.zeros_like(self._params), np.zeros_like(self._params), 0
        self.n_iter_ = 0
        self.loss_curve_: list[float] = []
        self.validation_scores_: list[float] | None = None
        self.best_validation_score_: float | None = None

    def _publish(self, state: TrainState, losses: list[float], scores: list[float]) -> None:
        """Set what was learned; a first fit that ended no epoch leaves the estimator unfitted."""
        losses = [*self.loss_curve_, *losses]
        if not losses:
            del self._params
            return
        self._params, self._opt_m, self._opt_v, self._opt_step = state.params, state.m, state.v, state.step
        self._set_history(losses, [*(self.validation_scores_ or []), *scores])

    def _set_history(self, losses: list[float], scores: list[float]) -> None:
        self.loss_curve_, self.n_iter_ = losses, len(losses)
        self.loss_, self.best_loss_ = losses[-1], min(losses)
        self.validation_scores_ = scores or None
        self.best_validation_score_ = max(scores) if scores else None

    # ------------------------------------------------------------------ files

    def save(self, path) -> None:
        """Write the fitted model to a file that :func:`tsforecast.load_model` reads; loading it never runs code.

        Parameters
        ----------
        path : path-like
            An existing file is replaced only once the new one is complete.

        Raises
        ------
        ModelFileError
            If a parameter cannot be stored (such as a ``RandomState`` instance).
        """
        self._check_fitted()
        save_model(path, type(self).__name__, *self._model_state())

    def _model_state(self):
        return model_state(self)

    @classmethod
    def _from_model_state(cls, arrays, meta):
        return restore(cls, arrays, meta)
