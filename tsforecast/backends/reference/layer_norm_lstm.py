"""The LSTM with layer normalisation.

Letters: B rows of a batch, H units. Forward, with u = x_t W_x and v = h_{t-1} W_h, both ``[B,4H]`` in blocks i, f, g,
o, the state h_{t-1}, c_{t-1} ``[B,H]``, and LN as in ``layer_norm``::

    1a   a   = LN(u; g_x) + LN(v; g_h) + b          each over the 4H numbers of a row
    2a   i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o)
    2b   g   = tanh(a_g)
    3a   c_t = f * c_{t-1} + i * g                  the cell itself is not normalised
    4a   s   = tanh(LN(c_t; g_c) + b_c)             over the H numbers of a row
    4b   h_t = o * s

The offsets that the paper gives to the first two normalisations are one with b. Each backward line names the one that
it undoes.

References
----------
J. Ba, J. Kiros, G. Hinton: Layer Normalization. arXiv 1607.06450, 2016 (eqs. 20 to 22).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tsforecast.backends.reference import layer_norm
from tsforecast.backends.reference.activations import Array, sigmoid, sigmoid_slope, tanh_slope
from tsforecast.backends.reference.cell import Params, State


class Kept(NamedTuple):
    """What a step leaves for its undoing, ``[B,H]`` each but the normalised sums."""

    c_before: Array
    c: Array
    i: Array
    f: Array
    g: Array
    o: Array
    s: Array
    normed: tuple[layer_norm.Normed, ...]  # of u, v and c


def step(
    u: Array,  # [B,4H]
    v: Array,  # [B,4H]
    state: State,  # h_{t-1}, c_{t-1}
    p: Params,
) -> tuple[State, Kept]:
    """Return the new state and what ``step_backward`` needs."""
    _, c_before = state
    from_x, normed_u = layer_norm.forward(u, p["g_x"])
    from_h, normed_v = layer_norm.forward(v, p["g_h"])
    a_i, a_f, a_g, a_o = np.split(from_x + from_h + p["b"], 4, axis=1)  # 1a
    i, f, o, g = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o), np.tanh(a_g)  # 2a 2b
    c = f * c_before + i * g  # 3a
    seen, normed_c = layer_norm.forward(c, p["g_c"])
    s = np.tanh(seen + p["b_c"])  # 4a
    return (o * s, c), Kept(c_before, c, i, f, g, o, s, (normed_u, normed_v, normed_c))  # 4b


def step_backward(
    dstate: State,  # derivatives by the new state
    kept: Kept,
    p: Params,
    dp: Params,
) -> tuple[Array, Array, State]:
    """Undo ``step``; return ``du``, ``dv`` and the derivatives by the state before other than through v."""
    c_before, _, i, f, g, o, s, (normed_u, normed_v, normed_c) = kept
    dh, dc = dstate
    dseen = dh * o * tanh_slope(s)  # 4b 4a
    dp["b_c"] += dseen.sum(axis=0)  # 4a
    dc = dc + layer_norm.backward(dseen, p["g_c"], normed_c, dp["g_c"])  # 4a
    da_o = dh * s * sigmoid_slope(o)  # 4b 2a
    da_i, da_f = dc * g * sigmoid_slope(i), dc * c_before * sigmoid_slope(f)  # 3a 2a
    da = np.concatenate([da_i, da_f, dc * i * tanh_slope(g), da_o], axis=1)  # 3a 2b
    dp["b"] += da.sum(axis=0)  # 1a
    du = layer_norm.backward(da, p["g_x"], normed_u, dp["g_x"])  # 1a
    dv = layer_norm.backward(da, p["g_h"], normed_v, dp["g_h"])  # 1a
    return du, dv, (np.zeros_like(dh), dc * f)  # 3a
