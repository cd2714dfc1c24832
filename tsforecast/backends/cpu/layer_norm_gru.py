"""The gated recurrent unit with layer normalisation; equations as in ``backends.reference.layer_norm_gru``.

Letters: T steps, B rows, D inputs, H units, L lanes, P = ceil(H / L) unit blocks, Hp = P*L, K = D + 1 + H, S = D + 1 +
Hp. For every step t, row b and unit::

    1a   u     = x_t W_x                          rows x of W, columns r z n
    1b   v     = h_{t-1} W_h                      rows h of W, the same columns
    1c   u, v  = u, v normalised                  r and z over the 2H numbers of each, n over its H numbers
    2a   r, z  = sigmoid(g_x u + g_h v + b)       b is row 1 of W
    2b   m     = g_h v_n + b_h
    2c   n     = tanh(g_x u_n + b_n + r m)
    3a   h_t   = n + z (h_{t-1} - n)

J. Ba, J. Kiros, G. Hinton: Layer Normalization, 2016 (eqs. 23 to 25).

Flat buffers as in ``lstm``, but ``gates [P,T*B,10L]`` holds u, v, r z n and a free vector side by side, and then the
gradients of u, v, r, z, what tanh takes, and m; ``kept`` is a row of statistics [T,B,8], those of the gates and behind
them those of the candidates; ``extra, dextra`` are g_x [P,3L], g_h [P,3L], b_h [P,L]. There is no c. As in
``layer_norm_lstm``, a few rows at a time go through everything.
"""

from __future__ import annotations

from tsforecast.backends.cpu.activations import squash_ss, tanh
from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, first_lanes, fma, load, splat, store
from tsforecast.backends.cpu.layer import Kernels, rows_ready, weight_gradient
from tsforecast.backends.cpu.layer_norm import (
    STATISTICS,
    moments_1_2,
    moments_2_2,
    standardised_1,
    standardised_2,
    undo_1_2,
    undo_2_2,
)
from tsforecast.backends.cpu.row_sums import ROWS
from tsforecast.backends.cpu.tile import multiply

Z, N, V, GATES, M, ROW = (k * LANES for k in (1, 2, 3, 6, 9, 10))  # z and n behind r; the parts behind u; all of them
OF_N = 4  # where the statistics of the candidates stand behind those of the gates


@inlined
def _sums(B, D, H, w, xh, x_at, z, first, row, block):
    """Lines 1a and 1b of one step, from the rows of ``xh`` at ``x_at``; u of the first row stands at ``first``."""
    P, K = (H + LANES - 1) // LANES, D + 1 + H
    S = D + 1 + P * LANES
    for p in range(P):
        from_w, to = p * K * 3 * LANES, first + p * block
        multiply(B, 3, D, xh, x_at, S, 1, w, from_w, 0, z, to, row, 0, False)  # 1a
        multiply(B, 3, H, xh, x_at + D + 1, S, 1, w, from_w + (D + 1) * 3 * LANES, 0, z, to + V, row, 0, False)  # 1b


@inlined
def _moments(n, P, H, row, block, z, at, statistics, q):
    """What line 1c needs of ``n`` rows, whose first u stands at ``at``."""
    moments_2_2(n, P, H, row, block, V, z, at, statistics, q)
    moments_1_2(n, P, H, row, block, V, z, at + N, statistics, q + OF_N)


