"""What a recurrent regressor does before its first epoch: read, scale, start or resume; a ``TrainJob`` comes out.

Letters: T steps, F features a step, K outputs.
"""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state

from tsforecast.backends.base import StepRule, TrainState, Windows, get_backend, gradient_steps
from tsforecast.estimators import _rows, _scaling
from tsforecast.estimators._config import network_fields, train_config, warn_of_lost_inputs
from tsforecast.estimators._parameters import SharedParameters
from tsforecast.estimators.explaining import ExplainingMethods
from tsforecast.exceptions import DataError
from tsforecast.nn.fleet import TrainJob
from tsforecast.nn.initializers import init_params
from tsforecast.spec import NetworkSpec


class TrainingJobs(ExplainingMethods, SharedParameters):
    """Mixin of :class:`~tsforecast.estimators.base.RecurrentRegressor`: from data to what is to be trained."""

    def _job_of_rows(self, X, y, sample_weight, X_val=None, y_val=None, sample_weight_val=None) -> TrainJob:
        """What ``fit`` is to do, up to the first epoch."""
        fresh = not (self.warm_start and hasattr(self, "_params"))
        rows = _rows.read_training_rows(self, X, y, sample_weight, reset=fresh)
        val = _rows.read_validation_rows(self, X_val, y_val, sample_weight_val)
        if val is None and self.early_stopping:
            rows, val = _rows.split_tail(rows, self._n_timesteps, self.n_outputs_, self.validation_fraction)
        return self._job(rows, val, fresh=fresh, n_epochs=self.max_iter)

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
