"""One run: a cell over the steps of a window in one direction, with a dilation and a state to start from.

Letters: T steps, B rows, D inputs, H units, d the dilation. With x the inputs in the order of time::

    1a   x'  = x, or its steps in reverse
    1b   h'  = layer(x'_j, x'_{j+d}, x'_{j+2d}, ...)  for every j = 0..d-1 by itself, from the state s_0
    1c   h   = h', or its steps in reverse

s_0 is zero, or the learned vectors ``h_0`` and ``c_0`` for every row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tsforecast.backends.reference import layer
from tsforecast.backends.reference.cell import Array, Params, State
from tsforecast.backends.reference.cells import CELLS
from tsforecast.backends.reference.noise import RunNoise
from tsforecast.cells import CELLS as CELL_SPECS
from tsforecast.topology import Run


class Tape(NamedTuple):
    """What the backward pass needs, and what others read."""

    h: Array  # [T,B,H] hidden states in the order of time
    parts: list[layer.Tape]  # for every j of line 1b

    def last(self, run: Run) -> Array:
        """``[B,H]`` the state that the run ends with."""
        return self.h[0 if run.reverse else -1]

    def last_state(self) -> State:
        """``[B,H]`` each, the state after the last step, all its parts."""
        return self.parts[(len(self.h) - 1) % len(self.parts)].last

    def kept(self, run: Run) -> list:
        """``[T]`` what the cell kept of every step, in the order of time."""
        d = len(self.parts)
        steps = [self.parts[t % d].kept[t // d] for t in range(len(self.h))]
        return steps[::-1] if run.reverse else steps


def forward(
    cell: str,
    run: Run,
    x: Array,  # [T,B,D]
    p: Params,
    noise: RunNoise | None = None,
    given: State | None = None,  # [B,H] each: where to start instead of s_0
) -> Tape:
    """Go over all steps."""
    turned = x[::-1] if run.reverse else x  # 1a
    h = np.empty((*x.shape[:2], run.units))
    start = given or tuple(
        np.broadcast_to(p.get(f"{state}_0", np.zeros(run.units)), h.shape[1:]) for state in CELL_SPECS[cell].states
    )
    parts = []
    for j in range(run.dilation):
        here = slice(j, None, run.dilation)
        parts.append(
            layer.forward(CELLS[cell], turned[here], p, start, None if noise is None else noise.of_steps(here))
        )  # 1b
        h[here] = parts[-1].h[1:]
    return Tape(h[::-1] if run.reverse else h, parts)  # 1c


def backward(
    cell: str,
    run: Run,
    dh: Array,  # [T,B,H] in: derivative by every hidden state from above; out: also through the later steps
    tape: Tape,
    p: Params,
    dp: Params,  # accumulated into
    dlast: State | None = None,  # [B,H] each: derivatives by the state after the last step, beside those in dh
    first: int = 0,  # step at which the way back ends, its state before taken as given; above 0: forward, dilation 1
) -> Array:
    """Undo ``forward``; return ``dx [T,B,D]``."""
    turned = dh[::-1] if run.reverse else dh  # 1c
    dx = np.zeros((*dh.shape[:2], run.inputs))
    states = CELL_SPECS[cell].states
    for j, part in enumerate(tape.parts):
        here = slice(first + j, None, run.dilation)
        from_above = turned[here]
        noise = None if part.noise is None else part.noise.of_steps(slice(first, None))
        part = layer.Tape(part.x[first:], part.h[first:], part.kept[first:], part.last, noise)
        own = dlast if j == (len(dh) - 1) % run.dilation else None
        dx[here], dstart = layer.backward(CELLS[cell], from_above, part, p, dp, len(states), from_above, own)  # 1b
        for state, derivative in zip(states, dstart, strict=True):
            if f"{state}_0" in p:
                dp[f"{state}_0"] += derivative.sum(axis=0)
    return dx[::-1] if run.reverse else dx  # 1a


def params_of(views: Params, name: str) -> Params:
    """Blocks whose names begin with ``name`` (of a run, or of the attention), by their short names, as views."""
    n = len(name)
    return {full[n:]: view for full, view in views.items() if full.startswith(name) and "." not in full[n:]}
