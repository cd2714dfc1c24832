"""LSTM layer, forward and back-propagation through time.

Letters: T steps, B rows, D inputs, H units, L lanes, P = ceil(H / L) unit blocks, Hp = P*L, K = D + 1 + H, S = D + 1
+ Hp. For every step t, row b and unit::

    1a   z      = [x_t  1  h_{t-1}] W            all four gates at once, W = [w_x; b; w_h]  (K by 4H)
    2a   i, f   = sigmoid(z_i), sigmoid(z_f)
    2b   g      = tanh(z_g)
    2c   o      = sigmoid(z_o)
    3a   c_t    = f * c_{t-1} + i * g
    3b   h_t    = o * tanh(c_t)

S. Hochreiter, J. Schmidhuber: Long Short-Term Memory, 1997; forget gate: F. Gers, J. Schmidhuber, F. Cummins:
Learning to Forget, 2000. Gate order i, f, g, o as in PyTorch.

Flat buffers: ``xh [T+1,B,S]`` rows (x_t | 1 | h_{t-1}), so that one multiply serves input, bias and recurrence and
another one all their gradients; ``c [T+1,B,Hp]``; ``tc [T,B,Hp]`` = tanh(c_t); ``gates [P,T*B,4L]`` i f g o of L
units side by side: the panels of a multiply's result, and, overwritten by dz, the panels of the weight gradient's
right side; ``w, dw [P,K,4L]``. Lanes beyond H see zero weights and stay zero in c and h. Parameter gradients
accumulate, activation gradients are assigned.
"""

from __future__ import annotations

from tsforecast.backends.cpu.activations import gates as activate
from tsforecast.backends.cpu.activations import tanh
from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, fma, load, splat, store
from tsforecast.backends.cpu.tile import multiply

N_GATES = 4
GRADIENT_BLOCK = 128  # rows of xh and dz a pass, so that they stay in the first cache; changes no bit


@inlined
def clear_state(
    T, B, D, H,
    xh,  # [T+1,B,S] its ones are written, its h_0 zeroed; x is the caller's
    c,  # [T+1,B,Hp] c_0 is zeroed
):  # fmt: skip
    """Start from a zero state."""
    Hp = (H + LANES - 1) // LANES * LANES
    S = D + 1 + Hp
    for row in range((T + 1) * B):
        xh[row * S + D] = 1
    for b in range(B):
        for u in range(Hp):
            xh[b * S + D + 1 + u] = 0
            c[b * Hp + u] = 0


@inlined
def _cell(z, at, c_old):
    """Lines 2a to 3b for the units of one block, from their four sums at ``z[at:]``: ``i, f, g, o, c, tanh(c), h``."""
    i, f, g, o = activate(load(z, at), load(z, at + LANES), load(z, at + 2 * LANES), load(z, at + 3 * LANES))
    c = fma(f, c_old, i * g)  # 3a
    tanh_c = tanh(c)
    return i, f, g, o, c, tanh_c, o * tanh_c  # 3b


@kernel
def infer(
    T, B, D, H,
    w,  # [P,K,4L]
    xh,  # [T+1,B,S] in: x, ones, h_0; out: h_1..h_T
    c,  # [B,Hp] in: c_0; out: c_T
    z,  # [B,4L] scratch
):  # fmt: skip
    """Run the layer over all steps, keeping only the hidden states."""
    P = (H + LANES - 1) // LANES
    Hp, K = P * LANES, D + 1 + H
    S = D + 1 + Hp
    for t in range(T):
        for p in range(P):
            multiply(B, 4, K, xh, t * B * S, S, 1, w, p * K * 4 * LANES, z, 0, 4 * LANES, 0, False)  # 1a
            for b in range(B):
                unit = b * Hp + p * LANES
                _, _, _, _, c_new, _, h = _cell(z, b * 4 * LANES, load(c, unit))
                store(c, unit, c_new)
                store(xh, ((t + 1) * B + b) * S + D + 1 + p * LANES, h)


