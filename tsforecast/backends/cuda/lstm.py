"""LSTM: what a thread does for one unit of one row; equations and papers stand in ``backends.reference.lstm``.

::

    1   a   = u + v                      u: from x and the bias, v: from h_{t-1}; columns i, f, g, o
    2   i, f, o = sigmoid(a);  g = tanh(a)
    3   c_t = f c_{t-1} + i g
    4   h_t = o tanh(c_t)

The slots of a unit are its gates; c is what it carries. Each backward line names the one that it undoes.
"""

from __future__ import annotations

from numba import cuda

from tsforecast.backends.cuda.activations import ONE, sigmoid, tanh
from tsforecast.backends.cuda.jit import device


@device
def step(
    u,  # [4] in: from x and the bias; out: the gates
    v,  # [4] from h_{t-1}
    c_before,
):
    """Return ``(h_t, c_t)``."""
    u[0] = sigmoid(u[0] + v[0])  # 1 2
    u[1] = sigmoid(u[1] + v[1])  # 1 2
    u[2] = tanh(u[2] + v[2])  # 1 2
    u[3] = sigmoid(u[3] + v[3])  # 1 2
    c = cuda.fma(u[1], c_before, u[0] * u[2])  # 3
    return u[3] * tanh(c), c  # 4


@device
def step_backward(
    d,  # [4] in: the gates; out: derivatives by u, which are those by v
    c_before,
    c,
    dh,
    dc,
):
    """Undo ``step``; return the derivative by ``c_before``."""
    i, f, g, o = d[0], d[1], d[2], d[3]
    s = tanh(c)
    dc = cuda.fma(dh * o, ONE - s * s, dc)  # 4
    d[0] = dc * g * (i * (ONE - i))  # 3 2
    d[1] = dc * c_before * (f * (ONE - f))  # 3 2
    d[2] = dc * i * (ONE - g * g)  # 3 2
    d[3] = dh * s * (o * (ONE - o))  # 4 2
    return dc * f  # 3