@inlined
def _step(D, H, p, w, extra, z, at, statistics, q, h_old):
    """Lines 1c to 3a for the units of block p: ``r, z, n, h``; u and v at ``z[at:]`` become normalised."""
    bias, g_x, Hp = (p * (D + 1 + H) + D) * 3 * LANES, p * 3 * LANES, (H + LANES - 1) // LANES * LANES
    g_h, left = g_x + 3 * Hp, H - p * LANES
    mean, scale = first_lanes(splat(z, statistics[q]), left), splat(z, statistics[q + 2])
    r, u = standardised_2(z, at, mean, scale)  # 1c
    mean, scale = first_lanes(splat(z, statistics[q + 1]), left), splat(z, statistics[q + 3])
    v_r, v_u = standardised_2(z, at + V, mean, scale)  # 1c
    r, u = squash_ss(
        fma(load(extra, g_x), r, fma(load(extra, g_h), v_r, load(w, bias))),
        fma(load(extra, g_x + Z), u, fma(load(extra, g_h + Z), v_u, load(w, bias + Z))),
    )  # 2a
    mean, scale = first_lanes(splat(z, statistics[q + OF_N]), left), splat(z, statistics[q + OF_N + 2])
    (n,) = standardised_1(z, at + N, mean, scale)  # 1c
    mean, scale = first_lanes(splat(z, statistics[q + OF_N + 1]), left), splat(z, statistics[q + OF_N + 3])
    (m,) = standardised_1(z, at + V + N, mean, scale)  # 1c
    m = fma(load(extra, g_h + N), m, load(extra, 6 * Hp + p * LANES))  # 2b
    n = tanh(fma(r, m, fma(load(extra, g_x + N), n, load(w, bias + N))))  # 2c
    return r, u, n, fma(u, h_old - n, n)  # 3a


@kernel
def infer(T, B, D, H, w, extra, xh, c, z):
    """Run the layer over all steps; ``z`` is scratch: u and v [P,B,6L], statistics [B,8]."""
    P = (H + LANES - 1) // LANES
    S, block = D + 1 + P * LANES, B * GATES
    for t in range(T):
        _sums(B, D, H, w, xh, t * B * S, z, 0, GATES, block)
        for first in range(0, B, ROWS):
            n, q = min(ROWS, B - first), P * block + first * STATISTICS
            _moments(n, P, H, GATES, block, z, first * GATES, z, q)
            for p in range(P):
                for b in range(n):
                    at, row = (t * B + first + b) * S + D + 1 + p * LANES, p * block + (first + b) * GATES
                    _, _, _, h = _step(D, H, p, w, extra, z, row, z, q + b * STATISTICS, load(xh, at))
                    store(xh, at + B * S, h)


@kernel
def forward(first, last, T, B, D, H, w, extra, xh, c, gates, kept):
    """Run the layer, keeping what ``backward`` needs."""
    P = (H + LANES - 1) // LANES
    S, block = D + 1 + P * LANES, T * B * ROW
    for t in range(first, last):
        _sums(B, D, H, w, xh, t * B * S, gates, t * B * ROW, ROW, block)
        for begin in range(t * B, (t + 1) * B, ROWS):
            n, q = min(ROWS, (t + 1) * B - begin), begin * STATISTICS
            _moments(n, P, H, ROW, block, gates, begin * ROW, kept, q)
            for p in range(P):
                for b in range(n):
                    at, z = (begin + b) * S + D + 1 + p * LANES, p * block + (begin + b) * ROW
                    r, u, n_t, h = _step(D, H, p, w, extra, gates, z, kept, q + b * STATISTICS, load(xh, at))
                    store(gates, z + GATES, r)
                    store(gates, z + GATES + Z, u)
                    store(gates, z + GATES + N, n_t)
                    store(xh, at + B * S, h)