@kernel
def forward(
    T, B, D, H,
    w,  # [P,K,4L]
    xh,  # [T+1,B,S] in: x, ones, h_0; out: h_1..h_T
    c,  # [T+1,B,Hp] in: c_0; out: c_1..c_T
    gates,  # [P,T*B,4L] out
    tc,  # [T,B,Hp] out
):  # fmt: skip
    """Run the layer over all steps, keeping what ``backward`` needs."""
    P = (H + LANES - 1) // LANES
    Hp, K = P * LANES, D + 1 + H
    S = D + 1 + Hp
    for t in range(T):
        for p in range(P):
            first = (p * T + t) * B * 4 * LANES
            multiply(B, 4, K, xh, t * B * S, S, 1, w, p * K * 4 * LANES, gates, first, 4 * LANES, 0, False)  # 1a
            for b in range(B):
                z = first + b * 4 * LANES
                unit = (t * B + b) * Hp + p * LANES
                i, f, g, o, c_new, tanh_c, h = _cell(gates, z, load(c, unit))
                store(gates, z, i)
                store(gates, z + LANES, f)
                store(gates, z + 2 * LANES, g)
                store(gates, z + 3 * LANES, o)
                store(c, unit + B * Hp, c_new)
                store(tc, unit, tanh_c)
                store(xh, ((t + 1) * B + b) * S + D + 1 + p * LANES, h)


@kernel
def backward(
    T, B, D, H,
    wh_t,  # [4Hp, P vectors] panels: w_h transposed, rows gate by gate
    wx_t,  # [4Hp, ceil(D/L) vectors] panels: w_x transposed; unused without want_dx
    xh, c, tc,  # as forward left them
    gates,  # [P,T*B,4L] in: activations; out: dz
    dout,  # [T,B,Hp] gradient of every h_t that the layer above sends; unused without every_step
    every_step,  # bool
    want_dx,  # bool
    dh,  # [B,Hp] in: gradient of h_T; scratch
    dc,  # [B,Hp] scratch
    dz,  # [B,4Hp] scratch, gate by gate
    dx,  # [T,B,Dp] out, where wanted; Dp is D in whole vectors
    dw,  # [P,K,4L] accumulates
):  # fmt: skip
    """Undo ``forward``."""
    P = (H + LANES - 1) // LANES
    Hp, K = P * LANES, D + 1 + H
    S, Vx = D + 1 + Hp, (D + LANES - 1) // LANES
    for q in range(B * Hp):
        dc[q] = 0
    for t in range(T - 1, -1, -1):
        if every_step:  # here, since a branch among lanes would keep them out of registers
            for q in range(0, B * Hp, LANES):
                store(dh, q, load(dh, q) + load(dout, t * B * Hp + q))
        for p in range(P):
            for b in range(B):
                _cell_backward(T, B, Hp, t, p, b, c, tc, gates, dh, dc, dz)
        if t > 0:
            multiply(B, P, 4 * Hp, dz, 0, 4 * Hp, 1, wh_t, 0, dh, 0, Hp, LANES, False)  # 1a, by h
        if want_dx:
            multiply(
                B, Vx, 4 * Hp, dz, 0, 4 * Hp, 1, wx_t, 0, dx, t * B * Vx * LANES, Vx * LANES, LANES, False
            )  # 1a, by x
    for k in range(0, T * B, GRADIENT_BLOCK):  # 1a, by W
        n = min(GRADIENT_BLOCK, T * B - k)
        for p in range(P):
            block = (p * T * B + k) * 4 * LANES
            multiply(K, 4, n, xh, k * S, 1, S, gates, block, dw, p * K * 4 * LANES, 4 * LANES, 0, True)


@inlined
def _cell_backward(T, B, Hp, t, p, b, c, tc, gates, dh, dc, dz):
    """Lines 3b to 2a backwards, for one row and the units of block p; buffers as in ``backward``."""
    z = ((p * T + t) * B + b) * 4 * LANES
    unit = (t * B + b) * Hp + p * LANES
    here = b * Hp + p * LANES
    one = splat(c, 1)
    i, f = load(gates, z), load(gates, z + LANES)
    g, o = load(gates, z + 2 * LANES), load(gates, z + 3 * LANES)
    tanh_c, dh_t = load(tc, unit), load(dh, here)
    dc_t = fma(dh_t * o, one - tanh_c * tanh_c, load(dc, here))  # 3b
    dz_i = dc_t * g * i * (one - i)  # 3a, 2a
    dz_f = dc_t * load(c, unit) * f * (one - f)  # 3a, 2a
    dz_g = dc_t * i * (one - g * g)  # 3a, 2b
    dz_o = dh_t * tanh_c * o * (one - o)  # 3b, 2c
    store(dc, here, dc_t * f)  # 3a
    store(gates, z, dz_i)
    store(gates, z + LANES, dz_f)
    store(gates, z + 2 * LANES, dz_g)
    store(gates, z + 3 * LANES, dz_o)
    row = b * 4 * Hp + p * LANES
    store(dz, row, dz_i)
    store(dz, row + Hp, dz_f)
    store(dz, row + 2 * Hp, dz_g)
    store(dz, row + 3 * Hp, dz_o)
