r"""The LSTM cell and its back-propagation through time.

Letters: T steps, B rows of a batch, F inputs a step, H units. Gates lie side by side in the order i, f, g, o.

Forward, for t = 1..T, with x_t ``[B,F]`` and the state h_{t-1}, c_{t-1} ``[B,H]``::

    1a   a_t = x_t W_x + h_{t-1} W_h + b            pre-activations [B,4H]
    2a   i_t = sigmoid(a_t^i)                       input gate
    2b   f_t = sigmoid(a_t^f)                       forget gate
    2c   g_t = tanh(a_t^g)                          candidate
    2d   o_t = sigmoid(a_t^o)                       output gate
    3a   c_t = f_t * c_{t-1} + i_t * g_t            cell state
    4a   s_t = tanh(c_t)
    4b   h_t = o_t * s_t                            hidden state

Backward, for t = T..1: ``dz`` is the derivative of the objective by z, and each line names the one that it undoes.

References
----------
S. Hochreiter, J. Schmidhuber: Long Short-Term Memory. Neural Computation 9(8), 1997.
F. Gers, J. Schmidhuber, F. Cummins: Learning to Forget: Continual Prediction with LSTM. Neural Computation 12(10),
2000 (the forget gate).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Tape(NamedTuple):
    """What the forward pass keeps for the backward pass; index 0 of ``h`` and ``c`` is the initial state."""

    x: Array  # [T,B,F]
    h: Array  # [T+1,B,H]
    c: Array  # [T+1,B,H]
    gates: Array  # [T,4,B,H] activated gates i, f, g, o
    s: Array  # [T,B,H] tanh(c_t)


def sigmoid(a: Array) -> Array:
    """Logistic function; this form of it cannot overflow."""
    return 0.5 * np.tanh(0.5 * a) + 0.5


def forward(
    x: Array,  # [T,B,F]
    w_x: Array,  # [F,4H]
    w_h: Array,  # [H,4H]
    b: Array,  # [4H]
    h0: Array,  # [B,H]
    c0: Array,  # [B,H]
) -> tuple[Array, Tape]:
    """Run the cell over all steps; return ``h [T+1,B,H]`` and the tape."""
    n_steps, n_rows, _ = x.shape
    units = w_h.shape[0]
    h = np.empty((n_steps + 1, n_rows, units))
    c = np.empty_like(h)
    gates = np.empty((n_steps, 4, n_rows, units))
    s = np.empty((n_steps, n_rows, units))
    h[0], c[0] = h0, c0
    for t in range(n_steps):
        a = x[t] @ w_x + h[t] @ w_h + b  # 1a
        a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)  # 2a 2b 2c 2d
        c[t + 1] = f * c[t] + i * g  # 3a
        s[t] = np.tanh(c[t + 1])  # 4a
        h[t + 1] = o * s[t]  # 4b
        gates[t] = i, f, g, o
    return h, Tape(x, h, c, gates, s)


def backward(
    dh_out: Array,  # [T,B,H] derivative by h_1..h_T from above (next layer or head)
    tape: Tape,
    w_x: Array,  # [F,4H]
    w_h: Array,  # [H,4H]
    dw_x: Array,  # [F,4H] accumulated into
    dw_h: Array,  # [H,4H] accumulated into
    db: Array,  # [4H] accumulated into
) -> tuple[Array, Array, Array]:
    """Undo ``forward``; return ``dx [T,B,F]``, ``dh0 [B,H]``, ``dc0 [B,H]``."""
    x, h, c, gates, s = tape
    dx = np.empty_like(x)
    dh = np.zeros_like(h[0])
    dc = np.zeros_like(c[0])
    for t in reversed(range(len(x))):
        i, f, g, o = gates[t]
        dh = dh + dh_out[t]
        do = dh * s[t]  # 4b
        dc = dc + dh * o * (1.0 - s[t] ** 2)  # 4b 4a
        df, di, dg = dc * c[t], dc * g, dc * i  # 3a
        da = np.concatenate(
            [
                di * i * (1.0 - i),  # 2a
                df * f * (1.0 - f),  # 2b
                dg * (1.0 - g**2),  # 2c
                do * o * (1.0 - o),  # 2d
            ],
            axis=1,
        )
        dw_x += x[t].T @ da  # 1a
        dw_h += h[t].T @ da  # 1a
        db += da.sum(axis=0)  # 1a
        dx[t] = da @ w_x.T  # 1a
        dh = da @ w_h.T  # 1a, on to step t-1
        dc = dc * f  # 3a, on to step t-1
    return dx, dh, dc
