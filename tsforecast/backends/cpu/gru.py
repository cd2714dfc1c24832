"""The gated recurrent unit that resets after the multiply; equations as in ``backends.reference.gru``.

Letters: T steps, B rows, D inputs, H units, L lanes, P = ceil(H / L) unit blocks, Hp = P*L, K = D + 1 + H, S = D + 1 +
Hp. For every step t, row b and unit::

    1a   (n_x r z)   = [x_t  1] W_x              rows x and 1 of W, columns n r z
    1b   (r z m)    += h_{t-1} W_h               rows h of W, columns r z n; m starts at b_h
    2a   r, z        = sigmoid(r), sigmoid(z)
    2b   n           = tanh(n_x + r m)
    3a   h_t         = n + z (h_{t-1} - n)

K. Cho et al.: Learning Phrase Representations using RNN Encoder-Decoder, 2014 (arXiv 1406.1078v1 resets after).

Flat buffers as in ``lstm``; ``gates [P,T*B,4L]`` holds n_x r z m side by side, so that the two multiplies write three
vectors each, then n r z m, then their gradients; ``w, dw [P,K,3L]``; ``extra, dextra [P,L]`` is b_h. There is no c.
"""

from __future__ import annotations

from tsforecast.backends.cpu.activations import squash_ss, tanh
from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, fma, load, splat, store
from tsforecast.backends.cpu.layer import Kernels, rows_ready, weight_gradient
from tsforecast.backends.cpu.tile import multiply


@inlined
def _sums(t, p, B, D, H, w, extra, xh, z, at):
    """Lines 1a and 1b of one step and block of units, into ``z [B,4L]`` from ``at`` on."""
    Hp, K = (H + LANES - 1) // LANES * LANES, D + 1 + H
    S, from_w, from_x = D + 1 + Hp, p * K * 3 * LANES, t * B * (D + 1 + Hp)
    multiply(B, 3, D + 1, xh, from_x, S, 1, w, from_w, 0, z, at, 4 * LANES, 0, False)  # 1a
    for b in range(B):
        store(z, at + (b * 4 + 3) * LANES, load(extra, p * LANES))
    multiply(
        B, 3, H, xh, from_x + D + 1, S, 1, w, from_w + (D + 1) * 3 * LANES, 0, z, at + LANES, 4 * LANES, 0, True
    )  # 1b


@inlined
def _gates(z, at):
    """Line 2a for the units of one block, and the sum of 2b: ``r, z, n_x + r m``."""
    r, u = squash_ss(load(z, at + LANES), load(z, at + 2 * LANES))  # 2a
    return r, u, fma(r, load(z, at + 3 * LANES), load(z, at))  # 2b


@inlined
def _output(z, at, h_old):
    """Lines 2b and 3a, from the sum of 2b and z: ``n, h``."""
    n = tanh(load(z, at))  # 2b
    return n, fma(load(z, at + 2 * LANES), h_old - n, n)  # 3a


