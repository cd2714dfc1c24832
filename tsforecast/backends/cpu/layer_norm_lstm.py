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
each; ``kept`` is e [T,B,Hp], s [T,B,Hp] and the scales that normalised u, v and c [3,T,B]; ``extra, dextra`` are g_x
[P,4L], g_h [P,4L], g_c [P,L], b_c [P,L]. All blocks of a step come before its first gate.
"""

from __future__ import annotations

from tsforecast.backends.cpu.activations import squash_ssts, tanh
from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, fma, load, splat, store
from tsforecast.backends.cpu.layer import Kernels, rows_ready, weight_gradient
from tsforecast.backends.cpu.layer_norm import standardise_1, standardise_4, undo_1, undo_4
from tsforecast.backends.cpu.tile import multiply

I, F, A, O = 0, LANES, 2 * LANES, 3 * LANES  # of the gates i, f, g, o among those of a block
V, GATES = 4 * LANES, 8 * LANES  # where v and the gates stand behind u


@inlined
def _sums(B, D, H, w, xh, x_at, z, first, row, block, r, r_x, r_h):
    """Lines 1a to 1c of one step, from the rows of ``xh`` at ``x_at``; u and v of the first row stand at ``first``."""
    P, K = (H + LANES - 1) // LANES, D + 1 + H
    S = D + 1 + P * LANES
    for p in range(P):
        from_w, to = p * K * 4 * LANES, first + p * block
        multiply(B, 4, D, xh, x_at, S, 1, w, from_w, 0, z, to, row, 0, False)  # 1a
        multiply(B, 4, H, xh, x_at + D + 1, S, 1, w, from_w + (D + 1) * 4 * LANES, 0, z, to + V, row, 0, False)  # 1b
    standardise_4(B, P, H, row, block, z, first, z, first, r, r_x)  # 1c
    standardise_4(B, P, H, row, block, z, first + V, z, first + V, r, r_h)  # 1c


@inlined
def _gates(D, H, p, w, extra, z, at, c_old):
    """Lines 2a to 3a for the units of block p: ``i, f, g, o, c``."""
    bias, g_x = (p * (D + 1 + H) + D) * 4 * LANES, p * 4 * LANES
    g_h = g_x + (H + LANES - 1) // LANES * 4 * LANES
    z_i = fma(load(extra, g_h + I), load(z, at + V + I), load(w, bias + I))
    z_f = fma(load(extra, g_h + F), load(z, at + V + F), load(w, bias + F))
    z_g = fma(load(extra, g_h + A), load(z, at + V + A), load(w, bias + A))
    z_o = fma(load(extra, g_h + O), load(z, at + V + O), load(w, bias + O))
    i, f, g, o = squash_ssts(
        fma(load(extra, g_x + I), load(z, at + I), z_i),
        fma(load(extra, g_x + F), load(z, at + F), z_f),
        fma(load(extra, g_x + A), load(z, at + A), z_g),
        fma(load(extra, g_x + O), load(z, at + O), z_o),
    )
    return i, f, g, o, fma(f, c_old, i * g)


@inlined
def _seen(extra, gain, Hp, e):
    """Line 4b: s."""
    return tanh(fma(load(extra, gain), e, load(extra, gain + Hp)))


@kernel
def infer(T, B, D, H, w, extra, xh, c, z):
    """Run the layer over all steps; ``z`` is scratch: u and v [P,B,8L], e [B,Hp], scales [B]."""
    P = (H + LANES - 1) // LANES
    Hp = P * LANES
    S, block, e, g_c = D + 1 + Hp, B * 2 * V, B * 8 * Hp, 8 * Hp
    r = e + B * Hp
    for t in range(T):
        _sums(B, D, H, w, xh, t * B * S, z, 0, 2 * V, block, z, r, r)
        for p in range(P):
            for b in range(B):
                at, unit = p * block + b * 2 * V, b * Hp + p * LANES
                _, _, _, o, c_new = _gates(D, H, p, w, extra, z, at, load(c, unit))
                store(z, at + O, o)
                store(c, unit, c_new)
        standardise_1(B, P, H, Hp, LANES, c, 0, z, e, z, r)  # 4a
        for p in range(P):
            for b in range(B):
                s = _seen(extra, g_c + p * LANES, Hp, load(z, e + b * Hp + p * LANES))
                store(xh, ((t + 1) * B + b) * S + D + 1 + p * LANES, load(z, p * block + b * 2 * V + O) * s)  # 4c


@kernel
def forward(first, last, T, B, D, H, w, extra, xh, c, gates, kept):
    """Run the layer, keeping what ``backward`` needs."""
    P = (H + LANES - 1) // LANES
    Hp = P * LANES
    S, row, block, g_c = D + 1 + Hp, 3 * V, T * B * 3 * V, 8 * Hp
    s0, r = T * B * Hp, 2 * T * B * Hp
    for t in range(first, last):
        _sums(B, D, H, w, xh, t * B * S, gates, t * B * row, row, block, kept, r + t * B, r + (T + t) * B)
        for p in range(P):
            for b in range(B):
                at, unit = p * block + (t * B + b) * row, (t * B + b) * Hp + p * LANES
                i, f, g, o, c_new = _gates(D, H, p, w, extra, gates, at, load(c, unit))
                store(gates, at + GATES + I, i)
                store(gates, at + GATES + F, f)
                store(gates, at + GATES + A, g)
                store(gates, at + GATES + O, o)
                store(c, unit + B * Hp, c_new)
        standardise_1(B, P, H, Hp, LANES, c, (t + 1) * B * Hp, kept, t * B * Hp, kept, r + (2 * T + t) * B)  # 4a
        for p in range(P):
            for b in range(B):
                unit = (t * B + b) * Hp + p * LANES
                s = _seen(extra, g_c + p * LANES, Hp, load(kept, unit))
                o = load(gates, p * block + (t * B + b) * row + GATES + O)
                store(kept, s0 + unit, s)
                store(xh, ((t + 1) * B + b) * S + D + 1 + p * LANES, o * s)  # 4c


@inlined
def _before_state(T, B, H, t, extra, kept, gates, dh, de, dextra):
    """Lines 4c to 4a backwards: ``de [B,Hp]`` becomes the gradient of c_t by way of h_t, o that of z_o."""
    P, one = (H + LANES - 1) // LANES, splat(dh, 1)
    Hp = P * LANES
    g_c, b_c, e = 8 * Hp, 9 * Hp, t * B * Hp
    for p in range(P):
        of_bias = load(dextra, b_c + p * LANES)
        for b in range(B):
            unit, at = b * Hp + p * LANES, ((p * T + t) * B + b) * 3 * V + GATES + O
            s, o, dh_t = load(kept, T * B * Hp + e + unit), load(gates, at), load(dh, unit)
            dseen = dh_t * o * (one - s * s)  # 4c 4b
            of_bias = of_bias + dseen  # 4b
            store(de, unit, dseen)
            store(gates, at, dh_t * s * o * (one - o))  # 4c 2b
        store(dextra, b_c + p * LANES, of_bias)
    r = 2 * T * B * Hp + (2 * T + t) * B
    undo_1(B, P, H, Hp, LANES, de, 0, kept, e, kept, r, extra, g_c, LANES, dextra, g_c, de, 0)  # 4b 4a


@inlined
def _before_gates(T, B, D, H, t, c, gates, de, dc, dw):
    """Lines 3a to 2a backwards: the gates become the gradients of z."""
    P, one = (H + LANES - 1) // LANES, splat(dc, 1)
    Hp = P * LANES
    for p in range(P):
        bias = (p * (D + 1 + H) + D) * 4 * LANES
        b_i, b_f, b_g, b_o = load(dw, bias + I), load(dw, bias + F), load(dw, bias + A), load(dw, bias + O)
        for b in range(B):
            unit, at = b * Hp + p * LANES, ((p * T + t) * B + b) * 3 * V + GATES
            i, f, g = load(gates, at + I), load(gates, at + F), load(gates, at + A)
            dc_t = load(dc, unit) + load(de, unit)  # 4a
            dz_i, dz_g = dc_t * g * i * (one - i), dc_t * i * (one - g * g)  # 3a 2b
            dz_f = dc_t * load(c, t * B * Hp + unit) * f * (one - f)  # 3a 2b
            store(dc, unit, dc_t * f)  # 3a
            store(gates, at + I, dz_i)
            store(gates, at + F, dz_f)
            store(gates, at + A, dz_g)
            b_i, b_f, b_g, b_o = b_i + dz_i, b_f + dz_f, b_g + dz_g, b_o + load(gates, at + O)  # 2a
        store(dw, bias + I, b_i)
        store(dw, bias + F, b_f)
        store(dw, bias + A, b_g)
        store(dw, bias + O, b_o)


@inlined
def _to_rows(T, B, P, t, gates, part, dz):
    """Copy a step's gradients of u or v, whose first vector is ``part``, into ``dz [B,4Hp]``, gate by gate."""
    for p in range(P):
        for b in range(B):
            for k in range(4):
                value = load(gates, ((p * T + t) * B + b) * 3 * V + part + k * LANES)
                store(dz, ((b * 4 + k) * P + p) * LANES, value)


