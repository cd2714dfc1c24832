"""The scikit-learn estimator around a recurrent network: validate, scale, train, publish ``*_`` attributes.

Letters: n rows (windows), T steps, F features a step, K outputs, Q quantiles.
"""

from __future__ import annotations

from sklearn.base import BaseEstimator, RegressorMixin

from tsforecast._compat import CallbackSupportMixin, _fit_context
from tsforecast.backends.base import Windows, get_backend
from tsforecast.estimators import _rows
from tsforecast.estimators._attempt import Attempt
from tsforecast.estimators._epochs import EpochReporter
from tsforecast.estimators._jobs import TrainingJobs
from tsforecast.estimators._state import model_state, restore
from tsforecast.nn.fleet import TrainJob
from tsforecast.nn.trainer import train
from tsforecast.persistence import save_model


class RecurrentRegressor(TrainingJobs, CallbackSupportMixin, RegressorMixin, BaseEstimator):
    """What every recurrent regressor does, and its parameters; a subclass tells their meaning and the ``_cell``."""

    @property
    def _cell(self) -> str:
        """A key of ``tsforecast.cells.CELLS``."""
        raise NotImplementedError

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.multi_output = True
        return tags

    # ---------------------------------------------------------------- fitting

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None, sample_weight_val=None):
        """Train on windows ``X`` and targets ``y``.

        Divergence and Ctrl-C leave the weights and the history of the epochs that ended, to go on from with
        ``warm_start``. After an error before the end of the first epoch, whatever its cause, the estimator is as it was
        before, fitted or not.

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
        with Attempt(self) as attempt:
            attempt.job = self._job_of_rows(X, y, sample_weight, X_val, y_val, sample_weight_val)
            self._train(attempt.job, callback_data={"X": X, "y": y})
        return self

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
        with Attempt(self) as attempt:
            rows = _rows.read_training_rows(self, X, y, sample_weight, reset=fresh)
            attempt.job = self._job(rows, None, fresh=fresh, n_epochs=1)
            self._train(attempt.job, callback_data={"X": X, "y": y})
        return self

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
        with Attempt(self) as attempt:
            attempt.job = self._job_of_windows(windows, **shape)
            self._train(attempt.job, callback_data={})
        return self

    @_fit_context(prefer_skip_nested_validation=True)  # again, where no ``fit`` is around it: callbacks end in there
    def _train(self, job: TrainJob, *, callback_data: dict) -> None:
        """Run epochs, publish what was learned."""
        reporter = EpochReporter(self, job, callback_data)
        try:
            train(
                get_backend(self.device), job.spec, job.config, job.state, job.windows, val=job.val, seed=job.seed,
                first_epoch=job.first_epoch, n_epochs=job.n_epochs, on_epoch=reporter,
            )  # fmt: skip
        finally:  # divergence and Ctrl-C leave the epochs before them, to go on from with warm_start
            self._publish(job)
        reporter.close()

    def _publish(self, job: TrainJob) -> None:
        """Set what the epochs that ended have learned, if any did."""
        state, history = job.state, job.history
        if history.n_iter:
            self._params, self._opt_m, self._opt_v, self._opt_step = state.params, state.m, state.v, state.step
            scores = [*(self.validation_scores_ or []), *(history.validation_scores or [])]
            self._set_history([*self.loss_curve_, *history.loss_curve], scores)

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
