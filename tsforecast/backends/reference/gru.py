"""The gated recurrent unit that resets after the multiply, as in cuDNN.

Letters: B rows of a batch, H units. Forward, with u = x_t W_x and v = h_{t-1} W_h, both ``[B,3H]`` in blocks r, z, n::

    1a   r   = sigmoid(u_r + v_r + b_r)             reset gate
    1b   z   = sigmoid(u_z + v_z + b_z)             update gate: how much of the past is kept
    2a   m   = v_n + b_h
    2b   n   = tanh(u_n + b_n + r * m)              candidate
    3a   h_t = (1 - z) * n + z * h_{t-1}

Only the candidate has a second bias, b_h: in the gates it would be added to the first. Each backward line names the one
that it undoes.

References
----------
K. Cho et al.: Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation. EMNLP
2014; its first version on arXiv, 1406.1078v1, resets after the multiply.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tsforecast.backends.reference.activations import Array, sigmoid, sigmoid_slope, tanh_slope
from tsforecast.backends.reference.cell import Params, State


class Kept(NamedTuple):
    """What a step leaves for its undoing, ``[B,H]`` each."""

    h_before: Array
    r: Array
    z: Array
    m: Array
    n: Array


def step(
    u: Array,  # [B,3H]
    v: Array,  # [B,3H]
    state: State,  # h_{t-1}
    p: Params,
) -> tuple[State, Kept]:
    """Return ``(h_t,)`` and what ``step_backward`` needs."""
    (h_before,) = state
    u_r, u_z, u_n = np.split(u + p["b"], 3, axis=1)
    v_r, v_z, v_n = np.split(v, 3, axis=1)
    r, z = sigmoid(u_r + v_r), sigmoid(u_z + v_z)  # 1a 1b
    m = v_n + p["b_h"]  # 2a
    n = np.tanh(u_n + r * m)  # 2b
    return ((1.0 - z) * n + z * h_before,), Kept(h_before, r, z, m, n)  # 3a


def step_backward(
    dstate: State,  # derivative by h_t
    kept: Kept,
    p: Params,
    dp: Params,
) -> tuple[Array, Array, State]:
    """Undo ``step``; return ``du``, ``dv`` and the derivative by ``h_{t-1}`` other than through v."""
    h_before, r, z, m, n = kept
    (dh,) = dstate
    da_n = dh * (1.0 - z) * tanh_slope(n)  # 3a 2b
    da_z = dh * (h_before - n) * sigmoid_slope(z)  # 3a 1b
    da_r = da_n * m * sigmoid_slope(r)  # 2b 1a
    dm = da_n * r  # 2b
    dp["b_h"] += dm.sum(axis=0)  # 2a
    du = np.concatenate([da_r, da_z, da_n], axis=1)
    dp["b"] += du.sum(axis=0)
    return du, np.concatenate([da_r, da_z, dm], axis=1), (dh * z,)  # 3a
