"""The plain recurrent network: what a thread does for one unit of one row; see ``backends.reference.rnn``.

::

    1   a   = u + v                      u: from x and the bias, v: from h_{t-1}
    2   h_t = tanh(a)   or   max(a, 0)

One slot is in use, and nothing is carried beside h. Each backward line names the one that it undoes.
"""

from __future__ import annotations

from tsforecast.backends.cuda.activations import ONE, ZERO, tanh
from tsforecast.backends.cuda.jit import device


def make(relu: bool = False):
    """``(step, step_backward)``."""

    @device
    def step(
        u,  # [4] in: from x and the bias, in slot 0; out: h
        v,  # [4] from h_{t-1}
        carried,
        w_c,
    ):
        """Return ``(h_t, 0)``."""
        a = u[0] + v[0]  # 1
        u[0] = (ZERO if a < ZERO else a) if relu else tanh(a)  # 2
        return u[0], ZERO

    @device
    def step_backward(
        d,  # [4] in: h; out: derivative by a
        before,
        after,
        dh,
        d_carried,
        w_c,
    ):
        """Undo ``step``; return the derivative by what is carried."""
        slope = (ONE if d[0] > ZERO else ZERO) if relu else ONE - d[0] * d[0]
        d[0] = dh * slope  # 2
        d[1] = d[2] = d[3] = ZERO
        return ZERO

    return step, step_backward