@inlined
def _before_gates(T, B, D, H, t, first, n, extra, xh, gates, dh, dw, dextra):
    """Lines 3a to 2a backwards for ``n`` rows: what stands behind u and v becomes the gradients."""
    P, one = (H + LANES - 1) // LANES, splat(dh, 1)
    Hp = P * LANES
    for p in range(P):
        bias, b_h = (p * (D + 1 + H) + D) * 3 * LANES, 6 * Hp + p * LANES
        g_h, m_bias = load(extra, (3 * P + 3 * p) * LANES + N), load(extra, b_h)
        b_r, b_z, b_n, b_m = load(dw, bias), load(dw, bias + Z), load(dw, bias + N), load(dextra, b_h)
        for b in range(first, first + n):
            z, here = (p * T * B + b) * ROW, (b - t * B) * Hp + p * LANES
            r, u, n_t = load(gates, z + GATES), load(gates, z + GATES + Z), load(gates, z + GATES + N)
            dh_t, h_old = load(dh, here), load(xh, b * (D + 1 + Hp) + D + 1 + p * LANES)
            dn = dh_t * (one - u) * (one - n_t * n_t)  # 3a 2c
            du = dh_t * (h_old - n_t) * u * (one - u)  # 3a 2a
            dr = dn * fma(g_h, load(gates, z + V + N), m_bias) * r * (one - r)  # 2c 2b 2a
            dm = dn * r  # 2c
            store(dh, here, dh_t * u)  # 3a
            store(gates, z + GATES, dr)
            store(gates, z + GATES + Z, du)
            store(gates, z + GATES + N, dn)
            store(gates, z + M, dm)
            b_r, b_z, b_n, b_m = b_r + dr, b_z + du, b_n + dn, b_m + dm  # 2a 2c 2b
        store(dw, bias, b_r)
        store(dw, bias + Z, b_z)
        store(dw, bias + N, b_n)
        store(dextra, b_h, b_m)


@inlined
def _before_normalising(T, B, H, first, n, to, extra, kept, gates, dz, dextra):
    """Lines 2c, 2b, 2a and 1c backwards: u and v become the gradients of what they were normalised from.

    Those of v also go into the rows of ``dz`` from ``to`` on.
    """
    P = (H + LANES - 1) // LANES
    Hp, block, u, q = P * LANES, T * B * ROW, first * ROW, first * STATISTICS
    undo_2_2(
        n, P, H, ROW, block, V, gates, u + GATES, gates, u, kept, q, extra, 0, V, 3 * Hp, dextra, 0, dz, to, 3 * Hp, Hp
    )
    undo_1_2(
        n, P, H, ROW, block, V, gates, u + GATES + N, gates, u + N, kept, q + OF_N, extra, N, V, 3 * Hp, dextra, N,
        dz, to + 2 * Hp, 3 * Hp, Hp,
    )  # fmt: skip


@inlined
def _to_rows(T, B, P, t, gates, dz):
    """Copy a step's gradients of u into ``dz [B,3Hp]``, gate by gate."""
    for p in range(P):
        for b in range(B):
            for k in range(3):
                value = load(gates, ((p * T + t) * B + b) * ROW + k * LANES)
                store(dz, ((b * 3 + k) * P + p) * LANES, value)


@kernel
def backward(
    first, last, T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx, want_state,
    dh, dc,
    dz,  # [B,3Hp] scratch
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
        for begin in range(t * B, (t + 1) * B, ROWS):
            n, to = min(ROWS, (t + 1) * B - begin), (begin - t * B) * 3 * Hp
            _before_gates(T, B, D, H, t, begin, n, extra, xh, gates, dh, dw, dextra)
            _before_normalising(T, B, H, begin, n, to, extra, kept, gates, dz, dextra)
        if t > 0 or want_state:
            multiply(B, P, 3 * Hp, dz, 0, 3 * Hp, 1, wh_t, 0, 0, dh, 0, Hp, LANES, True)  # 1b, by h
        if want_dx:
            _to_rows(T, B, P, t, gates, dz)
            multiply(
                B, Vx, 3 * Hp, dz, 0, 3 * Hp, 1, wx_t, 0, 0, dx, t * B * Vx * LANES, Vx * LANES, LANES, False
            )  # 1a
        n, by_h = rows_ready(t, T, B), (D + 1) * 3 * LANES
        weight_gradient(t * B, n, T * B, P, D, 3, xh, 0, S, gates, 0, ROW, dw, 0, K)  # 1a, by W
        weight_gradient(t * B, n, T * B, P, H, 3, xh, D + 1, S, gates, V, ROW, dw, by_h, K)  # 1b, by W


KERNELS = Kernels(infer, forward, backward)
