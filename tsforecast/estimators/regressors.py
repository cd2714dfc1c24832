"""The recurrent regressors beside the LSTM, which share its parameters and what it says of them."""

from __future__ import annotations

import inspect
import re

from tsforecast._compat import StrOptions
from tsforecast.estimators.base import RecurrentRegressor
from tsforecast.estimators.lstm import MINIMAL, LSTMRegressor

# Pickles of earlier versions look for the LSTM here, too.
__all__ = ["GRURegressor", "LSTMRegressor", "RNNRegressor", "SLSTMRegressor"]

_GRU_CONSTRAINTS = {
    **RecurrentRegressor._parameter_constraints,
    "layer_norm": ["boolean"],
    "variant": [StrOptions({MINIMAL}), None],
}
_RNN_CONSTRAINTS = {**RecurrentRegressor._parameter_constraints, "activation": [StrOptions({"tanh", "relu"})]}


def _shares_parameters(own: str, references: str, **defaults: object):
    """Class decorator: the docstring and signature of the shared parameters, the class's own after them, sources."""
    doc = inspect.cleandoc(LSTMRegressor.__doc__ or "")
    doc = doc[doc.index("Parameters\n---") : doc.index("References\n---")]
    doc = re.sub(r"peepholes : bool.*?(?=\nAttributes)", own, doc, flags=re.DOTALL)
    shared = inspect.signature(RecurrentRegressor.__init__)
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in defaults.items()]
    signature = shared.replace(parameters=[*shared.parameters.values(), *added])

    def __init__(self, *args, **kwargs):
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        self._set_parameters(given.arguments)

    __init__.__signature__ = signature  # type: ignore[attr-defined]  # which scikit-learn reads the names from

    def extend(cls):
        cls.__doc__ = f"{inspect.cleandoc(cls.__doc__)}\n\n{doc}References\n----------\n{references}\n"
        cls.__init__ = __init__
        return cls

    return extend


@_shares_parameters(
    own="""layer_norm : bool, default=False
    Normalise the sums that gates and candidate take from the inputs and from the step before [2]_: for wide or deep
    layers. Not for windows of one feature a step: of that alone, normalised sums show little more than the sign.
variant : {"minimal"} or None, default=None
    ``"minimal"`` is the minGRU [3]_: no reset gate, no tanh, and an update gate and candidate that read the input
    alone, so that one multiply serves all steps of a window; without ``layer_norm``.
""",
    references=""".. [1] K. Cho et al.: Learning phrase representations using RNN encoder-decoder for statistical
   machine translation. EMNLP 2014.
.. [2] J. Ba, J. Kiros, G. Hinton: Layer normalization. arXiv 1607.06450, 2016.
.. [3] L. Feng, F. Tung, M. Ahmed, Y. Bengio, H. Hajimirsadeghi: Were RNNs all we needed? arXiv 2410.01201, 2024.""",
    layer_norm=False,
    variant=None,
)
class GRURegressor(RecurrentRegressor):
    """Gated recurrent unit network for windows of a time series.

    Stacked GRU layers [1]_ in the form that resets after the multiply, as in cuDNN, PyTorch and Keras: three quarters
    of the weights of an LSTM of as many units.
    """

    _parameter_constraints: dict = _GRU_CONSTRAINTS

    @property
    def _cell(self) -> str:
        if self.layer_norm and self.variant is not None:
            raise ValueError(f"layer_norm=True and variant={self.variant!r} exclude one another; set one of them")
        if self.layer_norm:
            return "gru_layer_norm"
        return "gru" if self.variant is None else "mingru"


@_shares_parameters(
    own="",
    references=""".. [1] M. Beck, K. Poeppel, M. Spanring, A. Auer, O. Prudnikova, M. Kopp, G. Klambauer,
   J. Brandstetter, S. Hochreiter: xLSTM: Extended long short-term memory. NeurIPS 2024.""",
)
class SLSTMRegressor(RecurrentRegressor):
    """sLSTM network for windows of a time series: an LSTM with exponential input gates.

    Stacked sLSTM layers [1]_. A cell is the weighted mean of all that was written into it; as the exponential has no
    upper bound, what comes later can outweigh everything before it, which the gate of an LSTM cannot. As many weights
    as an LSTM of as many units: one head, whose recurrent matrices are dense.
    """

    @property
    def _cell(self) -> str:
        return "slstm"


@_shares_parameters(
    own="""activation : {"tanh", "relu"}, default="tanh"
    Of every layer. ``"relu"`` has no bound: keep ``max_grad_norm``.
""",
    references=".. [1] J. Elman: Finding structure in time. Cognitive Science 14(2), 1990.",
    activation="tanh",
)
class RNNRegressor(RecurrentRegressor):
    """Plain recurrent (Elman) network for windows of a time series.

    Stacked layers h = activation(W x + U h + b) [1]_: a quarter of the weights of an LSTM. Its memory fades within some
    tens of steps; take ``LSTMRegressor`` or ``GRURegressor`` for longer ones.
    """

    _parameter_constraints: dict = _RNN_CONSTRAINTS

    @property
    def _cell(self) -> str:
        return f"rnn_{self.activation}"
