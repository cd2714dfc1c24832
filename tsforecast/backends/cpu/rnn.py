"""The plain recurrent network (Elman) with tanh or ReLU; equations as in ``backends.reference.rnn``.

Letters: T steps, B rows, D inputs, H units, L lanes, P = ceil(H / L) unit blocks, Hp = P*L, K = D + 1 + H, S = D + 1 +
Hp. For every step t, row b and unit::

    1a   a   = [x_t  1  h_{t-1}] W
    2a   h_t = tanh(a)   or   max(a, 0)

J. Elman: Finding Structure in Time, 1990; Q. Le, N. Jaitly, G. Hinton, 2015 (ReLU).

Flat buffers as in ``lstm``, but one panel covers up to 4 unit blocks, v = 0, 4, ... and w = min(4, P - v): ``w, dw``
are [K,wL] from v*K*L on, ``gates``, which hold h as it is made and then the gradients of a, [T*B,wL] from v*T*B*L on.
There is no c.
"""

from __future__ import annotations

from tsforecast.backends.cpu.activations import relu, relu_slope, tanh
from tsforecast.backends.cpu.jit import inlined, kernel
from tsforecast.backends.cpu.lanes import LANES, load, splat, store
from tsforecast.backends.cpu.layer import GRADIENT_BLOCK, Kernels, rows_ready
from tsforecast.backends.cpu.tile import multiply

BLOCKS = 4


def make_kernels(rectified: bool) -> Kernels:
    """Kernels with ReLU or tanh; the flag is a constant to the compiler."""

    @inlined
    def run_panel(t, v, B, D, H, w, xh, z, at, keeps):
        """Lines 1a and 2a of one step and panel; ``z [B,wL]`` from ``at`` on is scratch, or keeps h."""
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
                if keeps:
                    store(z, at + (b * width + j) * LANES, h)
                store(xh, ((t + 1) * B + b) * S + D + 1 + (v + j) * LANES, h)  # 2a

    @kernel
    def infer(T, B, D, H, w, extra, xh, c, z):
        """Run the layer over all steps; ``z [B,4L]`` is scratch."""
        for t in range(T):
            for v in range(0, (H + LANES - 1) // LANES, BLOCKS):
                run_panel(t, v, B, D, H, w, xh, z, 0, False)

    @kernel
    def forward(first, last, T, B, D, H, w, extra, xh, c, gates, kept):
        """Run the layer, keeping what ``backward`` needs: the hidden states, which noise may change in ``xh``."""
        P = (H + LANES - 1) // LANES
        for t in range(first, last):
            for v in range(0, P, BLOCKS):
                at = (v * T * B + t * B * min(BLOCKS, P - v)) * LANES
                run_panel(t, v, B, D, H, w, xh, gates, at, True)

    @inlined
    def step_backward(T, B, Hp, t, v, width, b, j, gates, dh, dz):
        """Line 2a backwards, for one row and one block of units."""
        at = (v * T * B + (t * B + b) * width + j) * LANES
        h, da = load(gates, at), load(dh, b * Hp + (v + j) * LANES)
        if rectified:
            da = da * relu_slope(h)
        else:
            da = da * (splat(dh, 1) - h * h)
        store(gates, at, da)
        store(dz, b * Hp + (v + j) * LANES, da)

    @kernel
    def backward(
        first, last, T, B, D, H, wh_t, wx_t, extra, xh, c, kept, gates, dout, every_step, want_dx, want_state, dh, dc,
        dz, dx, dw, dextra,
    ):  # fmt: skip
        """Undo ``forward``; arguments as in ``lstm``."""
        P, Vx = (H + LANES - 1) // LANES, (D + LANES - 1) // LANES
        Hp, K = P * LANES, D + 1 + H
        S = D + 1 + Hp
        for t in range(last - 1, first - 1, -1):
            if every_step:
                for q in range(0, B * Hp, LANES):
                    store(dh, q, load(dh, q) + load(dout, t * B * Hp + q))
            for v in range(0, P, BLOCKS):
                width = min(BLOCKS, P - v)
                for b in range(B):
                    for j in range(width):
                        step_backward(T, B, Hp, t, v, width, b, j, gates, dh, dz)
            if t > 0 or want_state:
                multiply(B, P, Hp, dz, 0, Hp, 1, wh_t, 0, 0, dh, 0, Hp, LANES, False)  # 1a, by h
            if want_dx:
                to = t * B * Vx * LANES
                multiply(B, Vx, Hp, dz, 0, Hp, 1, wx_t, 0, 0, dx, to, Vx * LANES, LANES, False)  # 1a, by x
            for end in range(t * B + rows_ready(t, T, B), t * B, -GRADIENT_BLOCK):  # 1a, by W, as ``weight_gradient``
                n, row = min(GRADIENT_BLOCK, end - t * B), end - 1
                for v in range(0, P, BLOCKS):
                    width = min(BLOCKS, P - v) * LANES
                    da, to = v * T * B * LANES + row * width, v * K * LANES
                    multiply(K, width // LANES, n, xh, row * S, 1, -S, gates, da, -width, dw, to, width, 0, True)

    return Kernels(infer, forward, backward)
