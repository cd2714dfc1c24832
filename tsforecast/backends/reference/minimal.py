"""minGRU and minLSTM: what is left of the two where the gates read the input alone.

Letters: B rows of a batch, H units. Forward, with u = x_t W_x, in blocks z, g ``[B,2H]`` of the minGRU or i, f, g
``[B,3H]`` of the minLSTM::

    1a   a   = u + b
    2a   g   = a_g                                  candidate
    2b   z   = sigmoid(a_z)                         minGRU
    3a   h_t = (1 - z) * h_{t-1} + z * g
    2c   i   = s_i / (s_i + s_f),  f = 1 - i        minLSTM, with s = sigmoid(a)
    3b   h_t = f * h_{t-1} + i * g

There is no W_h: nothing but the sum over steps waits for the step before. The minLSTM divides its gates by their sum,
so that h keeps the size of the candidates however long the window is; it has neither a cell beside h nor an output
gate. This is the plain form of the paper; its other one, in logarithms, needs positive candidates.

Each backward line names the one that it undoes. That of 2c: log(i / f) = log s_i - log s_f, and the derivative of log s
by a is 1 - s.

References
----------
L. Feng, F. Tung, M. Ahmed, Y. Bengio, H. Hajimirsadeghi: Were RNNs All We Needed? arXiv 2410.01201, 2024.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tsforecast.backends.reference.activations import Array, sigmoid, sigmoid_slope
from tsforecast.backends.reference.cell import Params, State


class KeptGRU(NamedTuple):
    """What a step of the minGRU leaves for its undoing, ``[B,H]`` each."""

    h_before: Array
    z: Array
    g: Array


class KeptLSTM(NamedTuple):
    """What a step of the minLSTM leaves for its undoing, ``[B,H]`` each."""

    h_before: Array
    i: Array
    f: Array
    g: Array
    input_slope: Array  # derivatives of log s_i by a_i
    forget_slope: Array  # and of log s_f by a_f


def gru_step(
    u: Array,  # [B,2H]
    v: None,
    state: State,  # h_{t-1}
    p: Params,
) -> tuple[State, KeptGRU]:
    """Return ``(h_t,)`` and what ``gru_step_backward`` needs."""
    (h_before,) = state
    a_z, g = np.split(u + p["b"], 2, axis=1)  # 1a 2a
    z = sigmoid(a_z)  # 2b
    return ((1.0 - z) * h_before + z * g,), KeptGRU(h_before, z, g)  # 3a


def gru_step_backward(
    dstate: State,  # derivative by h_t
    kept: KeptGRU,
    p: Params,
    dp: Params,
) -> tuple[Array, None, State]:
    """Undo ``gru_step``; return ``du``, no ``dv`` and the derivative by ``h_{t-1}``."""
    h_before, z, g = kept
    (dh,) = dstate
    du = np.concatenate([dh * (g - h_before) * sigmoid_slope(z), dh * z], axis=1)  # 3a 2b 2a
    dp["b"] += du.sum(axis=0)  # 1a
    return du, None, (dh * (1.0 - z),)  # 3a


def lstm_step(
    u: Array,  # [B,3H]
    v: None,
    state: State,  # h_{t-1}
    p: Params,
) -> tuple[State, KeptLSTM]:
    """Return ``(h_t,)`` and what ``lstm_step_backward`` needs."""
    (h_before,) = state
    a_i, a_f, g = np.split(u + p["b"], 3, axis=1)  # 1a 2a
    i = sigmoid(np.logaddexp(0.0, -a_f) - np.logaddexp(0.0, -a_i))  # 2c: log s is -log(1 + exp(-a))
    f = 1.0 - i
    return (f * h_before + i * g,), KeptLSTM(h_before, i, f, g, sigmoid(-a_i), sigmoid(-a_f))  # 3b


def lstm_step_backward(
    dstate: State,  # derivative by h_t
    kept: KeptLSTM,
    p: Params,
    dp: Params,
) -> tuple[Array, None, State]:
    """Undo ``lstm_step``; return ``du``, no ``dv`` and the derivative by ``h_{t-1}``."""
    h_before, i, f, g, input_slope, forget_slope = kept
    (dh,) = dstate
    d_share = dh * (g - h_before) * sigmoid_slope(i)  # 3b 2c
    du = np.concatenate([d_share * input_slope, -d_share * forget_slope, dh * i], axis=1)  # 2c 2a
    dp["b"] += du.sum(axis=0)  # 1a
    return du, None, (dh * f,)  # 3b
