"""What all cells share: their kernels as one value, and the multiply for the weight gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tsforecast.backends.cpu.activations import relu
from tsforecast.backends.cpu.jit import inlined
from tsforecast.backends.cpu.lanes import LANES, load, splat, store
from tsforecast.backends.cpu.tile import multiply

GRADIENT_BLOCK = 128  # rows of xh and dz a pass, so that they stay in the first cache; changes no bit


class Kernels(NamedTuple):
    """The three passes of a cell's layer; all cells have the signatures of ``lstm``.

    ``forward`` and ``backward`` run the steps ``first..last-1`` of the T that their buffers are for: one call does all,
    or as many as there are things to do between the steps.
    """

    infer: Callable
    forward: Callable
    backward: Callable


@inlined
def is_zero_state(
    B, D, S,
    xh,  # [.,B,S]
    scratch,  # [L]
):  # fmt: skip
    """Whether what step 1 feeds on is all zero: its products then change no sum, and need not be added."""
    zero = splat(xh, 0)
    total = zero
    for b in range(B):
        for u in range(b * S + D + 1, (b + 1) * S, LANES):
            h = load(xh, u)
            total = total + (relu(h) + relu(zero - h))
    store(scratch, 0, total)
    n_other = 0
    for i in range(LANES):
        n_other += scratch[i] != 0
    return n_other == 0


@inlined
def rows_ready(t, T, B):
    """How many rows, those of step ``t`` first, are to be added to weight gradients now that ``t`` is undone.

    Enough steps for one pass, while their rows are in a cache that is near; until then none.
    """
    steps = (GRADIENT_BLOCK + B - 1) // B
    return (min(T, t + steps) - t) * B if t % steps == 0 else 0


@inlined
def weight_gradient(
    first, n, N, P, K, V,
    a, a0, S,  # [N,S] from a0: columns 0..K-1 meet the right side
    gates, g0, g_row,  # [P,N,g_row] from g0: V vectors of each row
    dw, d0, rows,  # [P,rows,V*L] from d0, accumulates
):  # fmt: skip
    """Add a' gates of the ``n`` rows from ``first`` on to the gradient of one weight matrix, block of units by block.

    The last row comes first, so that no bit depends on how many steps are added at a time.
    """
    for end in range(first + n, first, -GRADIENT_BLOCK):
        k, last = min(GRADIENT_BLOCK, end - first), end - 1
        for p in range(P):
            b0, to = g0 + (p * N + last) * g_row, d0 + p * rows * V * LANES
            multiply(K, V, k, a, a0 + last * S, 1, -S, gates, b0, -g_row, dw, to, V * LANES, 0, True)


@inlined
def to_panels(B, V, rows, panels):
    """Copy a row-major ``[B, V vectors]`` matrix into panels."""
    for v in range(0, V, 4):
        width = min(4, V - v)
        for b in range(B):
            for j in range(width):
                store(panels, (v * B + b * width + j) * LANES, load(rows, (b * V + v + j) * LANES))
