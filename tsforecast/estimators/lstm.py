"""The regressor around an LSTM, and what the parameters of all recurrent regressors mean; the work is in ``base``."""

from __future__ import annotations

from tsforecast._compat import StrOptions
from tsforecast.estimators.base import RecurrentRegressor

VARIANTS = ("no_input_gate", "no_forget_gate", "no_output_gate", "no_input_activation", "no_output_activation",
            "full_gate_recurrence")  # fmt: skip
MINIMAL = "minimal"

_CONSTRAINTS = {
    **RecurrentRegressor._parameter_constraints,
    "peepholes": ["boolean"],
    "coupled_gates": ["boolean"],
    "layer_norm": ["boolean"],
    "variant": [StrOptions({*VARIANTS, MINIMAL}), None],
}


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
    max_grad_value : float or None, default=None
        Bound on each entry of the gradient of a batch, before that on its norm.
    bptt_steps : int or None, default=None
        Truncated back-propagation through time, for long windows: the gradient ends so many steps before the end of the
        window, and the steps before are run forwards only, in less time and memory. That it pays to keep something for
        longer is not learned; what the last steps teach is used by all. None: back to the first step.
    stateful : bool, default=False
        For one long series cut into windows that follow one another without overlap: each window starts from the states
        that the row before has left, so that memory reaches beyond it, though the gradient does not. Training cuts the
        rows into ``batch_size`` stretches and goes through them side by side, each from a zero state; ``"auto"`` makes
        these at least 20 rows long. Forecasts depend on the rows before: ``predict`` starts from a zero state, so give
        it enough of the past to warm up on. Needs ``shuffle=False``. Rows that overlap are refused where ``X`` is a
        view of the series, as ``sliding_windows`` returns it; in a copy nobody can tell an overlap from a series that
        repeats itself.
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
    recurrent_init : {"orthogonal", "identity"}, default="orthogonal"
        Recurrent weights that training starts from, each gate by itself. The identity suits ``RNNRegressor`` with ReLU
        on long windows.
    bias_init : {"unit", "chrono"}, default="unit"
        Bias that training starts from in the gate that keeps the past: 1, or chrono, for windows of hundreds of steps:
        log(u) with u uniform from 1 to T - 1, so that units remember for about u steps; an input gate beside a forget
        gate starts at -log(u). All other biases start at 0.
    bidirectional : bool or {"concat", "sum"}, default=False
        Let every layer also read the window from its newest to its oldest step. Its output are the states of both
        directions side by side (``"concat"``, also True) or added up (``"sum"``). Twice the work.
    residual : bool, default=False
        Add the input of every layer from the second on to its output; needs layers of equal width.
    dilations : sequence of int or None, default=None
        How many steps back the state lies that a layer reads, one number a layer: ``(1, 2, 4)`` lets the third layer
        go over the window in strides of 4. None is 1 for all.
    learn_initial_state : bool, default=False
        Learn the state that every window starts from; else it is zero.
    dropout : float, default=0.0
        Share of units, below 1, that are silent where the layer above or the head reads a layer, others at each step of
        training (Zaremba et al. 2014). The rest is louder in turn, so that forecasts, which silence none, are on
        average those of training; with a single layer it is the head that hears fewer units.
    recurrent_dropout : float, default=0.0
        Share of units of the state of the step before that a layer does not read, the same at all steps of a window
        (Gal and Ghahramani 2016).
    zoneout : float, default=0.0
        Probability that a unit keeps its state in a step of training; forecasts mix old and new state in that ratio
        (Krueger et al. 2017).
    attention : {"additive", "dot"} or None, default=None
        Beside the last hidden state, the head reads a mean of the hidden states of all steps, weighted by how well each
        answers to the last one: by a small network of its own (additive, Bahdanau et al. 2015) or by a product with a
        matrix (dot, Luong et al. 2015), which costs less. ``attention_weights`` tells what the steps weigh.
    decoder : {"dense", "recurrent", "recurrent_attention"}, default="dense"
        How a horizon of K steps is made. Dense: all at once. Recurrent: step by step by a cell of its own, of the same
        kind and width as the last layer, which starts from that layer's state and reads its own output before
        (sequence to sequence, Sutskever et al. 2014); with attention it also looks at all states of the window at
        every step (Bahdanau et al. 2015).
    n_future_features : int, default=0
        E inputs that are known for each of the K steps to come, such as a calendar or a price. They are the last K*E
        columns of a 2-D ``X (n, T*F + K*E)``, time-major, of the first step to come first.
    teacher_forcing : float or pair of float, default=0.0
        Probability that a recurrent decoder reads the true value of the step before in training, not its own output
        (scheduled sampling, Bengio et al. 2015): in the first and the last of ``max_iter`` epochs, in a straight line
        between them; a single number goes down to 0. Anything but 0 is refused with ``decoder="dense"``, whose outputs
        do not read one another.
    peepholes : bool, default=False
        Let the gates see the cell: input and forget gate the old one, the output gate the new one [2]_.
    coupled_gates : bool, default=False
        Forget just what is written: the forget gate is one minus the input gate, three quarters of the weights [3]_.
    layer_norm : bool, default=False
        Normalise the sums that gates take from the inputs and from the step before, and the cell where it is read [4]_:
        for wide or deep layers. Not for windows of one feature a step: of that alone, normalised sums show little more
        than the sign.
    variant : str or None, default=None
        Another member of the search over LSTMs [3]_: ``"no_input_gate"``, ``"no_forget_gate"``, ``"no_output_gate"``,
        ``"no_input_activation"``, ``"no_output_activation"`` or ``"full_gate_recurrence"``; or ``"minimal"``, the
        minLSTM [5]_: no cell, no output gate, and gates that read the input alone. One of ``peepholes``,
        ``coupled_gates``, ``layer_norm`` and ``variant`` at a time.

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
    .. [2] F. Gers, J. Schmidhuber: Recurrent nets that time and count. IJCNN 2000.
    .. [3] K. Greff, R. Srivastava, J. Koutnik, B. Steunebrink, J. Schmidhuber: LSTM: a search space odyssey. 2015.
    .. [4] J. Ba, J. Kiros, G. Hinton: Layer normalization. arXiv 1607.06450, 2016.
    .. [5] L. Feng, F. Tung, M. Ahmed, Y. Bengio, H. Hajimirsadeghi: Were RNNs all we needed? arXiv 2410.01201, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from tsforecast import LSTMRegressor, sliding_windows
    >>> X, y = sliding_windows(np.sin(np.arange(200) / 5), 24)
    >>> model = LSTMRegressor(8, max_iter=50, random_state=0).fit(X[:150], y[:150])
    >>> model.predict(X[150:]).shape
    (26,)
    """

    _parameter_constraints: dict = _CONSTRAINTS

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
        peepholes=False,
        coupled_gates=False,
        layer_norm=False,
        variant=None,
    ):
        self._set_parameters(locals())

    @property
    def _cell(self) -> str:
        asked = {"peephole": self.peepholes, "coupled": self.coupled_gates, "layer_norm": self.layer_norm}
        names = [name for name, is_asked in (asked | {self.variant: self.variant is not None}).items() if is_asked]
        if len(names) > 1:
            raise ValueError(
                f"peepholes={self.peepholes}, coupled_gates={self.coupled_gates}, layer_norm={self.layer_norm} and "
                f"variant={self.variant!r} exclude one another; set one of them"
            )
        if self.variant == MINIMAL:
            return "minlstm"
        return f"lstm_{names[0]}" if names else "lstm"
