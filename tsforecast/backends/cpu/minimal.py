"""minGRU and minLSTM, forward and back-propagation through time; equations in ``backends.reference.minimal``.

Letters: T steps, B rows, D inputs, H units, L lanes, P = ceil(H / L) unit blocks, Hp = P*L, G gate columns, K = D + 1
rows of the weights, S = D + 1 + Hp. For every row of all steps, and then step by step::

    1a   a      = [x_t  1] W                        one multiply for the whole window
    2a   g      = a_g
    2b   w      = sigmoid(a_z)                      minGRU
    2c   u      = exp(-a_i), exp(-a_f);  r = 1 / (2 + u_i + u_f);  w = (1 + u_f) r      minLSTM
    3a   h_t    = h_{t-1} + w (g - h_{t-1})

2c is s_i / (s_i + s_f) by one division, and serves its derivatives, too: w u_i r by a_i and -(1 - w) u_f r by a_f.
Where one of a_i and a_f is below ``-BOUND``, both are raised until none is: beside e^37 the ones of 2c are nothing to
the last bit of float64, and what counts is the ratio of u_i and u_f. From above they are cut off at ``BOUND``, where u
is nothing beside 1.

L. Feng et al.: Were RNNs All We Needed?, 2024.

Flat buffers as in ``lstm``, but for ``w, dw [P,K,G*L]``: there are no rows of h. ``gates`` hold w, g of the minGRU, the
two derivatives of 2c and g of the minLSTM, then the gradients of a; ``kept [T,B,Hp]`` w of the minLSTM. There is no c.
"""

from __future__ import annotations

from tsforecast.backends.cpu.activations import exp, sigmoid
from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, clamp, fma, larger, load, splat, store
from tsforecast.backends.cpu.layer import Kernels, rows_ready, weight_gradient
from tsforecast.backends.cpu.tile import multiply

BOUND = 37


def make_kernels(is_lstm: bool) -> Kernels:
    """Kernels of the minLSTM or of the minGRU; the flag is a constant to the compiler."""
    G = 3 if is_lstm else 2
    A = (G - 1) * LANES  # where g stands

    @inlined
    def share(z, at):
        """Lines 2b and 2c for the units of one block, from their sums: ``w`` and the minLSTM's two derivatives."""
        if is_lstm:
            one, zero, bound = splat(z, 1), splat(z, 0), splat(z, BOUND)
            x_i, x_f = zero - load(z, at), zero - load(z, at + LANES)
            beyond = larger(larger(x_i, x_f), bound) - bound
            u_i, u_f = exp(clamp(x_i - beyond, bound)), exp(clamp(x_f - beyond, bound))
            above_i, above_f = one + u_i, one + u_f
            r = one / (above_i + above_f)
            w = above_f * r
            return w, w * (u_i * r), above_i * r * (u_f * r)
        w = sigmoid(load(z, at))
        return w, w, w

    @kernel
    def infer(T, B, D, H, w, extra, xh, c, z):
        """Run the layer over all steps, keeping only the hidden states; ``z [B,G*L]`` is scratch."""
        P, K = (H + LANES - 1) // LANES, D + 1
        S = K + P * LANES
        for p in range(P):
            for t in range(T):
                multiply(B, G, K, xh, t * B * S, S, 1, w, p * K * G * LANES, 0, z, 0, G * LANES, 0, False)  # 1a
                for b in range(B):
                    at = (t * B + b) * S + K + p * LANES
                    new, _, _ = share(z, b * G * LANES)
                    h = load(xh, at)
                    store(xh, at + B * S, fma(new, load(z, b * G * LANES + A) - h, h))  # 3a

    @kernel
    def forward(first, last, T, B, D, H, w, extra, xh, c, gates, kept):
        """Run the layer, keeping what ``backward`` needs."""
        P, K = (H + LANES - 1) // LANES, D + 1
        S = K + P * LANES
        for p in range(P):
            n, here = (last - first) * B, (p * T + first) * B * G * LANES
            multiply(n, G, K, xh, first * B * S, S, 1, w, p * K * G * LANES, 0, gates, here, G * LANES, 0, False)  # 1a
            for row in range(first * B, last * B):
                q, at = (p * T * B + row) * G * LANES, row * S + K + p * LANES
                new, by_i, by_f = share(gates, q)
                h = load(xh, at)
                store(xh, at + B * S, fma(new, load(gates, q + A) - h, h))  # 3a
                store(gates, q, by_i)
                if is_lstm:
                    store(gates, q + LANES, by_f)
                    store(kept, row * P * LANES + p * LANES, new)

    @inlined
    def step_backward(T, B, D, Hp, row, p, b, xh, kept, gates, dh, dz):
        """Lines 3a to 2a backwards, for one row and the units of block p; buffers as in ``backward``."""
        q, here = (p * T * B + row) * G * LANES, b * Hp + p * LANES
        one, dh_t, g = splat(dh, 1), load(dh, here), load(gates, q + A)
        dw_t = dh_t * (g - load(xh, row * (D + 1 + Hp) + D + 1 + p * LANES))  # 3a
        if is_lstm:
            w, by_i, by_f = load(kept, row * Hp + p * LANES), load(gates, q), load(gates, q + LANES)
            da, da_f = dw_t * by_i, splat(dh, 0) - dw_t * by_f  # 2c
            store(gates, q + LANES, da_f)
            store(dz, b * G * Hp + Hp + p * LANES, da_f)
        else:
            w = load(gates, q)
            da = dw_t * w * (one - w)  # 2b
        da_g = dh_t * w  # 3a 2a
        store(dh, here, dh_t * (one - w))  # 3a
        store(gates, q, da)
        store(gates, q + A, da_g)
        store(dz, b * G * Hp + p * LANES, da)
        store(dz, b * G * Hp + (G - 1) * Hp + p * LANES, da_g)

    @kernel
    def backward(
        first, last, T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx, want_state, dh, dc,
        dz, dx, dw, dextra,
    ):  # fmt: skip
        """Undo ``forward``; arguments as in ``lstm``, but there is no ``wh_t``."""
        P, Vx = (H + LANES - 1) // LANES, (D + LANES - 1) // LANES
        Hp = P * LANES
        for t in range(last - 1, first - 1, -1):
            if every_step:
                for q in range(0, B * Hp, LANES):
                    store(dh, q, load(dh, q) + load(dout, t * B * Hp + q))
            for p in range(P):
                for b in range(B):
                    step_backward(T, B, D, Hp, t * B + b, p, b, xh, kept, gates, dh, dz)
            if want_dx:
                to = t * B * Vx * LANES
                multiply(B, Vx, G * Hp, dz, 0, G * Hp, 1, wx_t, 0, 0, dx, to, Vx * LANES, LANES, False)  # 1a, by x
            n, K = rows_ready(t, T, B), D + 1
            weight_gradient(t * B, n, T * B, P, K, G, xh, 0, K + Hp, gates, 0, G * LANES, dw, 0, K)  # 1a, by W

    return Kernels(infer, forward, backward)
