r"""The sLSTM: an LSTM whose input gate is exponential, and whose cell is the weighted mean of what was written.

Letters: B rows of a batch, H units. Forward, with u = x_t W_x and v = h_{t-1} W_h, both ``[B,4H]`` in blocks i, f, z,
o, and the state h_{t-1}, c_{t-1}, n_{t-1}, m_{t-1} ``[B,H]``::

    1a   a   = u + v + b
    2a   l   = log sigmoid(a_f) + m_{t-1}           logarithm of what is left of the past; -inf where n_{t-1} = 0
    2b   m_t = max(l, a_i)                          stabiliser
    2c   i   = exp(a_i - m_t)                       input gate
    2d   f   = exp(l - m_t)                         forget gate
    2e   z   = tanh(a_z)                            candidate
    2f   o   = sigmoid(a_o)                         output gate
    3a   c_t = f * c_{t-1} + i * z                  cell state
    3b   n_t = f * n_{t-1} + i                      normaliser
    4a   h_t = o * c_t / n_t                        hidden state

Without a stabiliser the state would be c exp(m) and n exp(m), which overflow. As c = n = 0 stands for zeros whatever m
is, a state of zeros is one in which nothing was written yet, and after it n >= 1: of i and f the larger is 1. One head:
W_h is dense, as in the LSTM; the forget gate is a sigmoid, the paper's other choice being exp.

Backwards m_t is a constant: c exp(m) and n exp(m) do not depend on how their exponent is split off, and h_t not on what
both are multiplied by. What m_{t-1} as a part of the state is worth is what it multiplies. Each backward line names the
one that it undoes.

References
----------
M. Beck, K. Poeppel, M. Spanring, A. Auer, O. Prudnikova, M. Kopp, G. Klambauer, J. Brandstetter, S. Hochreiter: xLSTM:
Extended Long Short-Term Memory. NeurIPS 2024; arXiv 2405.04517, section 2.2 and appendix A.2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tsforecast.backends.reference.activations import Array, sigmoid, sigmoid_slope, tanh_slope
from tsforecast.backends.reference.cell import Params, State


class Kept(NamedTuple):
    """What a step leaves for its undoing, ``[B,H]`` each."""

    c_before: Array
    n_before: Array
    c: Array
    n: Array
    m: Array
    i: Array
    f: Array
    z: Array
    o: Array
    forget_slope: Array  # derivative of log sigmoid(a_f)


def step(
    u: Array,  # [B,4H]
    v: Array,  # [B,4H]
    state: State,  # h_{t-1}, c_{t-1}, n_{t-1}, m_{t-1}
    p: Params,
) -> tuple[State, Kept]:
    """Return the new state and what ``step_backward`` needs."""
    _, c_before, n_before, m_before = state
    a_i, a_f, a_z, a_o = np.split(u + v + p["b"], 4, axis=1)  # 1a
    past = np.where(n_before == 0.0, -np.inf, m_before - np.logaddexp(0.0, -a_f))  # 2a
    m = np.maximum(past, a_i)  # 2b
    i, f = np.exp(a_i - m), np.exp(past - m)  # 2c 2d
    z, o = np.tanh(a_z), sigmoid(a_o)  # 2e 2f
    c, n = f * c_before + i * z, f * n_before + i  # 3a 3b
    return (o * c / n, c, n, m), Kept(c_before, n_before, c, n, m, i, f, z, o, sigmoid(-a_f))  # 4a


def step_backward(
    dstate: State,  # derivatives by the new state
    kept: Kept,
    p: Params,
    dp: Params,
) -> tuple[Array, Array, State]:
    """Undo ``step``; return ``du``, ``dv`` (equal) and the derivatives by the state before."""
    c_before, n_before, c, n, _, i, f, z, o, forget_slope = kept
    dh, dc, dn, _ = dstate
    da_o = dh * c / n * sigmoid_slope(o)  # 4a 2f
    dc = dc + dh * o / n  # 4a
    dn = dn - dh * o * c / n**2  # 4a
    da_z = dc * i * tanh_slope(z)  # 3a 2e
    da_i = (dc * z + dn) * i  # 3a 3b 2c
    dc_before, dn_before = dc * f, dn * f  # 3a 3b
    dm_before = dc_before * c_before + dn_before * n_before  # 2d 2a
    da_f = dm_before * forget_slope  # 2d 2a
    du = np.concatenate([da_i, da_f, da_z, da_o], axis=1)
    dp["b"] += du.sum(axis=0)  # 1a
    return du, du, (np.zeros_like(dh), dc_before, dn_before, dm_before)
