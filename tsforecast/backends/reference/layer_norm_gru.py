"""The gated recurrent unit with layer normalisation.

Letters: B rows of a batch, H units. Forward, with u = x_t W_x and v = h_{t-1} W_h, both ``[B,3H]`` in blocks r, z, n,
and LN as in ``layer_norm``::

    1a   (a_r a_z) = LN(u_r u_z; g_x) + LN(v_r v_z; g_h) + b      each over the 2H numbers of a row
    1b   r, z      = sigmoid(a_r), sigmoid(a_z)
    2a   m         = LN(v_n; g_h) + b_h                           over the H numbers of a row
    2b   n         = tanh(LN(u_n; g_x) + b_n + r * m)             the same
    3a   h_t       = (1 - z) * n + z * h_{t-1}

This is the unit of the paper, which resets after the multiply as ``gru`` does; both gates are normalised together, the
candidate by itself. As in ``gru``, z is how much of the past is kept (the paper's is 1 - z), and the gates have one
offset, where the paper has two to add. Each backward line names the one that it undoes.

References
----------
J. Ba, J. Kiros, G. Hinton: Layer Normalization. arXiv 1607.06450, 2016 (eqs. 23 to 25).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tsforecast.backends.reference import layer_norm
from tsforecast.backends.reference.activations import Array, sigmoid, sigmoid_slope, tanh_slope
from tsforecast.backends.reference.cell import Params, State


class Kept(NamedTuple):
    """What a step leaves for its undoing, ``[B,H]`` each but the normalised sums."""

    h_before: Array
    r: Array
    z: Array
    m: Array
    n: Array
    normed: tuple[Parts, Parts]  # of u and v


Parts = tuple[layer_norm.Normed, layer_norm.Normed]  # gates, candidate


def step(
    u: Array,  # [B,3H]
    v: Array,  # [B,3H]
    state: State,  # h_{t-1}
    p: Params,
) -> tuple[State, Kept]:
    """Return ``(h_t,)`` and what ``step_backward`` needs."""
    (h_before,) = state
    u_rz, u_n, normed_u = _normalise(u, p["g_x"])
    v_rz, v_n, normed_v = _normalise(v, p["g_h"])
    b_rz, b_n = _parts(p["b"])
    r, z = np.split(sigmoid(u_rz + v_rz + b_rz), 2, axis=1)  # 1a 1b
    m = v_n + p["b_h"]  # 2a
    n = np.tanh(u_n + b_n + r * m)  # 2b
    return ((1.0 - z) * n + z * h_before,), Kept(h_before, r, z, m, n, (normed_u, normed_v))  # 3a


def step_backward(
    dstate: State,  # derivative by h_t
    kept: Kept,
    p: Params,
    dp: Params,
) -> tuple[Array, Array, State]:
    """Undo ``step``; return ``du``, ``dv`` and the derivative by ``h_{t-1}`` other than through v."""
    h_before, r, z, m, n, (normed_u, normed_v) = kept
    (dh,) = dstate
    da_n = dh * (1.0 - z) * tanh_slope(n)  # 3a 2b
    da_z = dh * (h_before - n) * sigmoid_slope(z)  # 3a 1b
    da_r = da_n * m * sigmoid_slope(r)  # 2b 1b
    dm = da_n * r  # 2b
    da_rz = np.concatenate([da_r, da_z], axis=1)
    dp["b"] += np.concatenate([da_rz, da_n], axis=1).sum(axis=0)  # 1a 2b
    dp["b_h"] += dm.sum(axis=0)  # 2a
    du = _normalise_backward(da_rz, da_n, p["g_x"], normed_u, dp["g_x"])  # 1a 2b
    dv = _normalise_backward(da_rz, dm, p["g_h"], normed_v, dp["g_h"])  # 1a 2a
    return du, dv, (dh * z,)  # 3a


def _parts(a: Array) -> tuple[Array, Array]:
    """Views of the columns ``[.,3H]`` of both gates and of the candidate."""
    cut = a.shape[-1] // 3 * 2
    return a[..., :cut], a[..., cut:]


def _normalise(
    a: Array,  # [B,3H]
    gain: Array,  # [3H]
) -> tuple[Array, Array, Parts]:
    """LN of both gates ``[B,2H]``, LN of the candidate ``[B,H]``, and what undoes them."""
    gates, candidate = map(layer_norm.forward, _parts(a), _parts(gain))
    return gates[0], candidate[0], (gates[1], candidate[1])


def _normalise_backward(dgates: Array, dcandidate: Array, gain: Array, kept: Parts, dgain: Array) -> Array:
    """Undo ``_normalise``; return the derivative by its ``a``."""
    parts = map(layer_norm.backward, (dgates, dcandidate), _parts(gain), kept, _parts(dgain))
    return np.concatenate(list(parts), axis=1)
