"""LSTM and its variants: what a thread does for one unit of one row.

Equations and papers stand in ``backends.reference.lstm``::

    1   a   = u + v                      u: from x and the bias, v: from h_{t-1}; slots i, f, g, o
    2   i, f = sigmoid(a + w_c c_{t-1});  g = tanh(a)               w_c: with peepholes only
    3   c_t = f c_{t-1} + i g
    4   o   = sigmoid(a + w_c c_t)
    5   h_t = o tanh(c_t)

The slots of a unit are its gates; c is what it carries. A gate that a variant lacks is 1, the other's rest, or without
its activation, as the reference says. Each backward line names the one that it undoes.
"""

from __future__ import annotations

from numba import cuda

from tsforecast.backends.cuda.activations import ONE, ZERO, sigmoid, tanh
from tsforecast.backends.cuda.jit import device


@device
def add_peepholes(
    d,  # e + q: derivatives by the slots
    e,
    c_before,
    c,
    dw_c,  # [4] accumulates
):
    """Undo what line 2 and line 4 do with ``w_c``, for its gradient."""
    dw_c[0] = cuda.fma(d[e], c_before, dw_c[0])  # 2
    dw_c[1] = cuda.fma(d[e + 1], c_before, dw_c[1])  # 2
    dw_c[3] = cuda.fma(d[e + 3], c, dw_c[3])  # 4


def make(
    i: bool = True,
    f: bool = True,
    o: bool = True,
    peepholes: bool = False,
    coupled: bool = False,
    input_activation: bool = True,
    output_activation: bool = True,
):
    """``(step, step_backward)`` of a variant; ``i``, ``f``, ``o`` tell which gates have weights."""

    @device
    def sees(a, w, c):
        return cuda.fma(w, c, a) if peepholes else a

    @device
    def step(
        u,  # [4] in: from x and the bias; out: the gates
        v,  # [4] from h_{t-1}
        c_before,
        w_c,  # [4]
    ):
        """Return ``(h_t, c_t)``."""
        u[0] = sigmoid(sees(u[0] + v[0], w_c[0], c_before)) if i else ONE  # 1 2
        u[1] = ONE - u[0] if coupled else (sigmoid(sees(u[1] + v[1], w_c[1], c_before)) if f else ONE)  # 1 2
        u[2] = tanh(u[2] + v[2]) if input_activation else u[2] + v[2]  # 1 2
        c = cuda.fma(u[1], c_before, u[0] * u[2])  # 3
        u[3] = sigmoid(sees(u[3] + v[3], w_c[3], c)) if o else ONE  # 1 4
        return u[3] * (tanh(c) if output_activation else c), c  # 5

    @device
    def step_backward(
        d,  # [4] in: the gates; out: derivatives by u, which are those by v
        c_before,
        c,
        dh,
        dc,
        w_c,  # [4]
    ):
        """Undo ``step``; return the derivative by ``c_before``."""
        gate_i, gate_f, g, gate_o = d[0], d[1], d[2], d[3]
        s = tanh(c) if output_activation else c
        d[3] = dh * s * (gate_o * (ONE - gate_o)) if o else ZERO  # 5 4
        dc = sees(cuda.fma(dh * gate_o, ONE - s * s if output_activation else ONE, dc), w_c[3], d[3])  # 5 4
        di, df = dc * g, dc * c_before  # 3
        if coupled:
            di = di - df  # 2
        d[0] = di * (gate_i * (ONE - gate_i)) if i else ZERO  # 2
        d[1] = df * (gate_f * (ONE - gate_f)) if f else ZERO  # 2
        d[2] = dc * gate_i * (ONE - g * g if input_activation else ONE)  # 3 2
        return sees(sees(dc * gate_f, w_c[1], d[1]), w_c[0], d[0])  # 3 2

    return step, step_backward
