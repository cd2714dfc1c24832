"""The LSTM and its relatives, forward and back-propagation through time; equations as in ``backends.reference.lstm``.

Letters: T steps, B rows, D inputs, H units, L lanes, P = ceil(H / L) unit blocks, Hp = P*L, G gate columns, R = 1, or 4
where the gates of a step feed the next, K rows of the weights, S = D + 1 + R*Hp. For every step t, row b and unit::

    1a   z      = [x_t  1  h_{t-1}] W            all gates at once, W = [w_x; b; w_h]  (K by G*H)
    1b   ... with full gate recurrence, the row goes on with i, f, o of the step before
    2a   i, f   = sigmoid(z_i + w_ci c_{t-1}), sigmoid(z_f + w_cf c_{t-1})      (w_c with peepholes only)
    2b   g      = tanh(z_g)
    3a   c_t    = f * c_{t-1} + i * g
    3b   o      = sigmoid(z_o + w_co c_t)
    4a   s      = tanh(c_t)
    4b   h_t    = o * s

S. Hochreiter, J. Schmidhuber: Long Short-Term Memory, 1997; forget gate: F. Gers, J. Schmidhuber, F. Cummins, 2000;
peepholes: F. Gers, J. Schmidhuber, 2000; variants: K. Greff et al., 2015. Gate order i, f, g, o as in PyTorch.

Flat buffers: ``xh [T+1,B,S]`` rows (x_t | 1 | h_{t-1} ...), so that one multiply serves input, bias and recurrence and
another one all their gradients; ``c [T+1,B,Hp]``; ``kept [T,B,Hp]`` = s; ``gates [P,T*B,G*L]`` the gates of L units
side by side: the panels of a multiply's result, and, overwritten by dz, the panels of the weight gradient's right side;
``w, dw [P,K,G*L]``; ``extra, dextra [P,3L]`` the peepholes. Lanes beyond H see zero weights and stay zero in c and h.
Parameter gradients accumulate, activation gradients are assigned.
"""

from __future__ import annotations

from tsforecast.backends.cpu.activations import (
    squash_sss,
    squash_sst,
    squash_ssts,
    squash_st,
    squash_sts,
    tanh,
)
from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, fma, load, splat, store
from tsforecast.backends.cpu.layer import Kernels, is_zero_state, rows_ready, weight_gradient
from tsforecast.backends.cpu.tile import multiply