@kernel
def backward(
    first, last, T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx, want_state,
    dh, dc,
    dz,  # [B,12Hp] scratch
    dx, dw, dextra,
):  # fmt: skip
    """Undo ``forward``; arguments as in ``lstm``."""
    P, Vx = (H + LANES - 1) // LANES, (D + LANES - 1) // LANES
    Hp, K = P * LANES, D + 1 + H
    S, row, block, g_h = D + 1 + Hp, 3 * V, T * B * 3 * V, 4 * Hp
    de = dz[4 * B * Hp :]
    for t in range(last - 1, first - 1, -1):
        if every_step:
            for q in range(0, B * Hp, LANES):
                store(dh, q, load(dh, q) + load(dout, t * B * Hp + q))
        _before_state(T, B, H, t, extra, kept, gates, dh, de, dextra)
        _before_gates(T, B, D, H, t, c, gates, de, dc, dw)
        u, r = t * B * row, 2 * T * B * Hp + t * B
        undo_4(B, P, H, row, block, gates, u + GATES, gates, u, kept, r, extra, 0, V, dextra, 0, gates, u)  # 2a 1c
        undo_4(
            B,
            P,
            H,
            row,
            block,
            gates,
            u + GATES,
            gates,
            u + V,
            kept,
            r + T * B,
            extra,
            g_h,
            V,
            dextra,
            g_h,
            gates,
            u + V,
        )  # 2a 1c
        if t > 0 or want_state:
            _to_rows(T, B, P, t, gates, V, dz)
            multiply(B, P, 4 * Hp, dz, 0, 4 * Hp, 1, wh_t, 0, 0, dh, 0, Hp, LANES, False)  # 1b
        if want_dx:
            _to_rows(T, B, P, t, gates, 0, dz)
            multiply(
                B, Vx, 4 * Hp, dz, 0, 4 * Hp, 1, wx_t, 0, 0, dx, t * B * Vx * LANES, Vx * LANES, LANES, False
            )  # 1a
        n, by_h = rows_ready(t, T, B), (D + 1) * 4 * LANES
        weight_gradient(t * B, n, T * B, P, D, 4, xh, 0, S, gates, 0, row, dw, 0, K)  # 1a
        weight_gradient(t * B, n, T * B, P, H, 4, xh, D + 1, S, gates, V, row, dw, by_h, K)  # 1b


KERNELS = Kernels(infer, forward, backward)
