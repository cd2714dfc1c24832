"""Public recurrent regressors: parameters and their meaning; the work is in ``base``."""

from __future__ import annotations

from tsforecast.estimators.base import RecurrentRegressor


class LSTMRegressor(RecurrentRegressor):
    """Long short-term memory network for windows of a time series.

    Stacked LSTM layers [1]_ read a window step by step; a dense head turns the last hidden state into one or several
    outputs (a horizon at once).

    Parameters
    ----------
    hidden_layer_sizes : int or tuple of int, default=(50,)
        Units of each stacked layer.
    n_features_per_step : int, default=1
        F of a 2-D ``X (n, T*F)``, which is time-major: all features of the oldest step first. A 3-D ``X (n, T, F)``
        says it itself.
    lag_order : {"auto", "oldest_first", "newest_first"}, default="auto"
        Order of the steps in a row. ``"auto"`` reads it from feature names such as ``lag1``, ``lag_1`` or
        ``y_lag-1`` and else takes the oldest step to be first. Set ``"newest_first"`` for callers that pass lags
        1, 2, 3, ... without names.
    loss : {"squared_error", "absolute_error", "huber", "quantile"}, default="squared_error"
        Measured in units of the standardised targets.
    solver : {"adam", "adamw", "sgd", "rmsprop"}, default="adam"
    learning_rate_init : float, default=1e-3
    learning_rate : {"constant", "cosine", "exponential", "step"}, default="constant"
        Cosine decays to zero over ``max_iter`` epochs; exponential multiplies by ``lr_gamma`` each epoch, step each
        ``lr_step_size`` epochs.
    batch_size : int or "auto", default="auto"
        ``"auto"`` is ``min(200, n)``.
    max_iter : int, default=200
        Epochs.
    alpha : float, default=0.0
        L2 penalty on all weights but the biases; for ``"adamw"`` decoupled weight decay.
    max_grad_norm : float or None, default=1.0
        Bound on the global norm of the gradient of a batch.
    shuffle : bool, default=True
        Visit windows in a new order each epoch.
    random_state : int, RandomState instance or None, default=None
        An int gives the same bits for any ``n_jobs``.
    tol : float, default=1e-4
        Training stops when the loss (or, with early stopping, the validation score) has not improved by ``tol``
        for ``n_iter_no_change`` epochs.
    early_stopping : bool, default=False
        Hold out the last rows (or use ``X_val``), stop on them and keep the best weights. Rows are taken as
        consecutive windows: ``max(T, K) - 1`` rows before the held-out ones are left out of training.
    validation_fraction : float, default=0.1
        Share of rows held out by ``early_stopping``.
    n_iter_no_change : int, default=10
        Epochs without progress that are put up with.
    warm_start : bool, default=False
        ``fit`` continues from the last weights, optimiser state and input statistics for ``max_iter`` more epochs.
    verbose : int, default=0
        Above 0: one line an epoch on stderr.
    n_jobs : int or None, default=None
        Threads; None is 1, -1 all processors. Results do not depend on it.
    device : {"cpu", "cuda", "auto", "reference"}, default="cpu"
        Where to train and predict: compiled kernels on the processor or on an NVIDIA GPU (extra ``cuda``); ``"auto"``
        takes the GPU where there is one that can run this network; ``"reference"`` is slow and readable NumPy.
        The devices agree within rounding, not to the bit.
    dtype : {"float32", "float64"}, default="float32"
        Of weights and computation.
    standardize : bool, default=True
        Subtract the mean and divide by the standard deviation of each feature and each output, taken over the
        (weighted) training rows. Off when ``window_norm`` is not ``"none"``.
    window_norm : {"none", "center", "standard"}, default="none"
        Normalise each window by itself: subtract the mean of its last ``season_length`` steps (of all, if that is 0),
        with ``"standard"`` also divide by its standard deviation. Targets must then be in the units of feature 0.
    season_length : int, default=0
        Above 0: the network learns the difference from feature 0 one season before the target.
    linear_skip : bool, default=False
        Add a linear map from the window to the outputs.
    quantiles : sequence of float, default=(0.1, 0.5, 0.9)
        Levels for ``loss="quantile"``, rising.
    huber_delta : float, default=1.0
        Where the Huber loss turns from squared to absolute.
    momentum : float, default=0.9
    nesterovs_momentum : bool, default=True
        For ``solver="sgd"``.
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        Decay rates and the constant in the denominator of Adam (and RMSprop, which uses ``beta_2``).
    lr_gamma : float, default=0.95
    lr_step_size : int, default=30

    Attributes
    ----------
    n_iter_ : int
        Epochs run.
    loss_ : float
        Loss of the last epoch.
    loss_curve_ : list of float
        Loss of each epoch.
    best_loss_ : float
        Lowest loss of an epoch.
    validation_scores_ : list of float or None
        Negative validation loss of each epoch; None without early stopping.
    best_validation_score_ : float or None
    n_features_in_ : int
        T * F.
    feature_names_in_ : ndarray of str
        Where ``X`` had names.
    n_outputs_ : int
        K.

    References
    ----------
    .. [1] S. Hochreiter, J. Schmidhuber: Long short-term memory. Neural Computation 9(8), 1997.

    Examples
    --------
    >>> import numpy as np
    >>> from tsforecast import LSTMRegressor, sliding_windows
    >>> X, y = sliding_windows(np.sin(np.arange(200) / 5), 24)
    >>> model = LSTMRegressor(8, max_iter=50, random_state=0).fit(X[:150], y[:150])
    >>> model.predict(X[150:]).shape
    (26,)
    """

    _cell = "lstm"

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
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_features_per_step = n_features_per_step
        self.lag_order = lag_order
        self.loss = loss
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.alpha = alpha
        self.max_grad_norm = max_grad_norm
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.verbose = verbose
        self.n_jobs = n_jobs
        self.device = device
        self.dtype = dtype
        self.standardize = standardize
        self.window_norm = window_norm
        self.season_length = season_length
        self.linear_skip = linear_skip
        self.quantiles = quantiles
        self.huber_delta = huber_delta
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.lr_gamma = lr_gamma
        self.lr_step_size = lr_step_size