def make_kernels(
    columns: str = "ifgo",  # the gates that exist, in the order of their columns
    peepholes: bool = False,
    coupled: bool = False,
    input_activation: bool = True,
    output_activation: bool = True,
    gate_recurrence: bool = False,
) -> Kernels:
    """Kernels of one member of the family; flags are constants to the compiler."""
    G, R = len(columns), 4 if gate_recurrence else 1
    HAS_I, HAS_F, HAS_O = ("i" in columns, "f" in columns, "o" in columns)
    I, F, A, O = (max(0, columns.find(gate)) * LANES for gate in "ifgo")

    @inlined
    def gates_of(z, at, c_old, extra, e):
        """Lines 2a to 3a for the units of one block, from their sums at ``z[at:]``: ``i, f, g, o, c``.

        With peepholes, o waits for c and is still its sum.
        """
        one = splat(z, 1)
        i, f, o, g = one, one, one, load(z, at + A)
        if peepholes:
            z_i = fma(load(extra, e), c_old, load(z, at + I))
            z_f = fma(load(extra, e + LANES), c_old, load(z, at + F))
            i, f, g = squash_sst(z_i, z_f, g)
            o = load(z, at + O)
        elif not input_activation:
            i, f, o = squash_sss(load(z, at + I), load(z, at + F), load(z, at + O))
        elif not HAS_O:
            i, f, g = squash_sst(load(z, at + I), load(z, at + F), g)
        elif not HAS_I:
            f, g, o = squash_sts(load(z, at + F), g, load(z, at + O))
        elif not HAS_F:
            i, g, o = squash_sts(load(z, at + I), g, load(z, at + O))
            if coupled:
                f = one - i
        else:
            i, f, g, o = squash_ssts(load(z, at + I), load(z, at + F), g, load(z, at + O))
        return i, f, g, o, fma(f, c_old, i * g)  # 3a

    @inlined
    def output_of(z, at, c, extra, e):
        """Lines 3b to 4b, from what ``gates_of`` left: ``o, s, h``."""
        o, s = splat(z, 1), c
        if HAS_O:
            o = load(z, at + O)
        if peepholes:
            o, s = squash_st(fma(load(extra, e + 2 * LANES), c, o), c)  # 3b 4a
        elif output_activation:
            s = tanh(c)
        return o, s, o * s  # 4b

    @kernel
    def infer(
        T, B, D, H,
        w,  # [P,K,G*L]
        extra,  # [P,3L]
        xh,  # [T+1,B,S] in: x, ones, h_0; out: h_1..h_T
        c,  # [B,Hp] in: c_0; out: c_T
        z,  # [B,G*L] scratch
    ):  # fmt: skip
        """Run the layer over all steps, keeping only the hidden states."""
        P = (H + LANES - 1) // LANES
        Hp = P * LANES
        K, S = D + 1 + (H if R == 1 else R * Hp), D + 1 + R * Hp
        n = D + 1 if is_zero_state(B, D, S, xh, z) else K  # rows of the weights that step 1 needs
        for t in range(T):
            for p in range(P):
                multiply(B, G, n, xh, t * B * S, S, 1, w, p * K * G * LANES, 0, z, 0, G * LANES, 0, False)  # 1a
                to = (t + 1) * B * S + D + 1 + p * LANES
                for b in range(B):
                    unit = b * Hp + p * LANES
                    i, f, _, o, c_new = gates_of(z, b * G * LANES, load(c, unit), extra, p * 3 * LANES)
                    store(c, unit, c_new)
                    if HAS_O:
                        store(z, b * G * LANES + O, o)
                    if gate_recurrence:
                        store(xh, to + b * S + Hp, i)  # 1b
                        store(xh, to + b * S + 2 * Hp, f)
                for b in range(B):  # by itself: one loop for all would wait for the long chain of each row
                    o, _, h = output_of(z, b * G * LANES, load(c, b * Hp + p * LANES), extra, p * 3 * LANES)
                    store(xh, to + b * S, h)
                    if gate_recurrence:
                        store(xh, to + b * S + 3 * Hp, o)  # 1b
            n = K

    @kernel
    def forward(
        first, last,  # steps to run, of T
        T, B, D, H,
        w,  # [P,K,G*L]
        extra,  # [P,3L]
        xh,  # [T+1,B,S] in: x, ones, h_0; out: h_1..h_T
        c,  # [T+1,B,Hp] in: c_0; out: c_1..c_T
        gates,  # [P,T*B,G*L] out
        kept,  # [T,B,Hp] out: s
    ):  # fmt: skip
        """Run the layer, keeping what ``backward`` needs."""
        P = (H + LANES - 1) // LANES
        Hp = P * LANES
        K, S = D + 1 + (H if R == 1 else R * Hp), D + 1 + R * Hp
        n = D + 1 if first == 0 and is_zero_state(B, D, S, xh, gates) else K  # rows of the weights that this step needs
        for t in range(first, last):
            for p in range(P):
                here = (p * T + t) * B * G * LANES
                multiply(B, G, n, xh, t * B * S, S, 1, w, p * K * G * LANES, 0, gates, here, G * LANES, 0, False)  # 1a
                to = (t + 1) * B * S + D + 1 + p * LANES
                for b in range(B):
                    z, unit = here + b * G * LANES, (t * B + b) * Hp + p * LANES
                    i, f, g, o, c_new = gates_of(gates, z, load(c, unit), extra, p * 3 * LANES)
                    store(c, unit + B * Hp, c_new)
                    if HAS_I:
                        store(gates, z + I, i)
                    if HAS_F:
                        store(gates, z + F, f)
                    if HAS_O:
                        store(gates, z + O, o)
                    store(gates, z + A, g)
                    if gate_recurrence:
                        store(xh, to + b * S + Hp, i)  # 1b
                        store(xh, to + b * S + 2 * Hp, f)
                for b in range(B):
                    z, unit = here + b * G * LANES, (t * B + b) * Hp + p * LANES
                    o, s, h = output_of(gates, z, load(c, unit + B * Hp), extra, p * 3 * LANES)
                    if peepholes:
                        store(gates, z + O, o)
                    store(kept, unit, s)
                    store(xh, to + b * S, h)
                    if gate_recurrence:
                        store(xh, to + b * S + 3 * Hp, o)  # 1b
            n = K

    @inlined
    def step_backward(T, B, Hp, t, p, b, extra, c, kept, gates, dh, dc, dz, dextra):
        """Lines 4b to 2a backwards, for one row and the units of block p; buffers as in ``backward``."""
        z = ((p * T + t) * B + b) * G * LANES
        unit = (t * B + b) * Hp + p * LANES
        here = b * R * Hp + p * LANES
        e = p * 3 * LANES
        one = splat(c, 1)
        i, f, o = one, one, one
        if HAS_I:
            i = load(gates, z + I)
        if HAS_F:
            f = load(gates, z + F)
        elif coupled:
            f = one - i
        if HAS_O:
            o = load(gates, z + O)
        g, s, c_old, dh_t = load(gates, z + A), load(kept, unit), load(c, unit), load(dh, here)
        do, dc_t = dh_t * s, load(dc, b * Hp + p * LANES)  # 4b
        if gate_recurrence:
            do = do + load(dh, here + 3 * Hp)  # 1b
        dz_o = do * o * (one - o)  # 3b
        ds = dh_t * o  # 4b
        if output_activation:
            dc_t = fma(ds, one - s * s, dc_t)  # 4a
        else:
            dc_t = dc_t + ds
        if peepholes:
            dc_t = fma(dz_o, load(extra, e + 2 * LANES), dc_t)  # 3b
        di, df = dc_t * g, dc_t * c_old  # 3a
        if gate_recurrence:
            di, df = di + load(dh, here + Hp), df + load(dh, here + 2 * Hp)  # 1b
        if coupled:
            di = di - df
        dz_i, dz_f = di * i * (one - i), df * f * (one - f)  # 2a
        dz_g = dc_t * i  # 3a
        if input_activation:
            dz_g = dz_g * (one - g * g)  # 2b
        dc_old = dc_t * f  # 3a
        if peepholes:
            dc_old = fma(dz_i, load(extra, e), fma(dz_f, load(extra, e + LANES), dc_old))  # 2a
            c_new = load(c, unit + B * Hp)
            store(dextra, e, fma(dz_i, c_old, load(dextra, e)))
            store(dextra, e + LANES, fma(dz_f, c_old, load(dextra, e + LANES)))
            store(dextra, e + 2 * LANES, fma(dz_o, c_new, load(dextra, e + 2 * LANES)))
        store(dc, b * Hp + p * LANES, dc_old)
        row = b * G * Hp + p * LANES
        if HAS_I:
            store(gates, z + I, dz_i)
            store(dz, row + I // LANES * Hp, dz_i)
        if HAS_F:
            store(gates, z + F, dz_f)
            store(dz, row + F // LANES * Hp, dz_f)
        if HAS_O:
            store(gates, z + O, dz_o)
            store(dz, row + O // LANES * Hp, dz_o)
        store(gates, z + A, dz_g)
        store(dz, row + A // LANES * Hp, dz_g)

    @kernel
    def backward(
        first, last,  # steps to undo, of T; those behind them are undone
        T, B, D, H,
        wh_t,  # [G*Hp, R*P vectors] panels: w_h transposed, rows gate by gate
        wx_t,  # [G*Hp, ceil(D/L) vectors] panels: w_x transposed; unused without want_dx
        extra,  # [P,3L]
        xh, c, kept,  # as forward left them
        gates,  # [P,T*B,G*L] in: activations; out: dz
        dout,  # [T,B,Hp] gradient of every h_t that the layer above sends; unused without every_step
        every_step,  # bool
        want_dx,  # bool
        want_state,  # bool: whether dh is wanted where t = 0; dc always comes
        dh,  # [B,R*Hp] in: gradient of what the last of the steps feeds back; out: of what the first one reads
        dc,  # [B,Hp] in: gradient of c behind the last of them; out: of c before the first
        dz,  # [B,G*Hp] scratch, gate by gate
        dx,  # [T,B,Dp] out, where wanted; Dp is D in whole vectors
        dw,  # [P,K,G*L] accumulates
        dextra,  # [P,3L] accumulates
    ):  # fmt: skip
        """Undo ``forward``."""
        P, Vx = (H + LANES - 1) // LANES, (D + LANES - 1) // LANES
        Hp = P * LANES
        K, S = D + 1 + (H if R == 1 else R * Hp), D + 1 + R * Hp
        for t in range(last - 1, first - 1, -1):
            if every_step:  # here, since a branch among lanes would keep them out of registers
                for b in range(B):
                    for q in range(0, Hp, LANES):
                        store(dh, b * R * Hp + q, load(dh, b * R * Hp + q) + load(dout, (t * B + b) * Hp + q))
            for p in range(P):
                for b in range(B):
                    step_backward(T, B, Hp, t, p, b, extra, c, kept, gates, dh, dc, dz, dextra)
            if t > 0 or want_state:
                multiply(B, R * P, G * Hp, dz, 0, G * Hp, 1, wh_t, 0, 0, dh, 0, R * Hp, LANES, False)  # 1a, by h
            if want_dx:
                to = t * B * Vx * LANES
                multiply(B, Vx, G * Hp, dz, 0, G * Hp, 1, wx_t, 0, 0, dx, to, Vx * LANES, LANES, False)  # 1a, by x
            n = rows_ready(t, T, B)
            if n > 0:
                n_0 = B if t == 0 and is_zero_state(B, D, S, xh, dz) else 0
                at = t * B + n_0
                weight_gradient(at, n - n_0, T * B, P, K, G, xh, 0, S, gates, 0, G * LANES, dw, 0, K)  # 1a, by W
                weight_gradient(0, n_0, T * B, P, D + 1, G, xh, 0, S, gates, 0, G * LANES, dw, 0, K)
        if gate_recurrence and first == 0:  # gates of a step do not feed g, and those of padding, sigmoid(0), nothing
            for p in range(P):
                for k in range(D + 1 + Hp, K):
                    is_padding = (k - D - 1) % Hp >= H
                    for q in range(0, G * LANES, LANES):
                        if is_padding or q == A:
                            store(dw, (p * K + k) * G * LANES + q, splat(dw, 0))

    return Kernels(infer, forward, backward)
