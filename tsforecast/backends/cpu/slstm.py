"""The sLSTM, forward and back-propagation through time; what it computes stands in ``backends.reference.slstm``.

Letters: T steps, B rows, D inputs, H units, L lanes, P = ceil(H / L) unit blocks, Hp = P*L, K = D + 1 + H, S = D + 1 +
Hp. The state is written in other letters than the paper's c, n and m. Not c goes from step to step but r = c / n, the
mean of the candidates; and n exp(m), the weight of all of them, is split up with less work: log sigmoid(a) is min(a, 0)
+ log sigmoid(|a|), of which m takes the first part and n the second, a factor from 1/2 to 1, so that no logarithm is
needed; one doubling a step at most keeps n >= 1. For every step t, row b and unit::

    1a   a      = [x_t  1  h_{t-1}] W
    2a   k      = sigmoid(|a_f|),  l = m_{t-1} + min(a_f, 0)
    2b   e      = exp(-|l - a_i|)
    2c   (i, f, m_t) = (e, k, l) if l > a_i and n_{t-1} > 0, else (1, e k, a_i)
    2d   z, o   = tanh(a_z), sigmoid(a_o)
    3a   n_t    = f n_{t-1} + i                      then, if below 1: twice that, and log 2 less in m_t
    3b   w      = i / n_t                            share of the new candidate in the mean
    3c   r_t    = r_{t-1} + w (z - r_{t-1})
    4a   h_t    = o r_t

Backwards with y = log(n exp(m)), which does not depend on how it is split: w = sigmoid(a_i - log sigmoid(a_f) -
y_{t-1}), and the derivative of y_t by a_i is w, that by a_f and y_{t-1} is 1 - w (times sigmoid(-a_f)).

M. Beck et al.: xLSTM: Extended Long Short-Term Memory, 2024.

Flat buffers as in ``lstm``, but ``c [T+1,B,3Hp]`` holds r, n, m side by side, and ``dc [B,3Hp]`` the derivatives by r
and y (the third part is not used); ``gates`` w, sigmoid(-a_f), z, o, then the gradients of a. There are no ``kept`` and
no ``extra``.
"""

from __future__ import annotations

import math

from tsforecast.backends.cpu.activations import decay, squash_sst
from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, fma, load, splat, store, where_positive
from tsforecast.backends.cpu.layer import Kernels, is_zero_state, rows_ready, weight_gradient
from tsforecast.backends.cpu.tile import multiply

LOG_2 = math.log(2.0)


@inlined
def _step(z, at, r_old, n_old, m_old):
    """Lines 2a to 4a for the units of one block, from their sums: ``w, sigmoid(-a_f), z, o``, then ``r, n, m, h``."""
    zero, one = splat(z, 0), splat(z, 1)
    a_i, a_f = load(z, at), load(z, at + LANES)
    k, o, g = squash_sst(where_positive(a_f, a_f, zero - a_f), load(z, at + 3 * LANES), load(z, at + 2 * LANES))  # 2d
    past = m_old + where_positive(a_f, zero, a_f)  # 2a
    ahead = past - a_i
    e = decay(ahead)  # 2b
    is_past = where_positive(ahead, n_old, ahead)
    i = where_positive(is_past, e, one)  # 2c
    f = where_positive(is_past, one, e) * k
    n = fma(f, n_old, i)  # 3a
    w = i / n  # 3b
    r = fma(w, g - r_old, r_old)  # 3c
    m = where_positive(is_past, past, a_i)
    lacking = one - n
    m = where_positive(lacking, m - splat(z, LOG_2), m)
    n = where_positive(lacking, n + n, n)
    return w, where_positive(a_f, one - k, k), g, o, r, n, m, o * r  # 4a


@kernel
def infer(T, B, D, H, w, extra, xh, c, z):
    """Run the layer over all steps, keeping only the hidden states; ``z [B,4L]`` is scratch."""
    P = (H + LANES - 1) // LANES
    Hp, K = P * LANES, D + 1 + H
    S = D + 1 + Hp
    rows = D + 1 if is_zero_state(B, D, S, xh, z) else K  # of the weights, that step 1 needs
    for t in range(T):
        for p in range(P):
            multiply(B, 4, rows, xh, t * B * S, S, 1, w, p * K * 4 * LANES, 0, z, 0, 4 * LANES, 0, False)  # 1a
            for b in range(B):
                at_r = b * 3 * Hp + p * LANES
                at_n, at_m = at_r + Hp, at_r + 2 * Hp
                _, _, _, _, r, n, m, h = _step(z, b * 4 * LANES, load(c, at_r), load(c, at_n), load(c, at_m))
                store(c, at_r, r)
                store(c, at_n, n)
                store(c, at_m, m)
                store(xh, ((t + 1) * B + b) * S + D + 1 + p * LANES, h)
        rows = K