def make_kernels(carries_h: bool = False) -> Kernels:
    """Kernels that read and leave the h of line 3a in ``xh`` or, with ``carries_h``, in ``c``, whose gradient is dc."""

    @kernel
    def infer(T, B, D, H, w, extra, xh, c, z):
        """Run the layer over all steps, keeping only the hidden states; ``z [B,4L]`` is scratch."""
        P = (H + LANES - 1) // LANES
        S = D + 1 + P * LANES
        for t in range(T):
            for p in range(P):
                _sums(t, p, B, D, H, w, extra, xh, z, 0)
                for q in range(0, B * 4 * LANES, 4 * LANES):
                    _, u, a = _gates(z, q)
                    store(z, q, a)
                    store(z, q + 2 * LANES, u)
                for b in range(B):  # by itself, as in ``lstm``
                    at, unit = (t * B + b) * S + D + 1 + p * LANES, (b * P + p) * LANES
                    h_old = load(c, unit) if carries_h else load(xh, at)
                    _, h = _output(z, b * 4 * LANES, h_old)
                    store(xh, at + B * S, h)
                    if carries_h:
                        store(c, unit, h)

    @kernel
    def forward(first, last, T, B, D, H, w, extra, xh, c, gates, kept):
        """Run the layer, keeping what ``backward`` needs."""
        P = (H + LANES - 1) // LANES
        S = D + 1 + P * LANES
        for t in range(first, last):
            for p in range(P):
                here = (p * T + t) * B * 4 * LANES
                _sums(t, p, B, D, H, w, extra, xh, gates, here)
                for q in range(here, here + B * 4 * LANES, 4 * LANES):
                    r, u, a = _gates(gates, q)
                    store(gates, q, a)
                    store(gates, q + LANES, r)
                    store(gates, q + 2 * LANES, u)
                for b in range(B):
                    at, unit = (t * B + b) * S + D + 1 + p * LANES, ((t * B + b) * P + p) * LANES
                    h_old = load(c, unit) if carries_h else load(xh, at)
                    n, h = _output(gates, here + b * 4 * LANES, h_old)
                    store(gates, here + b * 4 * LANES, n)
                    store(xh, at + B * S, h)
                    if carries_h:
                        store(c, unit + B * P * LANES, h)

    @inlined
    def step_backward(T, B, D, Hp, t, p, b, xh, c, gates, dh, dc, dz, dextra):
        """Lines 3a to 2a backwards, for one row and the units of block p; buffers as in ``backward``."""
        z = ((p * T + t) * B + b) * 4 * LANES
        here = b * Hp + p * LANES
        one = splat(dh, 1)
        n, r, u, m = load(gates, z), load(gates, z + LANES), load(gates, z + 2 * LANES), load(gates, z + 3 * LANES)
        dh_t, h_old = load(dh, here), load(xh, (t * B + b) * (D + 1 + Hp) + D + 1 + p * LANES)
        if carries_h:
            dh_t, h_old = dh_t + load(dc, here), load(c, t * B * Hp + here)
        dn = dh_t * (one - u) * (one - n * n)  # 3a 2b
        du = dh_t * (h_old - n) * u * (one - u)  # 3a 2a
        dr = dn * m * r * (one - r)  # 2b 2a
        dm = dn * r  # 2b
        store(dextra, p * LANES, load(dextra, p * LANES) + dm)  # 1b
        store(dc if carries_h else dh, here, dh_t * u)  # 3a
        row = b * 4 * Hp + p * LANES
        store(gates, z, dn)
        store(gates, z + LANES, dr)
        store(gates, z + 2 * LANES, du)
        store(gates, z + 3 * LANES, dm)
        store(dz, row, dn)
        store(dz, row + Hp, dr)
        store(dz, row + 2 * Hp, du)
        store(dz, row + 3 * Hp, dm)

    @kernel
    def backward(
        first, last, T, B, D, H,
        wh_t,  # [3Hp, P vectors] panels: rows r z n
        wx_t,  # [3Hp, ceil(D/L) vectors] panels: rows n r z
        extra, xh, c, kept, gates, dout, every_step, want_dx, want_state,
        dh, dc,
        dz,  # [B,4Hp] scratch: n r z m
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
                    step_backward(T, B, D, Hp, t, p, b, xh, c, gates, dh, dc, dz, dextra)
            if t > 0 or want_state:
                multiply(B, P, 3 * Hp, dz, Hp, 4 * Hp, 1, wh_t, 0, 0, dh, 0, Hp, LANES, not carries_h)  # 1b
            if want_dx:
                to = t * B * Vx * LANES
                multiply(B, Vx, 3 * Hp, dz, 0, 4 * Hp, 1, wx_t, 0, 0, dx, to, Vx * LANES, LANES, False)  # 1a, by x
            n, at, by_h = rows_ready(t, T, B), t * B, (D + 1) * 3 * LANES
            weight_gradient(at, n, T * B, P, D + 1, 3, xh, 0, S, gates, 0, 4 * LANES, dw, 0, K)  # 1a, by W
            weight_gradient(at, n, T * B, P, H, 3, xh, D + 1, S, gates, LANES, 4 * LANES, dw, by_h, K)  # 1b, by W

    return Kernels(infer, forward, backward)
