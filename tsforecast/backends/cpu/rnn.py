"""The plain recurrent network (Elman) with tanh or ReLU; equations as in ``backends.reference.rnn``.

Letters: T steps, B rows, D inputs, H units, L lanes, P = ceil(H / L) unit blocks, Hp = P*L, K = D + 1 + H, S = D + 1 +
Hp. For every step t, row b and unit::

    1a   a   = [x_t  1  h_{t-1}] W
    2a   h_t = tanh(a)   or   max(a, 0)

J. Elman: Finding Structure in Time, 1990; Q. Le, N. Jaitly, G. Hinton, 2015 (ReLU).

Flat buffers as in ``lstm``, but one panel covers up to 4 unit blocks, v = 0, 4, ... and w = min(4, P - v): ``w, dw``
are [K,wL] from v*K*L on, ``gates``, which hold the gradients of a, [T*B,wL] from v*T*B*L on. There is no c.
"""

from __future__ import annotations

from tsforecast.backends.cpu.activations import relu, relu_slope, tanh
from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, load, splat, store
from tsforecast.backends.cpu.layer import GRADIENT_BLOCK, Kernels
from tsforecast.backends.cpu.tile import multiply

BLOCKS = 4


def make_kernels(rectified: bool) -> Kernels:
    """Kernels with ReLU or tanh; the flag is a constant to the compiler."""

    @inlined
    def run_panel(t, v, B, D, H, w, xh, z, at):
        """Lines 1a and 2a of one step and panel; ``z [B,wL]`` from ``at`` on is scratch."""
        P, K = (H + LANES - 1) // LANES, D + 1 + H
        S, width = D + 1 + P * LANES, min(BLOCKS, P - v)
        multiply(B, width, K, xh, t * B * S, S, 1, w, v * K * LANES, 0, z, at, width * LANES, 0, False)  # 1a
        for b in range(B):
            for j in range(width):
                a = load(z, at + (b * width + j) * LANES)
                if rectified:
                    h = relu(a)
                else:
                    h = tanh(a)
                store(xh, ((t + 1) * B + b) * S + D + 1 + (v + j) * LANES, h)  # 2a

    @kernel
    def infer(T, B, D, H, w, extra, xh, c, z):
        """Run the layer over all steps; ``z [B,4L]`` is scratch."""
        for t in range(T):
            for v in range(0, (H + LANES - 1) // LANES, BLOCKS):
                run_panel(t, v, B, D, H, w, xh, z, 0)

    @kernel
    def forward(T, B, D, H, w, extra, xh, c, gates, kept):
        """Run the layer over all steps; what ``backward`` needs are the hidden states."""
        for t in range(T):
            for v in range(0, (H + LANES - 1) // LANES, BLOCKS):
                run_panel(t, v, B, D, H, w, xh, gates, 0)

    @inlined
    def step_backward(T, B, D, Hp, t, v, width, b, j, xh, gates, dh, dz):
        """Line 2a backwards, for one row and one block of units."""
        h = load(xh, ((t + 1) * B + b) * (D + 1 + Hp) + D + 1 + (v + j) * LANES)
        da = load(dh, b * Hp + (v + j) * LANES)
        if rectified:
            da = da * relu_slope(h)
        else:
            da = da * (splat(dh, 1) - h * h)
        store(gates, (v * T * B + (t * B + b) * width + j) * LANES, da)
        store(dz, b * Hp + (v + j) * LANES, da)

    @kernel
    def backward(
        T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx, want_state, dh, dc, dz, dx, dw,
        dextra,
    ):  # fmt: skip
        """Undo ``forward``; arguments as in ``lstm``."""
        P, Vx = (H + LANES - 1) // LANES, (D + LANES - 1) // LANES
        Hp, K = P * LANES, D + 1 + H
        S = D + 1 + Hp
        for t in range(T - 1, -1, -1):
            if every_step:
                for q in range(0, B * Hp, LANES):
                    store(dh, q, load(dh, q) + load(dout, t * B * Hp + q))
            for v in range(0, P, BLOCKS):
                width = min(BLOCKS, P - v)
                for b in range(B):
                    for j in range(width):
                        step_backward(T, B, D, Hp, t, v, width, b, j, xh, gates, dh, dz)
            if t > 0 or want_state:
                multiply(B, P, Hp, dz, 0, Hp, 1, wh_t, 0, 0, dh, 0, Hp, LANES, False)  # 1a, by h
            if want_dx:
                to = t * B * Vx * LANES
                multiply(B, Vx, Hp, dz, 0, Hp, 1, wx_t, 0, 0, dx, to, Vx * LANES, LANES, False)  # 1a, by x
        for k in range(0, T * B, GRADIENT_BLOCK):  # 1a, by W
            n = min(GRADIENT_BLOCK, T * B - k)
            for v in range(0, P, BLOCKS):
                width = min(BLOCKS, P - v)
                da = (v * T * B + k * width) * LANES
                multiply(K, width, n, xh, k * S, 1, S, gates, da, 0, dw, v * K * LANES, width * LANES, 0, True)

    return Kernels(infer, forward, backward)