@kernel
def forward(first, last, T, B, D, H, w, extra, xh, c, gates, kept):
    """Run the layer, keeping what ``backward`` needs."""
    P = (H + LANES - 1) // LANES
    Hp, K = P * LANES, D + 1 + H
    S = D + 1 + Hp
    rows = D + 1 if first == 0 and is_zero_state(B, D, S, xh, gates) else K  # of the weights, that this step needs
    for t in range(first, last):
        for p in range(P):
            here = (p * T + t) * B * 4 * LANES
            multiply(B, 4, rows, xh, t * B * S, S, 1, w, p * K * 4 * LANES, 0, gates, here, 4 * LANES, 0, False)  # 1a
            for b in range(B):
                z = here + b * 4 * LANES
                at_r = (t * B + b) * 3 * Hp + p * LANES
                at_n, at_m, later = at_r + Hp, at_r + 2 * Hp, 3 * B * Hp
                share, slope, g, o, r, n, m, h = _step(gates, z, load(c, at_r), load(c, at_n), load(c, at_m))
                store(gates, z, share)
                store(gates, z + LANES, slope)
                store(gates, z + 2 * LANES, g)
                store(gates, z + 3 * LANES, o)
                store(c, at_r + later, r)
                store(c, at_n + later, n)
                store(c, at_m + later, m)
                store(xh, ((t + 1) * B + b) * S + D + 1 + p * LANES, h)
        rows = K


@inlined
def _step_backward(T, B, Hp, t, p, b, c, gates, dh, dc, dz):
    """Lines 4a to 2a backwards, for one row and the units of block p; buffers as in ``backward``."""
    z = ((p * T + t) * B + b) * 4 * LANES
    at_dh, at_dr = b * Hp + p * LANES, b * 3 * Hp + p * LANES
    at_r, one = t * 3 * B * Hp + at_dr, splat(c, 1)
    w, slope, g, o = load(gates, z), load(gates, z + LANES), load(gates, z + 2 * LANES), load(gates, z + 3 * LANES)
    r_old, r, dh_t, dy = load(c, at_r), load(c, at_r + 3 * B * Hp), load(dh, at_dh), load(dc, at_dr + Hp)
    da_o = dh_t * r * o * (one - o)  # 4a 2d
    dr = fma(dh_t, o, load(dc, at_dr))  # 4a
    dr_old = dr * (one - w)  # 3c
    da_z = dr * w * (one - g * g)  # 3c 2d
    d_balance = dr_old * (g - r_old) * w  # 3c; by the argument of the sigmoid that w is
    da_i = fma(w, dy, d_balance)
    dy_old = (one - w) * dy - d_balance
    da_f = dy_old * slope
    store(dc, at_dr, dr_old)
    store(dc, at_dr + Hp, dy_old)
    row = b * 4 * Hp + p * LANES
    store(gates, z, da_i)
    store(gates, z + LANES, da_f)
    store(gates, z + 2 * LANES, da_z)
    store(gates, z + 3 * LANES, da_o)
    store(dz, row, da_i)
    store(dz, row + Hp, da_f)
    store(dz, row + 2 * Hp, da_z)
    store(dz, row + 3 * Hp, da_o)


@kernel
def backward(
    first, last, T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx, want_state, dh, dc, dz,
    dx, dw, dextra,
):  # fmt: skip
    """Undo ``forward``; arguments as in ``lstm``."""
    P, Vx = (H + LANES - 1) // LANES, (D + LANES - 1) // LANES
    Hp, K = P * LANES, D + 1 + H
    S = D + 1 + Hp
    for t in range(last - 1, first - 1, -1):
        if every_step:
            for q in range(0, B * Hp, LANES):
                store(dh, q, load(dh, q) + load(dout, t * B * Hp + q))
        for p in range(P):
            for b in range(B):
                _step_backward(T, B, Hp, t, p, b, c, gates, dh, dc, dz)
        if t > 0 or want_state:
            multiply(B, P, 4 * Hp, dz, 0, 4 * Hp, 1, wh_t, 0, 0, dh, 0, Hp, LANES, False)  # 1a, by h
        if want_dx:
            to = t * B * Vx * LANES
            multiply(B, Vx, 4 * Hp, dz, 0, 4 * Hp, 1, wx_t, 0, 0, dx, to, Vx * LANES, LANES, False)  # 1a, by x
        n = rows_ready(t, T, B)
        if n > 0:
            n_0 = B if t == 0 and is_zero_state(B, D, S, xh, dz) else 0
            at = t * B + n_0
            weight_gradient(at, n - n_0, T * B, P, K, 4, xh, 0, S, gates, 0, 4 * LANES, dw, 0, K)  # 1a, by W
            weight_gradient(0, n_0, T * B, P, D + 1, 4, xh, 0, S, gates, 0, 4 * LANES, dw, 0, K)


KERNELS = Kernels(infer, forward, backward)
