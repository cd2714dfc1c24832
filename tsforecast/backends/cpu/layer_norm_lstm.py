"""The LSTM with layer normalisation; equations as in ``backends.reference.layer_norm_lstm``.

Letters: T steps, B rows, D inputs, H units, L lanes, P = ceil(H / L) unit blocks, Hp = P*L, K = D + 1 + H, S = D + 1 +
Hp. For every step t, row b and unit::

    1a   u       = x_t W_x                        rows x of W
    1b   v       = h_{t-1} W_h                    rows h of W
    1c   u, v    = u, v normalised                over the 4H numbers of each
    2a   z       = g_x u + g_h v + b              b is row 1 of W
    2b   i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o);   g = tanh(z_g)
    3a   c_t     = f c_{t-1} + i g
    4a   e       = c_t normalised                 over its H numbers
    4b   s       = tanh(g_c e + b_c)
    4c   h_t     = o s

J. Ba, J. Kiros, G. Hinton: Layer Normalization, 2016 (eqs. 20 to 22).

Flat buffers as in ``lstm``, but ``gates [P,T*B,12L]`` holds u, v and the gates side by side, and then the gradients of
each; ``kept`` is e [T,B,Hp], s [T,B,Hp] and a row of statistics [T,B,8], those of u and v and behind them those of c;
``extra, dextra`` are g_x [P,4L], g_h [P,4L], g_c [P,L], b_c [P,L]. All blocks of a step come before its first gate, and
then a few rows at a time go through everything, while they are in the first cache.
"""

from __future__ import annotations

from tsforecast.backends.cpu.activations import squash_ssts, tanh
from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, first_lanes, fma, load, splat, store
from tsforecast.backends.cpu.layer import Kernels, rows_ready, weight_gradient
from tsforecast.backends.cpu.layer_norm import (
    STATISTICS,
    moments_1_1,
    moments_4_2,
    standardised_4,
    undo_1_1,
    undo_4_2,
)
from tsforecast.backends.cpu.row_sums import ROWS
from tsforecast.backends.cpu.tile import multiply

I, F, A, O = 0, LANES, 2 * LANES, 3 * LANES  # of the gates i, f, g, o among those of a block
V, GATES = 4 * LANES, 8 * LANES  # where v and the gates stand behind u
OF_C = 4  # where the statistics of c stand behind those of u and v


@inlined
def _sums(B, D, H, w, xh, x_at, z, first, row, block):
    """Lines 1a and 1b of one step, from the rows of ``xh`` at ``x_at``; u of the first row stands at ``first``."""
    P, K = (H + LANES - 1) // LANES, D + 1 + H
    S = D + 1 + P * LANES
    for p in range(P):
        from_w, to = p * K * 4 * LANES, first + p * block
        multiply(B, 4, D, xh, x_at, S, 1, w, from_w, 0, z, to, row, 0, False)  # 1a
        multiply(B, 4, H, xh, x_at + D + 1, S, 1, w, from_w + (D + 1) * 4 * LANES, 0, z, to + V, row, 0, False)  # 1b


@inlined
def _normalise(B, D, H, n, w, extra, z, first, row, block, statistics, q, to):
    """Lines 1c and 2a of ``n`` rows, whose first u stands at ``first``; their z go ``to`` numbers behind u."""
    P, K = (H + LANES - 1) // LANES, D + 1 + H
    moments_4_2(n, P, H, row, block, V, z, first, statistics, q)
    for p in range(P):
        bias, g_x, n_left = (p * K + D) * 4 * LANES, p * 4 * LANES, H - p * LANES
        g_h = g_x + P * 4 * LANES
        for b in range(n):
            at, row_at = first + p * block + b * row, q + b * STATISTICS
            mean, scale = splat(z, statistics[row_at + 1]), splat(z, statistics[row_at + 3])
            i, f, g, o = standardised_4(z, at + V, first_lanes(mean, n_left), scale)
            z_i = fma(load(extra, g_h + I), i, load(w, bias + I))
            z_f = fma(load(extra, g_h + F), f, load(w, bias + F))
            z_g = fma(load(extra, g_h + A), g, load(w, bias + A))
            z_o = fma(load(extra, g_h + O), o, load(w, bias + O))
            mean, scale = splat(z, statistics[row_at]), splat(z, statistics[row_at + 2])
            i, f, g, o = standardised_4(z, at, first_lanes(mean, n_left), scale)
            store(z, at + to + I, fma(load(extra, g_x + I), i, z_i))
            store(z, at + to + F, fma(load(extra, g_x + F), f, z_f))
            store(z, at + to + A, fma(load(extra, g_x + A), g, z_g))
            store(z, at + to + O, fma(load(extra, g_x + O), o, z_o))


