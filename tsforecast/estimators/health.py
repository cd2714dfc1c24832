"""Whether the gradient of the loss survives its way back through the steps of a window.

Letters: n windows, T steps, H units of a layer. With l_i the loss of window i by itself and h_t the hidden state of a
layer after step t, the norm of step t is::

    g_t = sqrt(mean_i |dl_i / dh_t|^2)

The derivative is the whole one: through the layers above and through all later steps. g_1 / g_T tells how much of what
the last step hears is heard by the first. In a linear network h_t = W h_{t-1} it is bounded by the (T-1)th power of the
largest singular value of W, which is why it shrinks or grows geometrically.

S. Hochreiter: Untersuchungen zu dynamischen neuronalen Netzen. Diploma thesis, TU Munich, 1991.
Y. Bengio, P. Simard, P. Frasconi: Learning Long-Term Dependencies with Gradient Descent is Difficult. IEEE Transactions
on Neural Networks 5(2), 1994.
R. Pascanu, T. Mikolov, Y. Bengio: On the difficulty of training recurrent neural networks. ICML 2013.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tsforecast.backends.base import Windows
from tsforecast.cells import CELLS
from tsforecast.estimators import plots
from tsforecast.estimators._config import step_rule
from tsforecast.exceptions import GradientHealthWarning
from tsforecast.topology import Run

if TYPE_CHECKING:
    import pandas as pd

# Verdicts by g_1 / g_T: below the first a layer cannot learn from its first steps, above the second it learns from
# little else. A plain LSTM loses about a tenth at the last step alone, where the head no longer helps.
VANISHING, EXPLODING = 1e-4, 1e4


@dataclass(frozen=True)
class LayerHealth:
    """How the gradient fares in one layer, in one direction.

    Parameters
    ----------
    layer : int
        From 0, the one that reads the window.
    direction : {"forward", "reverse"}
        Reverse runs exist in bidirectional layers; their first step is the newest.
    norms : ndarray of shape (T,)
        g_t, the oldest step first.
    ratio : float
        Norm at the first step that the layer reads over that at the last; with dilation d, of the largest of d steps.
    factor : float
        The same for each step: the ``T - d`` th root of ``ratio``.
    verdict : {"healthy", "vanishing", "exploding"}
        "vanishing" for a ratio below 1e-4 or no gradient at all, "exploding" for one above 1e4 or not finite.
    """

    layer: int
    direction: str
    norms: np.ndarray
    ratio: float
    factor: float
    verdict: str

    def __str__(self):
        name = f"layer {self.layer}" + ("" if self.direction == "forward" else ", reverse")
        return f"{name}: {self.verdict}, first step / last step {self.ratio:.2g}, a factor of {self.factor:.3g} a step"


@dataclass(frozen=True)
class GradientHealth:
    """What ``model.gradient_health`` found; prints as a line a layer.

    Parameters
    ----------
    layers : tuple of LayerHealth
        From the layer that reads the window upwards; a bidirectional layer has two entries.
    """

    layers: tuple[LayerHealth, ...]

    def __str__(self):
        return "\n".join(str(layer) for layer in self.layers)

    def to_frame(self) -> pd.DataFrame:
        """One row a step of a layer: columns ``layer, direction, step, norm, verdict``, the oldest step first."""
        import pandas as pd

        return pd.concat(
            [
                pd.DataFrame(
                    {"layer": x.layer, "direction": x.direction, "step": np.arange(len(x.norms)), "norm": x.norms,
                     "verdict": x.verdict}
                )
                for x in self.layers
            ],
            ignore_index=True,
        )  # fmt: skip

    def plot(self, ax=None):
        """Draw the norm by step of every layer on a logarithmic axis.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure of pyplot.

        Returns
        -------
        ax : matplotlib Axes

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        return plots.draw_health(self, ax)


def examine(model, windows: Windows) -> GradientHealth:
    """Norms and verdicts of a fitted ``model`` on scaled windows, with a warning for each layer that is not healthy."""
    from tsforecast.backends.reference.backend import ReferenceBackend

    spec = model._spec()
    with np.errstate(over="ignore", invalid="ignore"):
        norms = ReferenceBackend().state_gradients(spec, step_rule(model), model._params, windows)
    layers = tuple(_judge(run, g) for run, g in zip(spec.topology.runs, norms, strict=True))
    for layer in layers:
        if layer.verdict != "healthy":
            warnings.warn(f"{layer}. {_advice(model, layer.verdict)}", GradientHealthWarning, stacklevel=3)
    return GradientHealth(layers)


def _judge(run: Run, norms: np.ndarray) -> LayerHealth:
    """Verdict on the norms ``[T]`` of one run."""
    way = norms[::-1] if run.reverse else norms
    first, last = way[: run.dilation].max(), way[-run.dilation :].max()
    if not np.isfinite(norms).all():
        ratio = np.inf
    else:
        ratio = 0.0 if last == 0.0 else float(first / last)
    verdict = "vanishing" if ratio < VANISHING else "exploding" if ratio > EXPLODING else "healthy"
    factor = ratio ** (1.0 / max(1, len(norms) - run.dilation))
    return LayerHealth(run.layer, "reverse" if run.reverse else "forward", norms, ratio, factor, verdict)


def _advice(model, verdict: str) -> str:
    """What to change, of the things that this model has not got yet."""
    cell, advice = model._cell, []
    is_plain = cell.startswith("rnn")
    if verdict == "vanishing":
        if is_plain:
            advice.append("LSTMRegressor or GRURegressor in place of RNNRegressor")
        if CELLS[cell].keeps is not None and model.bias_init != "chrono":
            advice.append('bias_init="chrono"')
        if is_plain and (model.recurrent_init != "identity" or cell != "rnn_relu"):
            advice.append('recurrent_init="identity" with activation="relu"')
        advice.append("shorter windows")
    else:
        if model.max_grad_norm is None and model.max_grad_value is None:
            advice.append("max_grad_norm=1.0")
        if cell == "rnn_relu":
            advice.append('activation="tanh"')
        if CELLS[cell].recurrent and model.recurrent_init != "orthogonal":
            advice.append('recurrent_init="orthogonal"')
        advice += ["a lower learning_rate_init", "shorter windows"]
    begin = "The network hardly learns from the first steps" if verdict == "vanishing" else "Training may be unstable"
    return f"{begin}; try {', '.join(advice[:-1]) + ' or ' if len(advice) > 1 else ''}{advice[-1]}"
