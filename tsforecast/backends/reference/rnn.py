"""The plain recurrent network (Elman), with tanh or ReLU.

Letters: B rows of a batch, D inputs, H units. Forward, with u = x_t W_x and v = h_{t-1} W_h, both ``[B,H]``::

    1a   a   = u + v + b
    2a   h_t = tanh(a)   or   max(a, 0)

The derivative of ReLU at 0 is 0. Each backward line names the one that it undoes.

References
----------
J. Elman: Finding Structure in Time. Cognitive Science 14(2), 1990.
Q. Le, N. Jaitly, G. Hinton: A Simple Way to Initialize Recurrent Networks of Rectified Linear Units. arXiv
1504.00941, 2015 (ReLU).
"""

from __future__ import annotations

import numpy as np

from tsforecast.backends.reference.activations import Array, tanh_slope
from tsforecast.backends.reference.cell import Params, State


def step(
    relu: bool,
    u: Array,  # [B,H]
    v: Array,  # [B,H]
    state: State,  # h_{t-1}; seen through v only
    p: Params,
) -> tuple[State, Array]:
    """Return ``(h_t,)`` and what ``step_backward`` needs: ``h_t [B,H]``."""
    a = u + v + p["b"]  # 1a
    h = np.maximum(a, 0.0) if relu else np.tanh(a)  # 2a
    return (h,), h


def step_backward(
    relu: bool,
    dstate: State,  # derivative by h_t
    h: Array,  # [B,H]
    p: Params,
    dp: Params,
) -> tuple[Array, Array, State]:
    """Undo ``step``; return ``du``, ``dv`` and the derivative by ``h_{t-1}`` other than through v, which is zero."""
    (dh,) = dstate
    da = dh * (h > 0.0) if relu else dh * tanh_slope(h)  # 2a
    dp["b"] += da.sum(axis=0)  # 1a
    return da, da, (np.zeros_like(dh),)