@inlined
def _gates(z, at, c_old):
    """Lines 2b to 3a for the units of one block, whose z stand at ``z[at:]``: ``i, f, g, o, c``."""
    i, f, g, o = squash_ssts(load(z, at + I), load(z, at + F), load(z, at + A), load(z, at + O))
    return i, f, g, o, fma(f, c_old, i * g)


@inlined
def _seen(H, p, extra, c, statistics, q):
    """Lines 4a and 4b for the units of block p: ``e, s``."""
    gain = ((H + LANES - 1) // LANES * 8 + p) * LANES
    bias = gain + (H + LANES - 1) // LANES * LANES
    mean, scale = first_lanes(splat(c, statistics[q + OF_C]), H - p * LANES), splat(c, statistics[q + OF_C + 1])
    e = (c - mean) * scale  # 4a
    return e, tanh(fma(load(extra, gain), e, load(extra, bias)))  # 4b


@kernel
def infer(T, B, D, H, w, extra, xh, c, z):
    """Run the layer over all steps; ``z`` is scratch: u and v [P,B,8L], statistics [B,8]."""
    P = (H + LANES - 1) // LANES
    Hp = P * LANES
    S, row, block = D + 1 + Hp, 2 * V, B * 2 * V
    for t in range(T):
        _sums(B, D, H, w, xh, t * B * S, z, 0, row, block)
        for first in range(0, B, ROWS):
            n, q = min(ROWS, B - first), P * block + first * STATISTICS
            _normalise(B, D, H, n, w, extra, z, first * row, row, block, z, q, 0)
            for p in range(P):
                for b in range(n):
                    at, unit = p * block + (first + b) * row, (first + b) * Hp + p * LANES
                    _, _, _, o, c_new = _gates(z, at, load(c, unit))
                    store(z, at + O, o)
                    store(c, unit, c_new)
            moments_1_1(n, P, H, Hp, LANES, 0, c, first * Hp, z, q + OF_C)  # 4a
            for p in range(P):
                for b in range(n):
                    at, unit = p * block + (first + b) * row, (first + b) * Hp + p * LANES
                    _, s = _seen(H, p, extra, load(c, unit), z, q + b * STATISTICS)
                    store(xh, ((t + 1) * B + first + b) * S + D + 1 + p * LANES, load(z, at + O) * s)  # 4c


@kernel
def forward(first, last, T, B, D, H, w, extra, xh, c, gates, kept):
    """Run the layer, keeping what ``backward`` needs."""
    P = (H + LANES - 1) // LANES
    Hp = P * LANES
    S, row, block, s0 = D + 1 + Hp, 3 * V, T * B * 3 * V, T * B * Hp
    for t in range(first, last):
        _sums(B, D, H, w, xh, t * B * S, gates, t * B * row, row, block)
        for begin in range(t * B, (t + 1) * B, ROWS):
            n, q = min(ROWS, (t + 1) * B - begin), 2 * s0 + begin * STATISTICS
            _normalise(B, D, H, n, w, extra, gates, begin * row, row, block, kept, q, GATES)
            for p in range(P):
                for b in range(n):
                    at, unit = p * block + (begin + b) * row, (begin + b) * Hp + p * LANES
                    i, f, g, o, c_new = _gates(gates, at + GATES, load(c, unit))
                    store(gates, at + GATES + I, i)
                    store(gates, at + GATES + F, f)
                    store(gates, at + GATES + A, g)
                    store(gates, at + GATES + O, o)
                    store(c, unit + B * Hp, c_new)
            moments_1_1(n, P, H, Hp, LANES, 0, c, (B + begin) * Hp, kept, q + OF_C)  # 4a
            for p in range(P):
                for b in range(n):
                    at, unit = p * block + (begin + b) * row, (begin + b) * Hp + p * LANES
                    e, s = _seen(H, p, extra, load(c, unit + B * Hp), kept, q + b * STATISTICS)
                    store(kept, unit, e)
                    store(kept, s0 + unit, s)
                    store(xh, (B + begin + b) * S + D + 1 + p * LANES, load(gates, at + GATES + O) * s)  # 4c


@inlined
def _before_state(T, B, H, t, first, n, extra, kept, gates, dh, dextra):
    """Lines 4c to 4a backwards for ``n`` rows: e becomes the gradient of c_t by way of h_t, o that of z_o."""
    P, one = (H + LANES - 1) // LANES, splat(dh, 1)
    Hp, s0 = P * LANES, T * B * P * LANES
    g_c, b_c = 8 * Hp, 9 * Hp
    for p in range(P):
        of_bias = load(dextra, b_c + p * LANES)
        for b in range(first, first + n):
            at, unit = (p * T * B + b) * 3 * V + GATES + O, s0 + b * Hp + p * LANES
            s, o, dh_t = load(kept, unit), load(gates, at), load(dh, (b - t * B) * Hp + p * LANES)
            dseen = dh_t * o * (one - s * s)  # 4c 4b
            of_bias = of_bias + dseen  # 4b
            store(kept, unit, dseen)
            store(gates, at, dh_t * s * o * (one - o))  # 4c 2b
        store(dextra, b_c + p * LANES, of_bias)
    undo_1_1(
        n, P, H, Hp, LANES, 0, kept, s0 + first * Hp, kept, first * Hp, kept, 2 * s0 + first * STATISTICS + OF_C,
        extra, g_c, LANES, 0, dextra, g_c, kept, 0, 0, 0,
    )  # fmt: skip # 4b 4a


@inlined
def _before_gates(T, B, D, H, t, first, n, c, kept, gates, dc, dw):
    """Lines 3a to 2a backwards: the gates become the gradients of z."""
    P, one = (H + LANES - 1) // LANES, splat(dc, 1)
    Hp = P * LANES
    for p in range(P):
        bias = (p * (D + 1 + H) + D) * 4 * LANES
        b_i, b_f, b_g, b_o = load(dw, bias + I), load(dw, bias + F), load(dw, bias + A), load(dw, bias + O)
        for b in range(first, first + n):
            unit, at, state = b * Hp + p * LANES, (p * T * B + b) * 3 * V + GATES, (b - t * B) * Hp + p * LANES
            i, f, g = load(gates, at + I), load(gates, at + F), load(gates, at + A)
            dc_t = load(dc, state) + load(kept, unit)  # 4a
            dz_i, dz_g = dc_t * g * i * (one - i), dc_t * i * (one - g * g)  # 3a 2b
            dz_f = dc_t * load(c, unit) * f * (one - f)  # 3a 2b
            store(dc, state, dc_t * f)  # 3a
            store(gates, at + I, dz_i)
            store(gates, at + F, dz_f)
            store(gates, at + A, dz_g)
            b_i, b_f, b_g, b_o = b_i + dz_i, b_f + dz_f, b_g + dz_g, b_o + load(gates, at + O)  # 2a
        store(dw, bias + I, b_i)
        store(dw, bias + F, b_f)
        store(dw, bias + A, b_g)
        store(dw, bias + O, b_o)


@inlined
def _to_rows(T, B, P, t, gates, dz):
    """Copy a step's gradients of u into ``dz [B,4Hp]``, gate by gate."""
    for p in range(P):
        for b in range(B):
            for k in range(4):
                value = load(gates, ((p * T + t) * B + b) * 3 * V + k * LANES)
                store(dz, ((b * 4 + k) * P + p) * LANES, value)


@kernel
def backward(
    first, last, T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx, want_state,
    dh, dc,
    dz,  # [B,4Hp] scratch
    dx, dw, dextra,
):  # fmt: skip
    """Undo ``forward``; arguments as in ``lstm``."""
    P, Vx = (H + LANES - 1) // LANES, (D + LANES - 1) // LANES
    Hp, K = P * LANES, D + 1 + H
    S, row, block, s0 = D + 1 + Hp, 3 * V, T * B * 3 * V, T * B * Hp
    for t in range(last - 1, first - 1, -1):
        if every_step:
            for q in range(0, B * Hp, LANES):
                store(dh, q, load(dh, q) + load(dout, t * B * Hp + q))
        for begin in range(t * B, (t + 1) * B, ROWS):
            n, u, to = min(ROWS, (t + 1) * B - begin), begin * row, (begin - t * B) * 4 * Hp
            _before_state(T, B, H, t, begin, n, extra, kept, gates, dh, dextra)
            _before_gates(T, B, D, H, t, begin, n, c, kept, gates, dc, dw)
            undo_4_2(
                n, P, H, row, block, V, gates, u + GATES, gates, u, kept, 2 * s0 + begin * STATISTICS,
                extra, 0, V, 4 * Hp, dextra, 0, dz, to, 4 * Hp, Hp,
            )  # fmt: skip # 2a 1c
        if t > 0 or want_state:
            multiply(B, P, 4 * Hp, dz, 0, 4 * Hp, 1, wh_t, 0, 0, dh, 0, Hp, LANES, False)  # 1b
        if want_dx:
            _to_rows(T, B, P, t, gates, dz)
            multiply(
                B, Vx, 4 * Hp, dz, 0, 4 * Hp, 1, wx_t, 0, 0, dx, t * B * Vx * LANES, Vx * LANES, LANES, False
            )  # 1a
        n, by_h = rows_ready(t, T, B), (D + 1) * 4 * LANES
        weight_gradient(t * B, n, T * B, P, D, 4, xh, 0, S, gates, 0, row, dw, 0, K)  # 1a, by W
        weight_gradient(t * B, n, T * B, P, H, 4, xh, D + 1, S, gates, V, row, dw, by_h, K)  # 1b, by W


KERNELS = Kernels(infer, forward, backward)
