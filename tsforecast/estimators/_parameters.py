"""The parameters that all recurrent regressors share; ``LSTMRegressor`` tells what they mean."""

from __future__ import annotations

from functools import cache

from sklearn.base import BaseEstimator

from tsforecast.estimators._config import PARAMETER_CONSTRAINTS


class SharedParameters(BaseEstimator):
    """Parameters under their names, as scikit-learn wants them."""

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

    @classmethod
    @cache
    def _get_param_names(cls):
        """As scikit-learn finds them, which reads the signature of ``__init__`` and takes 0.1 ms, once a class."""
        return super()._get_param_names()

    def _set_parameters(self, given: dict) -> None:
        """Keep the arguments of ``__init__`` under their names, as scikit-learn wants it."""
        for name in self._get_param_names():
            setattr(self, name, given[name])
