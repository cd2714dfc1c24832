"""GRU: what a thread does for one unit of one row; equations and papers stand in ``backends.reference.gru``.

::

    1   r, z = sigmoid(u + v)            u: from x and the bias, v: from h_{t-1}
    2   m    = v_n + b_h
    3   n    = tanh(u_n + r m)
    4   h_t  = (1 - z) n + z h_{t-1}

The slots are r, z, the part of n that reads x, and m, which reads h; h is what a unit carries. Each backward line names
the one that it undoes.
"""

from __future__ import annotations

from numba import cuda

from tsforecast.backends.cuda.activations import ONE, sigmoid, tanh
from tsforecast.backends.cuda.jit import device


def make():
    """``(step, step_backward)``."""

    @device
    def step(
        u,  # [4] in: from x and the biases; out: r, z, n, m
        v,  # [4] from h_{t-1}
        h_before,
        w_c,
    ):
        """Return ``(h_t, h_t)``."""
        u[0], u[1] = sigmoid(u[0] + v[0]), sigmoid(u[1] + v[1])  # 1
        u[3] = u[3] + v[3]  # 2
        u[2] = tanh(cuda.fma(u[0], u[3], u[2]))  # 3
        h = cuda.fma(u[1], h_before, (ONE - u[1]) * u[2])  # 4
        return h, h

    @device
    def step_backward(
        d,  # [4] in: r, z, n, m; out: derivatives by the sums of the slots
        h_before,
        h,
        dh,
        d_carried,
        w_c,
    ):
        """Undo ``step``; return the derivative by ``h_before`` but for what passes through v."""
        r, z, n, m = d[0], d[1], d[2], d[3]
        dh = dh + d_carried
        da = dh * (ONE - z) * (ONE - n * n)  # 4 3
        d[0] = da * m * (r * (ONE - r))  # 3 1
        d[1] = dh * (h_before - n) * (z * (ONE - z))  # 4 1
        d[2] = da
        d[3] = da * r  # 3 2
        return dh * z  # 4

    return step, step_backward
