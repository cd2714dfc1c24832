"""One recurrent layer: any cell, run over the steps of a window and back.

Letters: T steps, B rows of a batch, D inputs a step, H units, G gate columns. Forward, for t = 1..T, from the state
s_0, with h the first of the states s::

    1a   u_t = x_t W_x                              [B,G*H]
    1b   v_t = (h_{t-1} * mask) W_h                 [B,G*H]; not for a cell that is not recurrent
    1c   s_t = step(u_t, v_t, s_{t-1})              the cell's own file
    1d   s_t = k_t * s_{t-1} + (1 - k_t) * s_t

mask and k belong to recurrent dropout and zoneout (``noise``); without them there is no line 1d.

Backward, for t = T..1: each line names the one that it undoes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tsforecast.backends.reference.cell import Array, Cell, Params, State
from tsforecast.backends.reference.noise import RunNoise


class Tape(NamedTuple):
    """What the forward pass keeps for the backward pass; index 0 of ``h`` is the initial state."""

    x: Array  # [T,B,D]
    h: Array  # [T+1,B,H]
    kept: list[Any]  # [T] of the cell's own
    last: State  # [B,H] each: the state after the last step
    noise: RunNoise | None


def forward(
    cell: Cell,
    x: Array,  # [T,B,D]
    p: Params,
    initial: State,  # [B,H] each
    noise: RunNoise | None = None,
) -> Tape:
    """Run the cell over all steps; the outputs are ``tape.h[1:]``."""
    state, kept = initial, []
    h = np.empty((len(x) + 1, *initial[0].shape))
    h[0] = initial[0]
    for t in range(len(x)):
        u = x[t] @ p["w_x"]  # 1a
        v = _read(h[t], noise) @ p["w_h"] if "w_h" in p else None  # 1b
        new, keep = cell.step(u, v, state, p)  # 1c
        state = new if noise is None else noise.mix(t, state, new)  # 1d
        h[t + 1] = state[0]
        kept.append(keep)
    return Tape(x, h, kept, state, noise)


def backward(
    cell: Cell,
    dh_out: Array,  # [T,B,H] derivative by h_1..h_T from above (next layer or head)
    tape: Tape,
    p: Params,
    dp: Params,  # accumulated into
    n_states: int,
    dh: Array | None = None,  # [T,B,H] out, where given: the whole derivative by h_1..h_T; may be dh_out
    dlast: State | None = None,  # [B,H] each: derivatives by the state after the last step, from elsewhere
) -> tuple[Array, State]:
    """Undo ``forward``; return ``dx [T,B,D]`` and the derivatives by the initial state, ``[B,H]`` each."""
    x, h, kept, _, noise = tape
    dx = np.empty_like(x)
    dstate = tuple(np.zeros_like(h[0]) for _ in range(n_states)) if dlast is None else dlast
    for t in reversed(range(len(x))):
        dstate = (dstate[0] + dh_out[t], *dstate[1:])
        if dh is not None:
            dh[t] = dstate[0]
        dold: State = ()
        if noise is not None:
            dold, dstate = noise.unmix(t, dstate)  # 1d
        du, dv, dstate = cell.step_backward(dstate, kept[t], p, dp)  # 1c
        if dv is not None:
            dp["w_h"] += _read(h[t], noise).T @ dv  # 1b
            dstate = (dstate[0] + _read(dv @ p["w_h"].T, noise), *dstate[1:])  # 1b
        if noise is not None:
            dstate = tuple(a + b for a, b in zip(dstate, dold, strict=True))  # 1d
        dp["w_x"] += x[t].T @ du  # 1a
        dx[t] = du @ p["w_x"].T  # 1a
    return dx, dstate


def _read(h: Array, noise: RunNoise | None) -> Array:
    """``[B,H]`` what the multiply of line 1b reads of h; also the way of a derivative back through the mask."""
    return h if noise is None else h * noise.recurrent
