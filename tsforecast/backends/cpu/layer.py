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
    """The three passes of a cell's layer; all cells have the signatures of ``lstm``."""

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
def weight_gradient(
    N, P, K, V,
    a, a0, S,  # [N,S] from a0: columns 0..K-1 meet the right side
    gates, g0, g_row,  # [P,N,g_row] from g0: V vectors of each row
    dw, d0, rows,  # [P,rows,V*L] from d0, accumulates
):  # fmt: skip
    """Add a' gates to the gradient of one weight matrix, block of units by block."""
    gradient_of_rows(0, N, N, P, K, V, a, a0, S, gates, g0, g_row, dw, d0, rows)


@inlined
def gradient_of_rows(first, last, N, P, K, V, a, a0, S, gates, g0, g_row, dw, d0, rows):
    """The part of ``weight_gradient`` that the rows ``first..last-1`` add."""
    for k in range(first, last, GRADIENT_BLOCK):
        n = min(GRADIENT_BLOCK, last - k)
        for p in range(P):
            b0 = g0 + (p * N + k) * g_row
            multiply(K, V, n, a, a0 + k * S, 1, S, gates, b0, g_row, dw, d0 + p * rows * V * LANES, V * LANES, 0, True)


@inlined
def to_panels(B, V, rows, panels):
    """Copy a row-major ``[B, V vectors]`` matrix into panels."""
    for v in range(0, V, 4):
        width = min(4, V - v)
        for b in range(B):
            for j in range(width):
                store(panels, (v * B + b * width + j) * LANES, load(rows, (b * V + v + j) * LANES))
